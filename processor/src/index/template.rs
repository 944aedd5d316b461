use millrace_service::ElasticsearchArgs;
use millrace_wire::topic;
use serde_json::{Value, json};

/// Names and bodies of the index templates: one per result topic.
///
/// Text is `keyword`, because results are filtered and grouped, not searched by word; times are epoch milliseconds.
pub fn templates(elasticsearch: &ElasticsearchArgs) -> Vec<(String, Value)> {
    topic::results()
        .into_iter()
        .map(|topic| {
            let index = elasticsearch.index(&topic);
            let body = json!({
                "index_patterns": [index],
                "priority": 200,
                "template": {
                    // One node: a replica would have nowhere to go.
                    "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "1s"},
                    "mappings": {
                        "dynamic_templates": [{"text": {
                            "match_mapping_type": "string",
                            "mapping": {"type": "keyword", "ignore_above": 1024}
                        }}],
                        "properties": properties(&topic),
                    }
                }
            });
            (index, body)
        })
        .collect()
}

fn properties(topic: &str) -> Value {
    let (keyword, millis, double) = (
        json!({"type": "keyword"}),
        json!({"type": "date", "format": "epoch_millis"}),
        json!({"type": "double"}),
    );
    let kafka = json!({"properties": {
        "topic": keyword, "partition": {"type": "integer"}, "offset": {"type": "long"}
    }});
    match topic {
        topic::SENSOR_AVERAGES => json!({
            "sensorId": keyword, "location": keyword, "window_start": millis, "window_end": millis,
            "average": double, "min": double, "max": double, "count": {"type": "long"}, "kafka": kafka,
        }),
        _ => json!({
            "id": keyword, "type": keyword, "severity": keyword, "status": keyword, "key": keyword, "sensorId": keyword,
            "location": keyword, "value": double, "readingTimestamp": millis, "timestamp": millis,
            "message": {"type": "keyword", "index": false, "doc_values": false},
            "sensor": {"properties": {"sensorId": keyword, "location": keyword, "calibration": double}},
            "evidence": {"properties": {
                "topic": keyword, "partition": {"type": "integer"}, "offset": {"type": "long"}
            }},
            "kafka": kafka,
        }),
    }
}
