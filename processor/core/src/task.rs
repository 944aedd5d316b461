//! Apps and their tasks. A task is one partition of every topic of an app: a deterministic state machine.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::effect::Effects;
use crate::invariant::{Stats, Violation};
use crate::state::{Change, StateError, Table, decode, encode};
use crate::stream::{Descriptor, Job, Origin, Scope};
use crate::time::{EventTime, Watermark};
use crate::watermark::{Bounded, BoundedOutOfOrderness, InvalidIdleTimeout, Multiplexer, Progress};

/// How a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Its records go through the jobs and move event time.
    Stream,
    /// Its records are the newest data of their keys; they are read up to the end before the streams start.
    Reference,
}

/// A topic that an app reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub topic: &'static str,
    /// How it is read.
    pub kind: SourceKind,
}

/// A source record, as it is in Kafka.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Index in [`App::sources`].
    pub source: usize,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// A parsed record.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<E> {
    /// What it is to the jobs.
    pub event: E,
    /// Event time; of no meaning for a reference record.
    pub at: EventTime,
}

/// A named set of jobs that share one consumer group and one changelog.
pub struct App<E: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What it reads.
    pub sources: &'static [Source],
    /// Bytes to an event, once per app; the error says what is wrong with the record.
    pub parse: fn(&Record<'_>) -> Result<Parsed<E>, String>,
    /// How far out of order the streams may be.
    pub order: BoundedOutOfOrderness,
    /// Makes its jobs.
    pub jobs: fn() -> Vec<Box<dyn Job<E>>>,
}

// By hand: a derive would ask the same of `E`.
impl<E> Clone for App<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for App<E> {}

/// What a task is given.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// A source record.
    Record(Record<'a>),
    /// The processing-time clock, epoch ms.
    ProcessingTime(i64),
    /// New parameters of a job, at a commit boundary. Ignored unless the version is newer than the one in force.
    Parameters {
        /// The job.
        job: &'a str,
        /// Larger is newer.
        version: i64,
        /// All of them; what is absent takes its default.
        values: &'a Map<String, Value>,
    },
}

/// A refusal of parameters, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Figures of a job in one task.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStatus {
    /// Its name.
    pub name: &'static str,
    /// What became of its records, since the app's first start.
    pub stats: Stats,
    /// Records held in open windows.
    pub pending: u64,
    /// Parameters in force.
    pub params: Map<String, Value>,
    /// Their version; -1 for the defaults.
    pub params_version: i64,
}

/// Figures of a task, since the app's first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Stream records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Malformed ones among them.
    pub dead: u64,
}

