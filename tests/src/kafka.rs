use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Headers;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList};

use crate::eventually;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A foreign Kafka client: it knows nothing but `librdkafka.properties`.
pub struct Kafka {
    config: ClientConfig,
    queries: BaseConsumer,
}

/// A record read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// When it was created, epoch ms.
    pub created_ms: i64,
    /// Key; empty if there is none.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// Headers as text.
    pub headers: BTreeMap<String, String>,
}

/// A record to write.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Vec<u8>,
    /// Partition, if not the key's.
    pub partition: Option<i32>,
}

struct MustArrive;

impl ClientContext for MustArrive {}

impl ProducerContext for MustArrive {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("a record was not delivered: {error}");
        }
    }
}

impl Kafka {
    /// From the lines of `librdkafka.properties`.
    pub fn new(properties: &str) -> Self {
        let mut config = ClientConfig::new();
        for (key, value) in properties.lines().filter_map(|line| line.split_once('=')) {
            config.set(key.trim(), value.trim());
        }
        let queries = Self::consumer_of(&config, "millrace-tests");
        Self { config, queries }
    }

    /// The client's settings.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// An administrator.
    pub fn admin(&self) -> rdkafka::admin::AdminClient<DefaultClientContext> {
        self.config.create().unwrap()
    }

    fn consumer_of(config: &ClientConfig, group: &str) -> BaseConsumer {
        config
            .clone()
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "5")
            .create()
            .unwrap()
    }

    /// Brokers that answer, and partitions with their number of replicas and in-sync replicas per topic.
    pub fn layout(&self) -> (usize, BTreeMap<String, Vec<(usize, usize)>>) {
        let metadata = self.queries.fetch_metadata(None, TIMEOUT).unwrap();
        let topics = metadata.topics().iter().map(|topic| {
            let partitions = topic.partitions().iter().map(|p| (p.replicas().len(), p.isr().len())).collect();
            (topic.name().to_owned(), partitions)
        });
        (metadata.brokers().len(), topics.collect())
    }

    /// End offset of each partition, as a reader of committed records sees it.
    pub fn ends(&self, topic: &str) -> Vec<i64> {
        let partitions = self.layout().1.get(topic).map_or(0, Vec::len);
        // A leader that has just gone back to its broker is an error once: asking again finds it.
        let end = |p| {
            eventually(&format!("the end of {topic}/{p}"), TIMEOUT, || {
                let ends = self.queries.fetch_watermarks(topic, p, TIMEOUT);
                ends.map(|(_, end)| end).map_err(|error| error.to_string())
            })
        };
        (0..i32::try_from(partitions).unwrap()).map(end).collect()
    }

    /// Committed records from these offsets to the end as it is now.
    pub fn read(&self, topic: &str, from: &[i64]) -> Vec<Message> {
        // Some topics grow all the time: what comes later does not count.
        let ends = self.ends(topic);
        let consumer = Self::consumer_of(&self.config, "millrace-tests-reader");
        let mut assignment = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(from) {
            assignment.add_partition_offset(topic, partition, Offset::Offset(*offset)).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let (mut messages, mut ended) = (Vec::new(), BTreeSet::new());
        let started = Instant::now();
        while ended.len() < from.len() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "{topic} can't be read to its end: {ended:?}"
            );
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    if message.offset() + 1 >= ends[usize::try_from(message.partition()).unwrap()] {
                        ended.insert(message.partition());
                    }
                    let headers = message.headers().map(|headers| {
                        let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
                        headers
                            .iter()
                            .map(|h| (h.key.to_owned(), h.value.map(text).unwrap_or_default()))
                            .collect()
                    });
                    messages.push(Message {
                        partition: message.partition(),
                        offset: message.offset(),
                        created_ms: message.timestamp().to_millis().unwrap_or_default(),
                        key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                        value: message.payload().unwrap_or_default().to_vec(),
                        headers: headers.unwrap_or_default(),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                // A leader that is being replaced; the deadline decides.
                Some(Err(_)) | None => {}
            }
        }
        messages
    }

    /// Committed offsets of a group.
    pub fn committed(&self, group: &str, topic: &str, partitions: usize) -> Vec<i64> {
        let consumer = Self::consumer_of(&self.config, group);
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).unwrap() {
            list.add_partition(topic, partition);
        }
        let committed = consumer.committed_offsets(list, TIMEOUT).unwrap();
        committed
            .elements()
            .iter()
            .map(|e| if let Offset::Offset(offset) = e.offset() { offset } else { 0 })
            .collect()
    }

    /// Records that a group has not committed.
    pub fn lag(&self, group: &str, topic: &str) -> i64 {
        let ends = self.ends(topic);
        let committed = self.committed(group, topic, ends.len());
        ends.iter().zip(committed).map(|(end, committed)| (end - committed).max(0)).sum()
    }

    /// Writes records and returns when Kafka has all of them.
    pub fn write(&self, topic: &str, records: &[Outgoing]) {
        let producer: BaseProducer<MustArrive> = self
            .config
            .clone()
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "2")
            .create_with_context(MustArrive)
            .unwrap();
        for outgoing in records {
            let mut record = BaseRecord::to(topic).key(&outgoing.key).payload(&outgoing.value);
            if let Some(partition) = outgoing.partition {
                record = record.partition(partition);
            }
            while let Err((error, unsent)) = producer.send(record) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                record = unsent;
                producer.poll(Duration::from_millis(5));
            }
        }
        let started = Instant::now();
        while producer.in_flight_count() > 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "records could not be written to {topic}");
            producer.poll(Duration::from_millis(2));
        }
    }
}
