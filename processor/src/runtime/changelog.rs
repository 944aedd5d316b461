//! Reading an app's changelog: where it ends, and what is committed in it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use millrace_service::{KafkaArgs, Shutdown};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::restart::SessionError;
use crate::store::Log;

/// How long a broker may take to answer.
const CALL: Duration = Duration::from_secs(10);
/// How long the changelog may stand still, with a transaction of a former owner open.
const STABLE: Duration = Duration::from_secs(60);

/// Where topics end, by partition.
pub type Ends = BTreeMap<String, Vec<i64>>;

/// What was read of a partition.
#[derive(Debug, Clone, Copy, Default)]
pub struct Read {
    /// Number of records.
    pub records: u64,
    /// When the newest of them was written, epoch ms.
    pub newest_ms: Option<i64>,
}

/// Clients that read changelogs. Each connects to every broker, so apps share them.
pub struct Clients {
    /// Reads what is committed, and says where it ends.
    committed: BaseConsumer,
    /// Says where the log ends, open transactions included.
    uncommitted: BaseConsumer,
}

impl Clients {
    /// `client` is the clients' id.
    ///
    /// # Errors
    /// They can't be made.
    pub fn new(kafka: &KafkaArgs, client: &str) -> Result<Self, SessionError> {
        let consumer = |isolation: &str| {
            kafka
                .consumer(client, client, isolation)
                .set("enable.partition.eof", "true")
                // The end of a changelog is known when a fetch has waited so long for more: once per task.
                .set("fetch.wait.max.ms", "10")
                .create()
                .context("the consumer of the changelog can't be made")
                .map_err(SessionError::Kafka)
        };
        Ok(Self { committed: consumer("read_committed")?, uncommitted: consumer("read_uncommitted")? })
    }

    /// Connects to the brokers that lead the partitions of `topics`.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn connect(&self, topics: &[String]) -> Result<(), SessionError> {
        let places =
            || topics.iter().flat_map(|topic| (0..topic::PARTITIONS).map(move |p| (topic.as_str(), p)));
        newest(&self.committed, places())?;
        newest(&self.uncommitted, places())?;
        Ok(())
    }

    /// Asks who leads which partition. A client that does not consume keeps leaders that it once learnt until it is told.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn refresh(&self) -> Result<(), SessionError> {
        self.committed.fetch_metadata(None, CALL)?;
        self.uncommitted.fetch_metadata(None, CALL)?;
        Ok(())
    }
}

/// An app's changelog.
pub struct Changelog {
    topic: String,
    clients: Rc<Clients>,
    shutdown: Shutdown,
}

impl Changelog {
    /// Of an app.
    pub fn new(clients: Rc<Clients>, app: &str, shutdown: &Shutdown) -> Self {
        Self { topic: topic::changelog(app), clients, shutdown: shutdown.clone() }
    }

    /// The end of a partition, once no transaction is open in it: a former owner's last one counts if it was
    /// committed, and only its markers in the log tell.
    ///
    /// # Errors
    /// Kafka does not answer, or a transaction stays open.
    pub fn stable_end(&self, partition: i32) -> Result<i64, SessionError> {
        self.stable_end_of(&self.topic, partition)
    }

    /// The same of another topic.
    ///
    /// # Errors
    /// As [`stable_end`](Self::stable_end).
    pub fn stable_end_of(&self, topic: &str, partition: i32) -> Result<i64, SessionError> {
        let started = Instant::now();
        let (_, end) = self.clients.uncommitted.fetch_watermarks(topic, partition, CALL)?;
        loop {
            let (_, stable) = self.clients.committed.fetch_watermarks(topic, partition, CALL)?;
            if stable >= end {
                return Ok(end);
            }
            if started.elapsed() > STABLE || self.shutdown.requested() {
                return Err(SessionError::Kafka(anyhow!(
                    "{topic}/{partition} has had a transaction open for {:.0} s (offsets {stable} to {end})",
                    started.elapsed().as_secs_f64()
                )));
            }
            // Waiting for the coordinator's markers; the poll also serves the client.
            self.clients.committed.poll(Duration::from_millis(10));
        }
    }

