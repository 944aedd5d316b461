//! Putting a task's state back: the newest checkpoint, then the changelog behind it. A task on disk goes on from its local
//! store and the changelog behind its stamp, and needs a checkpoint only without these.

use std::cell::Cell;
use std::time::Instant;

use anyhow::bail;
use millrace_core::{Application, Task};
use millrace_service::clock;
use millrace_wire::telemetry::{Recovery, WorkerState};
use rdkafka::{Offset, TopicPartitionList};

use super::changelog::{Changelog, Read};
use super::comeback::Ahead;
use super::environment::Environment;
use super::restart::SessionError;
use crate::checkpoint::{Chain, Changes, Collector, Found, Manifest, TOO_OLD_MS, merged};
use crate::store::{Log, Stamp, TaskStore};

/// Changelog records that are written to a local store at once.
const AT_ONCE: usize = 1_000;
/// Entries of a table that a task on disk holds in memory, beside what one transaction touches.
const CACHED: usize = 10_000;

/// A task that is ready to go on.
pub struct Restored {
    /// The task, started.
    pub task: Box<dyn Task>,
    /// Offset behind the last changelog record applied.
    pub changelog_offset: i64,
    /// Its checkpoints.
    pub checkpoints: Collector,
    /// Where its entries are, if they are on disk.
    pub store: Option<TaskStore>,
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
        let mut task = self.app.task(partition).map_err(SessionError::app(app))?;
        let (source, store, checkpoints) = match self.env.disk_of(app) {
            None => self.to_memory(&mut *task, partition, end)?,
            Some(disk) => {
                let log = self.changelog.log(partition, end)?;
                let store = disk.task(app, partition, &log.cluster).map_err(SessionError::app(app))?;
                self.to_disk(&mut *task, store, partition, &log)?
            }
        };
        task.start();
        let Source { checkpoint, local_offset, last_commit_ms, changelog_records, passed_over } = source;
        let recovery = Recovery {
            app: app.to_owned(),
            partition,
            at_ms: clock::now_ms(),
            duration_ms: started.elapsed().as_secs_f64() * 1_000.0,
            checkpoint,
            local_offset,
            changelog_records,
            offset: task.offsets().first().map_or(0, |(_, offset)| *offset),
            passed_over,
        };
        Ok(Restored { task, changelog_offset: end, checkpoints, store, recovery, last_commit_ms })
    }

    /// Where the streams of `partitions` end now.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn ahead(&self, partitions: &[i32]) -> Result<Ahead, SessionError> {
        let streams = self.app.sources().iter().filter(|source| source.kind.is_stream());
        let places = streams.flat_map(|source| partitions.iter().map(|&partition| (source.topic, partition)));
        let ends = self.changelog.committed_ends(places.clone())?;
        Ok(places.map(|(topic, partition)| (partition, topic)).zip(ends).collect())
    }

    /// All of it comes into memory.
    fn to_memory(
        &self,
        task: &mut dyn Task,
        partition: i32,
        end: i64,
    ) -> Result<(Source, Option<TaskStore>, Collector), SessionError> {
        let app = self.app.name();
        let Found { loaded, passed_over, largest_id, .. } = self.newest(partition, end);
        let mut from = 0;
        if let Some(checkpoint) = &loaded {
            from = checkpoint.manifest.changelog_offset;
            let files: Vec<&[u8]> = checkpoint.files.iter().map(Vec::as_slice).collect();
            for entry in merged(&files) {
                let (key, value) = entry.map_err(SessionError::app(app))?;
                load(task, key, Some(value)).map_err(SessionError::app(app))?;
            }
        }
        // What the checkpoint does not have yet is the beginning of the next one.
        let mut changes = Changes::default();
        let read = self.read(partition, (from, end), |_, key, value| {
            changes.put(key, value);
            load(task, key, value).map_err(SessionError::app(app))
        })?;
        let manifest = loaded.map(|checkpoint| checkpoint.manifest);
        // A checkpoint begins right after a commit.
        let source = Source {
            checkpoint: manifest.as_ref().map(|manifest| manifest.id),
            local_offset: None,
            last_commit_ms: read.newest_ms.or(manifest.as_ref().map(|manifest| manifest.created_ms)),
            changelog_records: read.records,
            passed_over,
        };
        let chain = Chain::new(self.env.store.clone(), app, partition, largest_id, manifest);
        Ok((source, None, Collector::new(chain, changes)))
    }

    /// The local store is brought up to date, from its stamp on if that can be trusted; the task leaves there what it does
    /// not need in memory.
    fn to_disk(
        &self,
        task: &mut dyn Task,
        mut store: TaskStore,
        partition: i32,
        log: &Log,
    ) -> Result<(Source, Option<TaskStore>, Collector), SessionError> {
        let app = self.app.name();
        let failed = |error: anyhow::Error| SessionError::App { app, error };
        let mut source = Source::default();
        let mut largest_id = None;
        let from = match local(&store, log) {
            Ok(stamp) => {
                source.local_offset = Some(stamp.offset);
                source.last_commit_ms = Some(stamp.at_ms);
                stamp.offset
            }
            Err(reason) => {
                store.clear().map_err(failed)?;
                if let Some(reason) = reason {
                    tracing::warn!(app, partition, reason, "the local state is discarded");
                    source.passed_over.push(format!("local state: {reason}"));
                }
                let mut found = self.newest(partition, log.end);
                source.passed_over.append(&mut found.passed_over);
                largest_id = found.largest_id;
                let mut from = 0;
                if let Some(checkpoint) = found.loaded {
                    source.checkpoint = Some(checkpoint.manifest.id);
                    source.last_commit_ms = Some(checkpoint.manifest.created_ms);
                    from = checkpoint.manifest.changelog_offset;
                    let files: Vec<&[u8]> = checkpoint.files.iter().map(Vec::as_slice).collect();
                    for entry in merged(&files) {
                        let (key, value) = entry.map_err(SessionError::app(app))?;
                        store.put(key, Some(value));
                        if store.pending() >= AT_ONCE {
                            // Not complete yet: no stamp.
                            store.write(None).map_err(failed)?;
                        }
                    }
                    store.write(None).map_err(failed)?;
                }
                from
            }
        };
        let read = self.read(partition, (from, log.end), |offset, key, value| {
            // Without this record, the store is what the log has before it.
            if store.pending() >= AT_ONCE {
                store.write(Some(offset)).map_err(failed)?;
            }
            store.put(key, value);
            Ok(())
        })?;
        source.changelog_records = read.records;
        source.last_commit_ms = read.newest_ms.or(source.last_commit_ms);
        store.write(Some(log.end)).map_err(failed)?;
        task.attach(store.cold(), CACHED);
        store.check().map_err(failed)?;
        let chain = Chain::new(self.env.store.clone(), app, partition, largest_id, None);
        Ok((source, Some(store), Collector::of_disk(chain)))
    }

    /// The newest usable checkpoint.
    fn newest(&self, partition: i32, end: i64) -> Found {
        if self.store_away.get() {
            let passed_over = vec!["the store of checkpoints does not answer".to_owned()];
            return Found { passed_over, away: true, ..Found::default() };
        }
        let newest = self.env.store.newest(self.app.name(), partition, usable(end));
        let found = self.env.runtime.block_on(newest);
        self.store_away.set(found.away);
        found
    }

    /// Reads the changelog between two offsets, and shows how far it is.
    fn read(
        &self,
        partition: i32,
        (from, end): (i64, i64),
        mut record: impl FnMut(i64, &[u8], Option<&[u8]>) -> Result<(), SessionError>,
    ) -> Result<Read, SessionError> {
        let mut records = 0;
        self.changelog.read(partition, from, end, |offset, key, value| {
            records += 1;
            if records % 10_000 == 0 {
                self.env.status.set_state(self.app.name(), WorkerState::Restoring { records });
            }
            record(offset, key, value)
        })
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

/// What a task was restored from.
#[derive(Default)]
struct Source {
    checkpoint: Option<u64>,
    local_offset: Option<i64>,
    last_commit_ms: Option<i64>,
    changelog_records: u64,
    passed_over: Vec<String>,
}

/// How far a local store is that can be continued; otherwise why it can't, if there is anything in it.
fn local(store: &TaskStore, log: &Log) -> Result<Stamp, Option<String>> {
    let stamp = store.stamp().map_err(|error| Some(format!("its stamp can't be read ({error:#})")))?;
    let stamp = stamp.ok_or(None)?;
    stamp.continues(log, clock::now_ms())?;
    Ok(stamp)
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