/// A task, whatever its events are.
pub trait Task {
    /// Takes an input and appends what follows from it.
    ///
    /// # Errors
    /// Parameters that are refused. Records never fail: a bad one is an effect.
    fn step(&mut self, input: Input<'_>, effects: &mut Effects) -> Result<(), Refused>;
    /// Calls `change` for every entry of state that changed since the last call.
    fn changes(&mut self, change: &mut Change<'_>);
    /// Calls `entry` for every entry of state.
    fn snapshot(&mut self, entry: &mut Change<'_>);
    /// Puts back an entry that [`Task::changes`] or [`Task::snapshot`] told. Returns false if no job knows it any more.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, StateError>;
    /// The state is loaded; inputs follow.
    fn start(&mut self);
    /// The next offset of each source that has had a record.
    fn offsets(&self) -> Vec<(&'static str, i64)>;
    /// The combined watermark.
    fn watermark(&self) -> Watermark;
    /// Whether all streams are idle.
    fn is_idle(&self) -> bool;
    /// Figures.
    fn totals(&self) -> Totals;
    /// Figures per job, in the app's order.
    fn jobs(&self) -> Vec<JobStatus>;
    /// Number of entries of keyed state.
    fn entries(&mut self) -> usize;
}

/// An app, whatever its events are.
pub trait Application: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What it reads.
    fn sources(&self) -> &'static [Source];
    /// A task with empty state. Load what there is, then [`Task::start`] it.
    ///
    /// # Errors
    /// The idle timeout is not greater than zero.
    fn task(&self, partition: i32) -> Result<Box<dyn Task>, InvalidIdleTimeout>;
    /// What its jobs are.
    fn descriptors(&self) -> Vec<Descriptor>;
}

impl<E: 'static> Application for App<E> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn sources(&self) -> &'static [Source] {
        self.sources
    }

    fn task(&self, partition: i32) -> Result<Box<dyn Task>, InvalidIdleTimeout> {
        Ok(Box::new(AppTask::new(*self, partition)?))
    }

    fn descriptors(&self) -> Vec<Descriptor> {
        (self.jobs)().iter().map(|job| job.descriptor().clone()).collect()
    }
}

struct AppTask<E: 'static> {
    app: App<E>,
    partition: i32,
    jobs: Vec<Box<dyn Job<E>>>,
    inputs: Vec<SourceState>,
    multiplexer: Multiplexer,
    now: i64,
    totals: Totals,
    dirty: bool,
    scratch: Vec<u8>,
}

struct SourceState {
    next_offset: Option<i64>,
    /// Number at the multiplexer, and generator; `None` for reference topics.
    time: Option<(usize, Bounded)>,
}

/// Where an entry belongs. The task's own entry has no job.
#[derive(Serialize, Deserialize)]
struct EntryKey<'a> {
    job: &'a str,
    table: u16,
    #[serde(borrow)]
    key: &'a [u8],
}

/// What a task knows besides its jobs' tables: written with every commit, so that it says where the state stands.
#[derive(Default, Serialize, Deserialize)]
struct Meta {
    sources: Vec<SourceMeta>,
    watermark: Option<i64>,
    totals: Totals,
    jobs: Vec<JobMeta>,
}

#[derive(Serialize, Deserialize)]
struct SourceMeta {
    topic: String,
    next_offset: Option<i64>,
    max: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct JobMeta {
    name: String,
    params_version: i64,
    /// JSON.
    params: String,
    stats: Stats,
}

impl<E: 'static> AppTask<E> {
    fn new(app: App<E>, partition: i32) -> Result<Self, InvalidIdleTimeout> {
        let mut multiplexer = Multiplexer::new(0);
        let inputs = app
            .sources
            .iter()
            .map(|source| {
                let time = match source.kind {
                    SourceKind::Stream => Some((multiplexer.register(), Bounded::new(app.order)?)),
                    SourceKind::Reference => None,
                };
                Ok(SourceState { next_offset: None, time })
            })
            .collect::<Result<_, InvalidIdleTimeout>>()?;
        let jobs = (app.jobs)();
        Ok(Self {
            app,
            partition,
            jobs,
            inputs,
            multiplexer,
            now: 0,
            totals: Totals::default(),
            dirty: false,
            scratch: Vec::new(),
        })
    }

    fn max_seen(&self) -> Option<i64> {
        self.inputs.iter().filter_map(|input| input.time.as_ref()?.1.max()).max()
    }

