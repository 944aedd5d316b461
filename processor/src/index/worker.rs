use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millrace_service::{Shutdown, clock, http, log, telemetry};
use millrace_wire::result::header;
use millrace_wire::telemetry::Body;
use millrace_wire::topic;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::bulk::{Bulk, Verdict};
use super::document::{Document, Origin};
use super::status::Status;
use crate::config::IndexArgs;
use crate::runtime::{Assignment, Change, Membership};

/// Waits between tries while Elasticsearch is away.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LARGEST_WAIT: Duration = Duration::from_secs(2);

/// Runs until asked to stop.
///
/// # Errors
/// The configuration is wrong, or an address is in use.
pub fn run(args: IndexArgs) -> anyhow::Result<()> {
    log::init(&args.service)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let shutdown = runtime.block_on(async { Shutdown::on_signals() })?;
    let status = Arc::new(Status::default());
    runtime.block_on(http::serve(args.service.http_addr, status.clone(), shutdown.clone()))?;
    let component = args.service.component.clone().unwrap_or_else(|| "indexer".to_owned());
    let publisher = telemetry::Publisher::new(&args.kafka, &component)?;
    let (stop, told) = (shutdown.clone(), status.clone());
    runtime.spawn(async move {
        let mut tick = telemetry::ticks();
        while !stop.requested() {
            tick.tick().await;
            publisher.publish(Body::Indexer(told.get()), Vec::new());
        }
    });
    let consumer = args
        .kafka
        .consumer(&component, topic::INDEXER_GROUP, "read_committed")
        .set("group.instance.id", &component)
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "10000")
        .set("auto.offset.reset", "earliest")
        .set("queued.max.messages.kbytes", "16384")
        .create_with_context(Assignment::default())
        .context("the consumer can't be made")?;
    let consumer = Membership::new(consumer);
    let topics = topic::results();
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    let dead = args.kafka.producer(&component).create().context("the dead-letter producer can't be made")?;
    let bulk = Bulk::new(&args.elasticsearch)?;
    IndexWorker { args, consumer, dead, bulk, status, shutdown, batch: Batch::default(), runtime }.work()
}

/// What has been read and is not committed yet.
#[derive(Default)]
struct Batch {
    documents: Vec<Document>,
    /// Refused for good, with the reason.
    refused: Vec<(Origin, String)>,
    /// Next offset of each partition.
    offsets: BTreeMap<(String, i32), i64>,
    since: Option<Instant>,
}

struct IndexWorker {
    args: IndexArgs,
    consumer: Membership,
    dead: ThreadedProducer<DefaultProducerContext>,
    bulk: Bulk,
    status: Arc<Status>,
    shutdown: Shutdown,
    batch: Batch,
    runtime: tokio::runtime::Runtime,
}

impl IndexWorker {
    fn work(mut self) -> anyhow::Result<()> {
        let interval = Duration::from_millis(self.args.interval_ms);
        while !self.shutdown.requested() {
            let wait = self.batch.since.map_or(interval, |since| interval.saturating_sub(since.elapsed()));
            self.read(wait.min(interval))?;
            let due = self.batch.since.is_some_and(|since| since.elapsed() >= interval);
            if due || self.batch.documents.len() + self.batch.refused.len() >= self.args.batch {
                self.store()?;
            }
        }
        Ok(())
    }

    /// Takes a record, if one comes in time.
    fn read(&mut self, wait: Duration) -> anyhow::Result<()> {
        match self.consumer.poll(wait) {
            Some(Ok(message)) => {
                let origin = Origin::of(&message);
                self.batch.offsets.insert((origin.topic.clone(), origin.partition), message.offset() + 1);
                self.batch.since.get_or_insert_with(Instant::now);
                match Document::new(origin, &self.args.elasticsearch) {
                    Ok(document) => self.batch.documents.push(document),
                    Err(refused) => self.batch.refused.push(refused),
                }
            }
            Some(Err(error)) => {
                // As when the coordinator was lost and has come back with this member under another id.
                if let Some((code, reason)) = self.consumer.client().fatal_error() {
                    bail!(
                        "the Kafka client has given up ({code}: {reason}); the next process goes on from what is committed"
                    );
                }
                tracing::warn!(%error, "reading failed, trying again");
            }
            None => {}
        }
        self.assignment()?;
        Ok(())
    }

