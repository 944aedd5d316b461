//! Putting a task's state back: the newest checkpoint, then the changelog behind it.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use millrace_core::{Application, Task};
use millrace_service::clock;
use millrace_wire::telemetry::{Recovery, WorkerState};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::environment::Environment;
use super::restart::SessionError;
use crate::checkpoint::entries;

/// How long a broker may take to answer.
const CALL: Duration = Duration::from_secs(10);
/// How long the changelog may stand still, with a transaction of a former owner open.
const STABLE: Duration = Duration::from_secs(60);

/// A task that is ready to go on.
pub struct Restored {
    /// The task, started.
    pub task: Box<dyn Task>,
    /// Offset behind the last changelog record applied.
    pub changelog_offset: i64,
    /// Largest checkpoint id so far.
    pub checkpoint_id: u64,
    /// How it went.
    pub recovery: Recovery,
}

/// Reads changelogs.
pub struct Restorer<'a> {
    app: &'static dyn Application,
    changelog: String,
    /// Reads what is committed, and says where it ends.
    committed: BaseConsumer,
    /// Says where the log ends, open transactions included.
    uncommitted: BaseConsumer,
    env: &'a Environment<'a>,
}

impl<'a> Restorer<'a> {
    /// # Errors
    /// The clients can't be made.
    pub fn new(app: &'static dyn Application, env: &'a Environment<'_>) -> Result<Self, SessionError> {
        let (kafka, component) = (&env.args.kafka, env.args.component());
        let client = |isolation: &str| {
            let id = format!("{component}-restore");
            kafka
                .consumer(&id, &id, isolation)
                .set("enable.partition.eof", "true")
                // The end of a changelog is known when a fetch has waited so long for more: once per task.
                .set("fetch.wait.max.ms", "10")
                .create()
                .context("the restoring consumer can't be made")
                .map_err(SessionError::Kafka)
        };
        Ok(Self {
            app,
            changelog: topic::changelog(app.name()),
            committed: client("read_committed")?,
            uncommitted: client("read_uncommitted")?,
            env,
        })
    }

    /// Restores the task of a partition.
    ///
    /// # Errors
    /// Kafka does not answer, or the state can't be read.
    pub fn restore(&self, partition: i32) -> Result<Restored, SessionError> {
        let (started, app) = (Instant::now(), self.app.name());
        let end = self.stable_end(partition)?;
        let usable = |manifest: &crate::checkpoint::Manifest| {
            let offset = manifest.changelog_offset;
            if offset <= end {
                Ok(())
            } else {
                Err(format!("it stands at changelog offset {offset}, the changelog ends at {end}"))
            }
        };
        let newest = self.env.store.newest(app, partition, usable);
        let (checkpoint, checkpoint_id) =
            self.env.runtime.block_on(newest).map_err(SessionError::app(app))?;
        let mut task = self.app.task(partition).map_err(SessionError::app(app))?;
        let mut from = 0;
        if let Some(checkpoint) = &checkpoint {
            from = checkpoint.manifest.changelog_offset;
            for entry in entries(&checkpoint.state) {
                let (key, value) = entry.map_err(SessionError::app(app))?;
                load(&mut *task, key, Some(value)).map_err(SessionError::app(app))?;
            }
        }
        let changelog_records = if from < end { self.replay(&mut *task, partition, from)? } else { 0 };
        task.start();
        let recovery = Recovery {
            app: app.to_owned(),
            partition,
            at_ms: clock::now_ms(),
            duration_ms: started.elapsed().as_secs_f64() * 1_000.0,
            checkpoint: checkpoint.map(|c| c.manifest.id),
            changelog_records,
            offset: task.offsets().first().map_or(0, |(_, offset)| *offset),
        };
        Ok(Restored { task, changelog_offset: end, checkpoint_id, recovery })
    }

    /// The end of the changelog, once no transaction is open in it: a former owner's last one counts if it was
    /// committed, and only its markers in the log tell.
    fn stable_end(&self, partition: i32) -> Result<i64, SessionError> {
        let started = Instant::now();
        let (_, end) = self.uncommitted.fetch_watermarks(&self.changelog, partition, CALL)?;
        loop {
            let (_, stable) = self.committed.fetch_watermarks(&self.changelog, partition, CALL)?;
            if stable >= end {
                return Ok(end);
            }
            if started.elapsed() > STABLE || self.env.shutdown.requested() {
                return Err(SessionError::Kafka(anyhow!(
                    "{}/{partition} has had a transaction open for {:.0} s (offsets {stable} to {end})",
                    self.changelog,
                    started.elapsed().as_secs_f64()
                )));
            }
            // Waiting for the coordinator's markers; the poll also serves the client.
            self.committed.poll(Duration::from_millis(10));
        }
    }

    fn replay(&self, task: &mut dyn Task, partition: i32, from: i64) -> Result<u64, SessionError> {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&self.changelog, partition, Offset::Offset(from))?;
        self.committed.assign(&assignment)?;
        let mut records = 0;
        let mut heard = Instant::now();
        loop {
            match self.committed.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    records += 1;
                    load(task, message.key().unwrap_or_default(), message.payload())
                        .map_err(SessionError::app(self.app.name()))?;
                    if records % 10_000 == 0 {
                        self.env.status.set_state(self.app.name(), WorkerState::Restoring { records });
                    }
                }
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => break,
                // Of a partition read before.
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => tracing::warn!(%error, "reading the changelog failed, trying again"),
                None => {}
            }
            if heard.elapsed() > STABLE || self.env.shutdown.requested() {
                return Err(SessionError::Kafka(anyhow!("{}/{partition} can't be read", self.changelog)));
            }
        }
        self.committed.unassign()?;
        Ok(records)
    }

    /// Where a reference topic ends now.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn end_of(&self, topic: &str, partition: i32) -> Result<i64, SessionError> {
        let (start, end) = self.committed.fetch_watermarks(topic, partition, CALL)?;
        Ok(if start == end { 0 } else { end })
    }
}

fn load(task: &mut dyn Task, key: &[u8], value: Option<&[u8]>) -> anyhow::Result<()> {
    if !task.load(key, value)? {
        tracing::debug!("state of a job that is no longer there was passed over");
    }
    Ok(())
}

/// The group's committed offsets and the ones in the state were written by the same transaction: they agree, or
/// somebody has changed one of them.
///
/// # Errors
/// They differ.
pub fn check_offsets(
    task: &dyn Task,
    partition: i32,
    committed: &TopicPartitionList,
    topics: &[&str],
) -> anyhow::Result<()> {
    let state = task.offsets();
    for topic in topics {
        let ours = state.iter().find(|(t, _)| t == topic).map(|(_, offset)| *offset);
        let group = committed.find_partition(topic, partition).and_then(|e| match e.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        if ours != group {
            bail!(
                "{topic}/{partition}: the state stands at offset {ours:?}, the consumer group at {group:?}. Both are \
                 written together, so one of them was changed from outside: put the group's offset back, or clear \
                 everything with `millrace reset`"
            );
        }
    }
    Ok(())
}