    fn record(&mut self, record: &Record<'_>, effects: &mut Effects) {
        let (Some(input), Some(source)) =
            (self.inputs.get_mut(record.source), self.app.sources.get(record.source))
        else {
            effects.dead(format!("source {} is not one of the app's", record.source));
            return;
        };
        self.dirty = true;
        input.next_offset = Some(record.offset + 1);
        if input.time.is_some() {
            self.totals.records += 1;
            self.totals.bytes += record.value.map_or(0, |value| value.len() as u64);
        }
        let Parsed { event, at } = match (self.app.parse)(record) {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.totals.dead += 1;
                effects.dead(reason);
                return;
            }
        };
        let Some((number, generator)) = &mut input.time else {
            for job in &mut self.jobs {
                job.reference(&event);
            }
            return;
        };
        // The record is judged by the watermark before it, and windows by the latest time including it.
        generator.record(at);
        let (number, own) = (*number, generator.watermark());
        let mut scope = Scope {
            now: self.now,
            watermark: self.multiplexer.watermark(),
            max_seen: None,
            origin: Some(Origin { topic: source.topic, partition: self.partition, offset: record.offset }),
            effects,
        };
        for job in &mut self.jobs {
            job.record(&event, at, &mut scope);
        }
        if self.multiplexer.update(number, own) {
            self.combine(effects);
        }
    }

    fn combine(&mut self, effects: &mut Effects) {
        let before = self.multiplexer.watermark();
        if let Some(watermark) = self.multiplexer.combine().advanced {
            self.dirty = true;
            let mut scope = Scope { now: self.now, watermark, max_seen: None, origin: None, effects };
            for job in &mut self.jobs {
                job.watermark(&mut scope);
            }
            if watermark < before
                && let Some(job) = self.jobs.first_mut()
            {
                let mut stats = job.stats();
                stats.violation(Violation::WatermarkFell);
                job.restore_stats(stats);
            }
        }
    }

    fn tick(&mut self, now: i64, effects: &mut Effects) {
        if now > self.now {
            self.now = now;
            // A timer may change state and emit: both belong to the next commit.
            self.dirty = true;
            let watermark = self.multiplexer.watermark();
            let mut scope = Scope { now, watermark, max_seen: None, origin: None, effects: &mut *effects };
            for job in &mut self.jobs {
                job.processing_time(&mut scope);
            }
        }
        if self.app.order.idle_timeout.is_none() {
            return;
        }
        for (number, generator) in self.inputs.iter_mut().filter_map(|input| input.time.as_mut()) {
            match generator.tick(now) {
                Progress::Idle => self.multiplexer.set_idle(*number),
                Progress::At(watermark) => {
                    self.multiplexer.update(*number, watermark);
                }
                Progress::None => {}
            }
        }
        self.combine(effects);
    }

    fn meta(&self) -> Meta {
        Meta {
            sources: self
                .app
                .sources
                .iter()
                .zip(&self.inputs)
                .map(|(source, input)| SourceMeta {
                    topic: source.topic.to_owned(),
                    next_offset: input.next_offset,
                    max: input.time.as_ref().and_then(|(_, generator)| generator.max()),
                })
                .collect(),
            watermark: self.multiplexer.watermark().get(),
            totals: self.totals,
            jobs: self
                .jobs
                .iter()
                .map(|job| JobMeta {
                    name: job.descriptor().name.to_owned(),
                    params_version: job.params_version(),
                    params: Value::Object(job.params()).to_string(),
                    stats: job.stats(),
                })
                .collect(),
        }
    }

    fn load_meta(&mut self, meta: Meta) -> Result<(), StateError> {
        self.totals = meta.totals;
        self.multiplexer.restore(meta.watermark.map_or(Watermark::NONE, Watermark));
        for stored in meta.sources {
            let at = self.app.sources.iter().position(|source| source.topic == stored.topic);
            if let Some(input) = at.and_then(|at| self.inputs.get_mut(at)) {
                input.next_offset = stored.next_offset;
                if let Some((_, generator)) = &mut input.time {
                    generator.restore(stored.max);
                }
            }
        }
        for stored in meta.jobs {
            let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == stored.name) else {
                continue;
            };
            job.restore_stats(stored.stats);
            if stored.params_version != job.params_version() {
                let values: Map<String, Value> =
                    serde_json::from_str(&stored.params).map_err(|e| StateError::Damaged(e.to_string()))?;
                job.load_params(stored.params_version, &values).map_err(StateError::Damaged)?;
            }
        }
        Ok(())
    }
}