    /// A partition that ends at `end`, and where it is from.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn log(&self, partition: i32, end: i64) -> Result<Log, SessionError> {
        let (start, _) = self.bounds_of(&self.topic, partition)?;
        let cluster = self.clients.committed.client().fetch_cluster_id(CALL);
        let cluster =
            cluster.context("Kafka does not say which cluster it is").map_err(SessionError::Kafka)?;
        Ok(Log { cluster, start, end })
    }

    /// Where the partitions of the changelog, and of the topics `beside` it, ended at one moment, if no transaction was
    /// open in any of them then: read twice, with what is committed in between; when all three agree, nothing has moved.
    /// Otherwise how far each is committed.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn ends(&self, beside: &[&str]) -> Result<Result<Ends, Ends>, SessionError> {
        let topics: Vec<&str> = std::iter::once(self.topic.as_str()).chain(beside.iter().copied()).collect();
        let places = || topics.iter().flat_map(|topic| (0..topic::PARTITIONS).map(move |p| (*topic, p)));
        let ends = |consumer: &BaseConsumer| {
            let mut ends = Ends::new();
            for ((topic, _), end) in places().zip(newest(consumer, places())?) {
                ends.entry(topic.to_owned()).or_default().push(end);
            }
            Ok::<_, SessionError>(ends)
        };
        let (before, committed, after) = (
            ends(&self.clients.uncommitted)?,
            ends(&self.clients.committed)?,
            ends(&self.clients.uncommitted)?,
        );
        Ok(if before == committed && committed == after { Ok(committed) } else { Err(committed) })
    }

    /// How far partitions of other topics are committed, in the order of `places`.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn committed_ends<'t>(
        &self,
        places: impl Iterator<Item = (&'t str, i32)> + Clone,
    ) -> Result<Vec<i64>, SessionError> {
        newest(&self.clients.committed, places)
    }

    /// Hands what is committed of a partition between two offsets to `record`, with its offset.
    ///
    /// # Errors
    /// Kafka does not answer; or what `record` says.
    pub fn read(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        record: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), SessionError>,
    ) -> Result<Read, SessionError> {
        self.read_of(&self.topic, partition, (from, to), record)
    }

    /// The same of another topic.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_of(
        &self,
        topic: &str,
        partition: i32,
        (from, to): (i64, i64),
        mut record: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), SessionError>,
    ) -> Result<Read, SessionError> {
        let mut read = Read::default();
        if from >= to {
            return Ok(read);
        }
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Offset(from))?;
        self.clients.committed.assign(&assignment)?;
        let mut heard = Instant::now();
        loop {
            match self.clients.committed.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    if message.offset() >= to {
                        break;
                    }
                    heard = Instant::now();
                    read.records += 1;
                    read.newest_ms = read.newest_ms.max(message.timestamp().to_millis());
                    record(message.offset(), message.key().unwrap_or_default(), message.payload())?;
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => break,
                // Of a partition read before.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => tracing::warn!(%error, topic, "reading failed, trying again"),
                None => {}
            }
            if heard.elapsed() > STABLE || self.shutdown.requested() {
                return Err(SessionError::Kafka(anyhow!("{topic}/{partition} can't be read")));
            }
        }
        self.clients.committed.unassign()?;
        Ok(read)
    }

    /// First and next offset of another topic.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn bounds_of(&self, topic: &str, partition: i32) -> Result<(i64, i64), SessionError> {
        Ok(self.clients.committed.fetch_watermarks(topic, partition, CALL)?)
    }
}

/// The ends of partitions as `consumer` sees them, in the order of `places`.
fn newest<'t>(
    consumer: &BaseConsumer,
    places: impl Iterator<Item = (&'t str, i32)> + Clone,
) -> Result<Vec<i64>, SessionError> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places.clone() {
        // As a time, this is the newest: one request to each broker, for all of its partitions.
        list.add_partition_offset(topic, partition, Offset::End)?;
    }
    let found = consumer.offsets_for_times(list, CALL)?;
    places
        .map(|(topic, partition)| match found.find_partition(topic, partition).map(|e| e.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            other => Err(SessionError::Kafka(anyhow!("{topic}/{partition} ends at {other:?}"))),
        })
        .collect()
}
