//! Putting a task's state back: the newest checkpoint, then the changelog behind it. A task on disk goes on from its local
//! store and the changelog behind its stamp, and needs a checkpoint only without these.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{anyhow, bail};
use millrace_core::task::Division;
use millrace_core::{Application, Task};
use millrace_service::clock;
use millrace_wire::telemetry::{Recovery, WorkerState};
use rdkafka::{Offset, TopicPartitionList};

use super::changelog::{Changelog, Logged};
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

    /// How many partitions the app has.
    ///
    /// # Errors
    /// Its topics have not as many; Kafka does not answer.
    pub fn partitions(&self) -> Result<i32, SessionError> {
        let counted = self.changelog.partitions(self.app.sources())?;
        counted.map_err(anyhow::Error::msg).map_err(SessionError::app(self.app.name()))
    }

    /// Restores the tasks of partitions, in their order. The changelogs behind their checkpoints are read together.
    ///
    /// # Errors
    /// Kafka does not answer, or the state can't be read.
    pub fn restore(&self, partitions: &[i32]) -> Result<Vec<Restored>, SessionError> {
        let started = Instant::now();
        let ends = self.changelog.stable_ends(partitions)?;
        let tasks = partitions.iter().zip(ends).map(|(&partition, end)| self.begin(partition, end));
        let mut tasks = tasks.collect::<Result<Vec<_>, _>>()?;
        let spans: Vec<_> = tasks.iter().map(|task| (task.partition, task.from, task.end)).collect();
        let mut records = 0;
        self.changelog.read(&spans, |record| {
            records += 1;
            if records % 10_000 == 0 {
                self.env.status.set_state(self.app.name(), WorkerState::Restoring { records });
            }
            let task = tasks.iter_mut().find(|task| task.partition == record.partition);
            task.map_or(Ok(()), |task| task.take(record)).map_err(SessionError::app(self.app.name()))
        })?;
        tasks.into_iter().map(|task| self.finish(task, started)).collect()
    }

    /// Puts back what there is without the changelog.
    fn begin(&self, partition: i32, end: i64) -> Result<Returning, SessionError> {
        let app = self.app.name();
        let task = self.app.task(partition).map_err(SessionError::app(app))?;
        let mut returning = Returning {
            task,
            partition,
            from: 0,
            end,
            source: Source::default(),
            place: Place::Memory(Changes::default()),
            largest_id: None,
        };
        if let Some(disk) = self.env.disk_of(app) {
            let log = self.changelog.log(partition, end)?;
            let mut store = disk.task(app, partition, &log.cluster).map_err(SessionError::app(app))?;
            match local(&store, &log) {
                Ok(stamp) => {
                    returning.source.local_offset = Some(stamp.offset);
                    returning.source.last_commit_ms = Some(stamp.at_ms);
                    returning.from = stamp.offset;
                    returning.place = Place::Disk(store);
                    return Ok(returning);
                }
                Err(reason) => {
                    store.clear().map_err(SessionError::app(app))?;
                    if let Some(reason) = reason {
                        tracing::warn!(app, partition, reason, "the local state is discarded");
                        returning.source.passed_over.push(format!("local state: {reason}"));
                    }
                    returning.place = Place::Disk(store);
                }
            }
        }
        let mut found = self.newest(partition, end);
        returning.source.passed_over.append(&mut found.passed_over);
        returning.largest_id = found.largest_id;
        if let Some(checkpoint) = found.loaded {
            returning.from = checkpoint.manifest.changelog_offset;
            returning.source.last_commit_ms = Some(checkpoint.manifest.created_ms);
            let files: Vec<&[u8]> = checkpoint.files.iter().map(Vec::as_slice).collect();
            returning.load(&files).map_err(SessionError::app(app))?;
            returning.source.checkpoint = Some(checkpoint.manifest);
        }
        Ok(returning)
    }

    /// The changelog is read: the task goes on.
    fn finish(&self, returning: Returning, started: Instant) -> Result<Restored, SessionError> {
        let app = self.app.name();
        let Returning { mut task, partition, end, source, place, largest_id, .. } = returning;
        let Source { checkpoint, local_offset, last_commit_ms, changelog_records, passed_over } = source;
        let id = checkpoint.as_ref().map(|manifest| manifest.id);
        let chain = |manifest| Chain::new(self.env.store.clone(), app, partition, largest_id, manifest);
        let (store, checkpoints) = match place {
            // A checkpoint begins right after a commit.
            Place::Memory(changes) => (None, Collector::new(chain(checkpoint), changes)),
            Place::Disk(mut store) => {
                store.write(Some(end)).map_err(SessionError::app(app))?;
                task.attach(store.cold(), CACHED);
                store.check().map_err(SessionError::app(app))?;
                (Some(store), Collector::of_disk(chain(None)))
            }
        };
        if let Some(Division { to, .. }) = task.division() {
            return Err(SessionError::app(app)(anyhow!(
                "its state is to be divided among {to} tasks: `millrace rescale {app} --partitions {to}` finishes that"
            )));
        }
        task.start();
        let recovery = Recovery {
            app: app.to_owned(),
            partition,
            at_ms: clock::now_ms(),
            duration_ms: started.elapsed().as_secs_f64() * 1_000.0,
            checkpoint: id,
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

    /// What partitions of a reference topic have beyond the offsets `read`: the offset behind the newest record. Those
    /// that have none are left out. The markers of a transaction are no records: a topic may end with some.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn unread(&self, topic: &str, read: &[(i32, i64)]) -> Result<BTreeMap<i32, i64>, SessionError> {
        let mut spans = Vec::new();
        for &(partition, read) in read {
            let (start, end) = self.changelog.bounds_of(topic, partition)?;
            spans.push((partition, read.max(start), end));
        }
        let mut ends = BTreeMap::new();
        self.changelog.read_of(topic, &spans, |record| {
            ends.insert(record.partition, record.offset + 1);
            Ok(())
        })?;
        Ok(ends)
    }
}

