//! Putting a task's state back: the newest checkpoint, then the changelog behind it.

use std::cell::Cell;
use std::time::Instant;

use anyhow::bail;
use millrace_core::task::SourceKind;
use millrace_core::{Application, Task};
use millrace_service::clock;
use millrace_wire::telemetry::{Recovery, WorkerState};
use rdkafka::{Offset, TopicPartitionList};

use super::changelog::Changelog;
use super::comeback::Ahead;
use super::environment::Environment;
use super::restart::SessionError;
use crate::checkpoint::{Chain, Changes, Collector, Found, Manifest, merged};

/// A checkpoint that is older is not used: Kafka keeps a record that says that a key is gone for 24 h
/// (`delete.retention.ms`), so behind an older checkpoint one may be missing, and the key would be back.
const TOO_OLD_MS: i64 = 23 * 3_600_000;

/// A task that is ready to go on.
pub struct Restored {
    /// The task, started.
    pub task: Box<dyn Task>,
    /// Offset behind the last changelog record applied.
    pub changelog_offset: i64,
    /// Its checkpoints.
    pub checkpoints: Collector,
    /// How it went.
    pub recovery: Recovery,
    /// When it was last committed to, epoch ms.
    pub last_commit_ms: Option<i64>,
}

/// Restores tasks of an app.
pub struct Restorer<'a> {
    app: &'static dyn Application,
    changelog: Changelog,
    env: &'a Environment<'a>,
    /// The store did not answer for one task: the others do not wait for it too.
    store_away: Cell<bool>,
}

impl<'a> Restorer<'a> {
    /// # Errors
    /// The clients can't be made.
    pub fn new(app: &'static dyn Application, env: &'a Environment<'_>) -> Result<Self, SessionError> {
        let changelog = Changelog::new(env.clients()?, app.name(), env.shutdown);
        Ok(Self { app, changelog, env, store_away: Cell::new(false) })
    }

    /// Restores the task of a partition.
    ///
    /// # Errors
    /// Kafka does not answer, or the state can't be read.
    pub fn restore(&self, partition: i32) -> Result<Restored, SessionError> {
        let (started, app) = (Instant::now(), self.app.name());
        let end = self.changelog.stable_end(partition)?;
        let Found { loaded, passed_over, largest_id, away } = if self.store_away.get() {
            let passed_over = vec!["the store of checkpoints does not answer".to_owned()];
            Found { passed_over, away: true, ..Found::default() }
        } else {
            self.env.runtime.block_on(self.env.store.newest(app, partition, usable(end)))
        };
        self.store_away.set(away);
        let mut task = self.app.task(partition).map_err(SessionError::app(app))?;
        let mut from = 0;
        if let Some(checkpoint) = &loaded {
            from = checkpoint.manifest.changelog_offset;
            let files: Vec<&[u8]> = checkpoint.files.iter().map(Vec::as_slice).collect();
            for entry in merged(&files) {
                let (key, value) = entry.map_err(SessionError::app(app))?;
                load(&mut *task, key, Some(value)).map_err(SessionError::app(app))?;
            }
        }
        // What the checkpoint does not have yet is the beginning of the next one.
        let mut changes = Changes::default();
        let read = self.changelog.read(partition, from, end, |records, key, value| {
            changes.put(key, value);
            if records % 10_000 == 0 {
                self.env.status.set_state(app, WorkerState::Restoring { records });
            }
            load(&mut *task, key, value).map_err(SessionError::app(app))
        })?;
        task.start();
        let manifest = loaded.map(|checkpoint| checkpoint.manifest);
        let recovery = Recovery {
            app: app.to_owned(),
            partition,
            at_ms: clock::now_ms(),
            duration_ms: started.elapsed().as_secs_f64() * 1_000.0,
            checkpoint: manifest.as_ref().map(|manifest| manifest.id),
            changelog_records: read.records,
            offset: task.offsets().first().map_or(0, |(_, offset)| *offset),
            passed_over,
        };
        // A checkpoint begins right after a commit.
        let last_commit_ms = read.newest_ms.or(manifest.as_ref().map(|manifest| manifest.created_ms));
        let chain = Chain::new(self.env.store.clone(), app, partition, largest_id, manifest);
        let checkpoints = Collector::new(chain, changes);
        Ok(Restored { task, changelog_offset: end, checkpoints, recovery, last_commit_ms })
    }

    /// Where the streams of `partitions` end now.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn ahead(&self, partitions: &[i32]) -> Result<Ahead, SessionError> {
        let streams = self.app.sources().iter().filter(|source| source.kind == SourceKind::Stream);
        let places = streams.flat_map(|source| partitions.iter().map(|&partition| (source.topic, partition)));
        let ends = self.changelog.committed_ends(places.clone())?;
        Ok(places.map(|(topic, partition)| (partition, topic)).zip(ends).collect())
    }

    /// Where a reference topic ends now.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn end_of(&self, topic: &str, partition: i32) -> Result<i64, SessionError> {
        let (start, end) = self.changelog.bounds_of(topic, partition)?;
        Ok(if start == end { 0 } else { end })
    }
}

/// Whether a checkpoint can be used with a changelog that ends at `end`; otherwise why not.
pub fn usable(end: i64) -> impl Fn(&Manifest) -> Result<(), String> {
    move |manifest| {
        let (offset, age) = (manifest.changelog_offset, clock::now_ms() - manifest.created_ms);
        if offset > end {
            Err(format!("it stands at changelog offset {offset}, the changelog ends at {end}"))
        } else if age > TOO_OLD_MS {
            Err(format!("it is {} h old", age / 3_600_000))
        } else {
            Ok(())
        }
    }
}

/// Puts an entry of state back.
///
/// # Errors
/// The bytes can't be read.
pub fn load(task: &mut dyn Task, key: &[u8], value: Option<&[u8]>) -> anyhow::Result<()> {
    if !task.load(key, value)? {
        tracing::debug!("state of a job that is no longer there was passed over");
    }
    Ok(())
}

/// The group's committed offsets and the ones in the state were written by the same transaction: they agree, or
/// somebody has changed one of them. Offset 0 is the same as none.
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
        if ours.unwrap_or(0) != group.unwrap_or(0) {
            bail!(
                "{topic}/{partition}: the state stands at offset {ours:?}, the consumer group at {group:?}. Both are \
                 written together, so one of them was changed from outside: put the group's offset back, or clear \
                 everything with `millrace reset`"
            );
        }
    }
    Ok(())
}
