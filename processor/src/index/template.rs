use millrace_service::ElasticsearchArgs;
use millrace_wire::topic;
use serde_json::{Value, json};

/// Fields that say when: epoch milliseconds, in some results ISO 8601.
const TIMES: [&str; 7] = [
    "firstTimestamp",
    "lastTimestamp",
    "readingTimestamp",
    "secondTimestamp",
    "timestamp",
    "window_end",
    "window_start",
];

/// Documents are found at the latest so long after they were written.
const REFRESH: &str = "5s";

/// Names and bodies of the index templates: one per result topic. A field means the same in every result, so all have the
/// same mappings.
///
/// Text is `keyword`, because results are filtered and grouped, not searched by word; times are dates; a number with a
/// point, as a job writes every `f64`, is `double`, any other `long`.
pub fn templates(elasticsearch: &ElasticsearchArgs) -> Vec<(String, Value)> {
    let mappings = mappings();
    let template = |topic: String| {
        let index = elasticsearch.index(&topic);
        let body = json!({
            "index_patterns": [index],
            "priority": 200,
            "template": {
                // One node: a replica would have nowhere to go. A refresh of each index every second, Elasticsearch's
                // default, takes two thirds of the processor time that it needs in all.
                "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": REFRESH},
                "mappings": mappings,
            }
        });
        (index, body)
    };
    topic::results().into_iter().map(template).collect()
}

fn mappings() -> Value {
    let time = json!({"type": "date", "format": "epoch_millis||strict_date_optional_time"});
    let mut properties: serde_json::Map<String, Value> =
        TIMES.into_iter().map(|name| (name.to_owned(), time.clone())).collect();
    properties.insert("message".to_owned(), json!({"type": "keyword", "index": false, "doc_values": false}));
    // A number or text, as it came.
    properties.insert("account".to_owned(), json!({"type": "keyword"}));
    json!({
        "dynamic_templates": [
            {"text": {
                "match_mapping_type": "string",
                "mapping": {"type": "keyword", "ignore_above": 1024}
            }},
            {"numbers": {"match_mapping_type": "double", "mapping": {"type": "double"}}},
        ],
        // Text that looks like a time in another field stays text.
        "date_detection": false,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_results_are_searched_by_is_mapped() {
        let mappings = mappings();
        for topic in topic::results() {
            let time = &mappings["properties"][topic::time_field(&topic)];
            assert_eq!(time["type"], "date", "{topic}");
        }
        assert_eq!(mappings["properties"]["account"]["type"], "keyword");
    }
}
