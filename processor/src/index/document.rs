use millrace_service::ElasticsearchArgs;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;
use serde_json::{Map, Value, json};

/// A result record on its way into an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Index.
    pub index: String,
    /// `<topic>-<partition>-<offset>`.
    pub id: String,
    /// The record's JSON object, with `kafka: {topic, partition, offset}` added.
    pub source: Map<String, Value>,
    /// Where it is from.
    pub origin: Origin,
}

/// A record of a result topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
}

impl Origin {
    /// Of a message.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        }
    }
}

impl Document {
    /// # Errors
    /// The record is no JSON object: returned with what is wrong.
    pub fn new(origin: Origin, elasticsearch: &ElasticsearchArgs) -> Result<Self, (Origin, String)> {
        match serde_json::from_slice::<Map<String, Value>>(origin.value.as_deref().unwrap_or_default()) {
            Ok(mut source) => {
                let Origin { topic, partition, offset, .. } = &origin;
                source.insert(
                    "kafka".to_owned(),
                    json!({"topic": topic, "partition": partition, "offset": offset}),
                );
                let id = format!("{topic}-{partition}-{offset}");
                Ok(Self { index: elasticsearch.index(topic), id, source, origin })
            }
            Err(error) => Err((origin, format!("not a JSON object: {error}"))),
        }
    }
}
