//! The committed records of a topic, as any reader of Kafka sees them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// One question to a broker.
const CALL: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A record.
#[derive(Debug)]
pub struct Found {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// When it was created, epoch ms.
    pub created_ms: Option<i64>,
    /// Value.
    pub value: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Found {
    /// A header, of side outputs.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A consumer of committed records that tells where partitions end.
///
/// # Errors
/// It can't be made from these settings.
pub fn consumer(config: &ClientConfig, group: &str) -> KafkaResult<BaseConsumer> {
    let mut config = config.clone();
    config
        .set("group.id", group)
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    config.create()
}

/// Where a topic ends for a reader of committed records. Asks again while a leader is away.
///
/// # Errors
/// A leader is away for longer than `patience`.
pub fn ends(config: &ClientConfig, topic: &str, patience: Duration) -> Result<Vec<i64>> {
    ends_by(&consumer(config, "millrace-records")?, topic, patience)
}

/// The same, with a client of [`consumer`] that is connected already.
///
/// # Errors
/// As [`ends`].
pub fn ends_by(consumer: &BaseConsumer, topic: &str, patience: Duration) -> Result<Vec<i64>> {
    let deadline = Instant::now() + patience;
    let end = |partition| loop {
        match consumer.fetch_watermarks(topic, partition, CALL) {
            Ok((_, end)) => return Ok(end),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {
                drop(consumer.poll(LOOK));
                // A client that does not consume keeps the leaders that it once learnt, also if there was none.
                let _ = consumer.fetch_metadata(Some(topic), CALL);
            }
        }
    };
    let partitions = loop {
        let found = consumer.fetch_metadata(Some(topic), CALL).map(|all| {
            let topics = all.topics().iter().filter(|found| found.name() == topic);
            topics.map(|found| found.partitions().len()).sum::<usize>()
        });
        match found {
            Ok(partitions) if partitions > 0 => break i32::try_from(partitions)?,
            Ok(_) if Instant::now() > deadline => bail!("there is no topic {topic}"),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("the partitions of {topic} are not known"));
            }
            _ => drop(consumer.poll(LOOK)),
        }
    };
    (0..partitions).map(|partition| end(partition).context("a topic has no end")).collect()
}

/// Hands the committed records between two offsets of each partition to `record`, in order of each partition.
///
/// # Errors
/// They can't be read within `patience`.
pub fn read(
    config: &ClientConfig,
    topic: &str,
    (from, to): (&[i64], &[i64]),
    patience: Duration,
    mut record: impl FnMut(Found),
) -> Result<()> {
    let consumer = consumer(config, "millrace-records")?;
    let mut assignment = TopicPartitionList::new();
    let mut open = Vec::new();
    for ((partition, from), to) in (0..).zip(from).zip(to) {
        if to > from {
            assignment.add_partition_offset(topic, partition, Offset::Offset(*from))?;
            open.push((partition, *to));
        }
    }
    consumer.assign(&assignment)?;
    let mut deadline = Instant::now() + patience;
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                deadline = Instant::now() + patience;
                let (partition, offset) = (message.partition(), message.offset());
                let Some(to) = open.iter().find(|(p, _)| *p == partition).map(|(_, to)| *to) else {
                    continue;
                };
                if offset + 1 >= to {
                    open.retain(|(p, _)| *p != partition);
                }
                if offset >= to {
                    continue;
                }
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = message.headers().map(|headers| {
                    headers.iter().map(|h| (h.key.to_owned(), text(h.value.unwrap_or_default()))).collect()
                });
                record(Found {
                    partition,
                    offset,
                    created_ms: message.timestamp().to_millis(),
                    value: message.payload().unwrap_or_default().to_vec(),
                    headers: headers.unwrap_or_default(),
                });
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|(p, _)| *p != partition),
            // A leader that is being replaced; the deadline decides.
            Some(Err(_)) | None if Instant::now() < deadline => {}
            Some(Err(error)) => return Err(error).with_context(|| format!("{topic} can't be read")),
            None => bail!("{topic} can't be read to its end"),
        }
    }
    Ok(())
}