    /// Takes notice of partitions that came or went. Returns whether the batch was lost with them: its next reader
    /// reads it again.
    fn assignment(&mut self) -> anyhow::Result<bool> {
        let mut lost = false;
        for change in self.consumer.changes() {
            match change {
                Change::Revoked => {
                    self.batch = Batch::default();
                    self.consumer.give_back()?;
                    lost = true;
                }
                Change::Assigned(..) => {}
                Change::Failed(error) => return Err(error.into()),
            }
        }
        Ok(lost)
    }

    /// Stores the batch, however long that takes, and commits its offsets.
    fn store(&mut self) -> anyhow::Result<()> {
        let mut wait = FIRST_WAIT;
        while !self.batch.documents.is_empty() {
            let started = Instant::now();
            let error = match self.runtime.block_on(self.bulk.send(&self.batch.documents)) {
                Ok(verdicts) => self.sort_out(verdicts),
                Err(error) => Some(format!("{error:#}")),
            };
            self.status.update(|figures| {
                figures.bulk_ms = started.elapsed().as_secs_f64() * 1_000.0;
                if error.is_none() {
                    figures.error_since_ms = None;
                } else {
                    figures.retries += 1;
                    figures.error_since_ms.get_or_insert_with(clock::now_ms);
                }
                figures.error.clone_from(&error);
            });
            let Some(error) = error else { continue };
            tracing::warn!(
                error,
                ?wait,
                documents = self.batch.documents.len(),
                "Elasticsearch takes nothing now"
            );
            // Stays in the group meanwhile, without reading on.
            self.consumer.pause(&self.consumer.assignment()?)?;
            let until = Instant::now() + wait;
            while Instant::now() < until {
                self.read(Duration::from_millis(50))?;
                if self.shutdown.requested() {
                    return Ok(());
                }
            }
            self.consumer.resume(&self.consumer.assignment()?)?;
            wait = (wait * 2).min(LARGEST_WAIT);
        }
        self.bury()?;
        self.commit()
    }

    /// Keeps what has to be sent again. Returns why, if anything has.
    fn sort_out(&mut self, verdicts: Vec<Verdict>) -> Option<String> {
        let mut reason = None;
        let mut stored = 0;
        for (document, verdict) in std::mem::take(&mut self.batch.documents).into_iter().zip(verdicts) {
            match verdict {
                Verdict::Stored => stored += 1,
                Verdict::Again(text) => {
                    reason = Some(text);
                    self.batch.documents.push(document);
                }
                Verdict::Rejected(text) => self.batch.refused.push((document.origin, text)),
            }
        }
        self.status.update(|figures| figures.indexed += stored);
        reason
    }

    /// Writes what was refused for good to `dead-letters`, and waits until it is there.
    fn bury(&mut self) -> anyhow::Result<()> {
        if self.batch.refused.is_empty() {
            return Ok(());
        }
        for (origin, reason) in &self.batch.refused {
            let (partition, offset) = (origin.partition.to_string(), origin.offset.to_string());
            let mut headers = OwnedHeaders::new_with_capacity(6);
            for (key, value) in [
                (header::TOPIC, origin.topic.as_str()),
                (header::PARTITION, &partition),
                (header::OFFSET, &offset),
                (header::JOB, "indexer"),
                (header::ERROR_KIND, "rejected"),
                (header::ERROR_TEXT, reason),
            ] {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let mut record = BaseRecord::<[u8], [u8]>::to(topic::DEAD_LETTERS).headers(headers);
            (record.key, record.payload) = (origin.key.as_deref(), origin.value.as_deref());
            self.dead.send(record).map_err(|(error, _)| error).context("a dead letter can't be sent")?;
        }
        self.dead.flush(Duration::from_secs(60)).context("dead letters were not delivered")?;
        let count = self.batch.refused.len() as u64;
        self.status.update(|figures| figures.rejected += count);
        tracing::warn!(count, "documents were refused for good; they are in {}", topic::DEAD_LETTERS);
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        if self.batch.offsets.is_empty() {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for ((topic, partition), offset) in std::mem::take(&mut self.batch).offsets {
            offsets.add_partition_offset(&topic, partition, Offset::Offset(offset))?;
        }
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            // The documents are stored; the next commit covers these offsets too.
            tracing::warn!(%error, "the indexer's offsets were not committed");
        }
        Ok(())
    }
}