/// What a task was restored from.
#[derive(Default)]
struct Source {
    checkpoint: Option<Manifest>,
    local_offset: Option<i64>,
    last_commit_ms: Option<i64>,
    changelog_records: u64,
    passed_over: Vec<String>,
}

/// Where the state of a task goes.
enum Place {
    /// Into it. What its checkpoint does not have yet is the beginning of the next one.
    Memory(Changes),
    /// To disk: it leaves there what it does not need in memory.
    Disk(TaskStore),
}

/// A task on its way back.
struct Returning {
    task: Box<dyn Task>,
    partition: i32,
    /// What is still to be read of its changelog.
    from: i64,
    end: i64,
    source: Source,
    place: Place,
    largest_id: Option<u64>,
}

impl Returning {
    /// Takes the files of a checkpoint, the base first.
    fn load(&mut self, files: &[&[u8]]) -> anyhow::Result<()> {
        for entry in merged(files) {
            let (key, value) = entry?;
            match &mut self.place {
                Place::Memory(_) => load(&mut *self.task, key, Some(value))?,
                // Not complete yet: no stamp.
                Place::Disk(store) => put(store, key, Some(value), None)?,
            }
        }
        match &mut self.place {
            Place::Memory(_) => Ok(()),
            Place::Disk(store) => store.write(None),
        }
    }

    /// Takes a record of the changelog.
    fn take(&mut self, record: Logged<'_>) -> anyhow::Result<()> {
        let Logged { offset, at_ms, key, value, .. } = record;
        self.source.changelog_records += 1;
        self.source.last_commit_ms = self.source.last_commit_ms.max(at_ms);
        match &mut self.place {
            Place::Memory(changes) => {
                changes.put(key, value);
                load(&mut *self.task, key, value)
            }
            // Without this record, the store is what the log has before it.
            Place::Disk(store) => put(store, key, value, Some(offset)),
        }
    }
}

/// Adds an entry to a local store; `stamp` is where the store stands without it.
fn put(store: &mut TaskStore, key: &[u8], value: Option<&[u8]>, stamp: Option<i64>) -> anyhow::Result<()> {
    if store.pending() >= AT_ONCE {
        store.write(stamp)?;
    }
    store.put(key, value);
    Ok(())
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
