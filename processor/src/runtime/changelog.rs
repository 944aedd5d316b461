//! Reading an app's changelog: where it ends, and what is committed in it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use millrace_core::Source;
use millrace_service::{KafkaArgs, Shutdown};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::restart::SessionError;
use crate::store::Log;

/// How long a broker may take to answer.
const CALL: Duration = Duration::from_secs(10);
/// Between two questions to a broker that does not lead the partition.
const AGAIN: Duration = Duration::from_millis(50);
/// How long brokers may disagree about how many partitions there are.
const HEARD: Duration = Duration::from_secs(2);
/// How long the changelog may stand still, with a transaction of a former owner open.
const STABLE: Duration = Duration::from_secs(60);

/// Where topics end, by partition.
pub type Ends = BTreeMap<String, Vec<i64>>;

/// A committed record of a topic.
#[derive(Debug, Clone, Copy)]
pub struct Logged<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was written, epoch ms.
    pub at_ms: Option<i64>,
    /// Its key; empty without one.
    pub key: &'a [u8],
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// A partition, and what is to be read of it: from an offset, to the one before another.
pub type Span = (i32, i64, i64);

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
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let places = self.places(&topics)?;
        newest(&self.committed, places.iter().copied())?;
        newest(&self.uncommitted, places.iter().copied())?;
        Ok(())
    }

    /// How many partitions topics have, in their order; 0 for one that is not there.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn partitions(&self, topics: &[&str]) -> Result<Vec<i32>, SessionError> {
        let metadata = patiently(&self.committed, || Ok(self.committed.fetch_metadata(None, CALL)?))?;
        let count = |topic: &&str| {
            let found = metadata.topics().iter().find(|found| found.name() == *topic);
            found.map_or(0, |found| i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))
        };
        Ok(topics.iter().map(count).collect())
    }

    /// All partitions of topics.
    fn places<'t>(&self, topics: &[&'t str]) -> Result<Vec<(&'t str, i32)>, SessionError> {
        let counts = self.partitions(topics)?;
        Ok(topics.iter().zip(counts).flat_map(|(&topic, of)| (0..of).map(move |p| (topic, p))).collect())
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

    /// How many partitions the `sources` of its app have, and at least as many has the changelog; or, what is wrong.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn partitions(&self, sources: &[Source]) -> Result<Result<i32, String>, SessionError> {
        let mut topics: Vec<&str> = sources.iter().map(|source| source.topic).collect();
        topics.push(&self.topic);
        let began = Instant::now();
        loop {
            let counts = self.clients.partitions(&topics)?;
            if let Some((changelog, of_sources)) = counts.split_last()
                && let Some(first) = of_sources.first()
                && of_sources.iter().all(|count| count == first)
                && first <= changelog
            {
                return Ok(Ok(*first));
            }
            // A broker hears of new partitions a moment after another one.
            if began.elapsed() > HEARD || self.shutdown.requested() {
                let have: Vec<String> =
                    topics.iter().zip(counts).map(|(topic, count)| format!("{topic} {count}")).collect();
                return Ok(Err(format!(
                    "its topics have different numbers of partitions ({}): either `millrace rescale` was interrupted: run it \
                     again; or partitions were added without it: give all of these topics as many",
                    have.join(", ")
                )));
            }
            drop(self.clients.committed.poll(AGAIN));
        }
    }

    /// The ends of partitions, once no transaction is open in them: a former owner's last one counts if it was committed,
    /// and only its markers in the log tell.
    ///
    /// # Errors
    /// Kafka does not answer, or a transaction stays open.
    pub fn stable_ends(&self, partitions: &[i32]) -> Result<Vec<i64>, SessionError> {
        self.stable_ends_of(&self.topic, partitions)
    }

    /// The same of another topic.
    ///
    /// # Errors
    /// As [`stable_ends`](Self::stable_ends).
    pub fn stable_ends_of(&self, topic: &str, partitions: &[i32]) -> Result<Vec<i64>, SessionError> {
        let started = Instant::now();
        let places = partitions.iter().map(|&partition| (topic, partition));
        let ends = newest(&self.clients.uncommitted, places.clone())?;
        loop {
            let stable = newest(&self.clients.committed, places.clone())?;
            let mut open = places.clone().zip(&stable).zip(&ends).filter(|((_, stable), end)| stable < end);
            let Some((((topic, partition), stable), end)) = open.next() else { return Ok(ends) };
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
        let places = self.clients.places(&topics)?;
        let ends = |consumer: &BaseConsumer| {
            let mut ends = Ends::new();
            for ((topic, _), end) in places.iter().zip(newest(consumer, places.iter().copied())?) {
                ends.entry((*topic).to_owned()).or_default().push(end);
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

    /// Hands what is committed of partitions to `take`, of all at once, each in its order.
    ///
    /// # Errors
    /// Kafka does not answer; or what `take` says.
    pub fn read(
        &self,
        spans: &[Span],
        take: impl FnMut(Logged<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        self.read_of(&self.topic, spans, take)
    }

    /// The same of another topic.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_of(
        &self,
        topic: &str,
        spans: &[Span],
        take: impl FnMut(Logged<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let read = self.read_until_end(topic, spans, take);
        self.clients.committed.unassign()?;
        // An end that is told late must not be taken for one of the next topic, whose partitions have the same numbers.
        while self.clients.committed.poll(Duration::ZERO).is_some() {}
        read
    }

    fn read_until_end(
        &self,
        topic: &str,
        spans: &[Span],
        mut take: impl FnMut(Logged<'_>) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        let mut left: BTreeMap<i32, i64> = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for &(partition, from, to) in spans.iter().filter(|(_, from, to)| from < to) {
            left.insert(partition, to);
            assignment.add_partition_offset(topic, partition, Offset::Offset(from))?;
        }
        if left.is_empty() {
            return Ok(());
        }
        self.clients.committed.assign(&assignment)?;
        let mut heard = Instant::now();
        while !left.is_empty() {
            match self.clients.committed.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    match left.get(&partition) {
                        Some(to) if offset < *to => {
                            heard = Instant::now();
                            let at_ms = message.timestamp().to_millis();
                            let (key, value) = (message.key().unwrap_or_default(), message.payload());
                            take(Logged { partition, offset, at_ms, key, value })?;
                        }
                        Some(_) => drop(left.remove(&partition)),
                        None => {}
                    }
                }
                // The last records may be markers, which are not handed out.
                Some(Err(KafkaError::PartitionEOF(at))) => drop(left.remove(&at)),
                Some(Err(error)) => tracing::warn!(%error, topic, "reading failed, trying again"),
                None => {}
            }
            if heard.elapsed() > STABLE || self.shutdown.requested() {
                let partitions: Vec<_> = left.keys().collect();
                return Err(SessionError::Kafka(anyhow!("{topic}/{partitions:?} can't be read")));
            }
        }
        Ok(())
    }

    /// First and next offset of another topic.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn bounds_of(&self, topic: &str, partition: i32) -> Result<(i64, i64), SessionError> {
        let client = &self.clients.committed;
        patiently(client, || Ok(client.fetch_watermarks(topic, partition, CALL)?))
    }
}

/// The ends of partitions as `consumer` sees them, in the order of `places`.
fn newest<'t>(
    consumer: &BaseConsumer,
    places: impl Iterator<Item = (&'t str, i32)> + Clone,
) -> Result<Vec<i64>, SessionError> {
    let mut list = TopicPartitionList::new();
    let places: Vec<_> = places.collect();
    for &(topic, partition) in &places {
        // As a time, this is the newest: one request to each broker, for all of its partitions.
        list.add_partition_offset(topic, partition, Offset::End)?;
    }
    patiently(consumer, || {
        let found = consumer.offsets_for_times(list.clone(), CALL)?;
        places
            .iter()
            .map(|&(topic, partition)| match found.find_partition(topic, partition).map(|e| e.offset()) {
                Some(Offset::Offset(offset)) => Ok(offset),
                other => Err(SessionError::Kafka(anyhow!("{topic}/{partition} ends at {other:?}"))),
            })
            .collect()
    })
}

/// Asks until it is answered, while a leader moves, or has just been chosen. A client that does not consume keeps the leaders
/// that it once learnt until it is told.
fn patiently<T>(
    consumer: &BaseConsumer,
    ask: impl Fn() -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(error) if began.elapsed() < CALL => {
                tracing::debug!(%error, "asking again");
                drop(consumer.poll(AGAIN));
                let _ = consumer.fetch_metadata(None, CALL.saturating_sub(began.elapsed()).max(AGAIN));
            }
            answer => return answer,
        }
    }
}