impl<E: 'static> Task for AppTask<E> {
    fn step(&mut self, input: Input<'_>, effects: &mut Effects) -> Result<(), Refused> {
        match input {
            Input::Record(record) => self.record(&record, effects),
            Input::ProcessingTime(now) => self.tick(now, effects),
            Input::Parameters { job, version, values } => {
                let max_seen = self.max_seen();
                let Some(job) = self.jobs.iter_mut().find(|j| j.descriptor().name == job) else {
                    return Err(Refused(format!("app {} has no job {job}", self.app.name)));
                };
                if version <= job.params_version() {
                    return Ok(());
                }
                let watermark = self.multiplexer.watermark();
                let mut scope = Scope { now: self.now, watermark, max_seen, origin: None, effects };
                job.set_params(version, values, &mut scope).map_err(Refused)?;
                self.dirty = true;
            }
        }
        Ok(())
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        for job in &mut self.jobs {
            let mut stats = job.stats();
            if !stats.balances(job.pending()) {
                stats.violation(Violation::RecordsDoNotBalance);
                job.restore_stats(stats);
            }
            let (name, mut number) = (job.descriptor().name, 0);
            job.tables(&mut |table| {
                table.changes(&mut |key, value| {
                    encode(&EntryKey { job: name, table: number, key }, &mut bytes);
                    change(&bytes, value);
                });
                number += 1;
            });
        }
        let mut value = Vec::new();
        encode(&self.meta(), &mut value);
        encode(&EntryKey { job: "", table: 0, key: &[] }, &mut bytes);
        change(&bytes, Some(&value));
        self.scratch = bytes;
    }

    fn snapshot(&mut self, entry: &mut Change<'_>) {
        let (mut bytes, mut value) = (Vec::new(), Vec::new());
        encode(&self.meta(), &mut value);
        encode(&EntryKey { job: "", table: 0, key: &[] }, &mut bytes);
        entry(&bytes, Some(&value));
        for job in &mut self.jobs {
            let (name, mut number) = (job.descriptor().name, 0);
            job.tables(&mut |table| {
                table.snapshot(&mut |key, value| {
                    encode(&EntryKey { job: name, table: number, key }, &mut bytes);
                    entry(&bytes, value);
                });
                number += 1;
            });
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, StateError> {
        let (version, rest) = key.split_first().ok_or_else(|| StateError::Damaged("no key".to_owned()))?;
        if *version != crate::state::VERSION {
            return Err(StateError::Version(*version));
        }
        let entry: EntryKey<'_> =
            postcard::from_bytes(rest).map_err(|e| StateError::Damaged(e.to_string()))?;
        if entry.job.is_empty() {
            let meta = value.map(decode::<Meta>).transpose()?;
            self.load_meta(meta.unwrap_or_default())?;
            return Ok(true);
        }
        let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == entry.job) else {
            return Ok(false);
        };
        let (mut number, mut loaded) = (0, Ok(false));
        job.tables(&mut |table: &mut dyn Table| {
            if number == entry.table {
                loaded = table.load(entry.key, value).map(|()| true);
            }
            number += 1;
        });
        loaded
    }

    fn start(&mut self) {
        let mut effects = Effects::default();
        let mut scope = Scope {
            now: self.now,
            watermark: self.multiplexer.watermark(),
            max_seen: self.max_seen(),
            origin: None,
            effects: &mut effects,
        };
        for job in &mut self.jobs {
            job.start(&mut scope);
        }
    }

    fn offsets(&self) -> Vec<(&'static str, i64)> {
        let pairs = self.app.sources.iter().zip(&self.inputs);
        pairs.filter_map(|(source, input)| Some((source.topic, input.next_offset?))).collect()
    }

    fn watermark(&self) -> Watermark {
        self.multiplexer.watermark()
    }

    fn is_idle(&self) -> bool {
        self.multiplexer.is_idle()
    }

    fn totals(&self) -> Totals {
        self.totals
    }

    fn jobs(&self) -> Vec<JobStatus> {
        self.jobs
            .iter()
            .map(|job| JobStatus {
                name: job.descriptor().name,
                stats: job.stats(),
                pending: job.pending(),
                params: job.params(),
                params_version: job.params_version(),
            })
            .collect()
    }

    fn entries(&mut self) -> usize {
        let mut entries = 0;
        for job in &mut self.jobs {
            job.tables(&mut |table| entries += table.len());
        }
        entries
    }
}
