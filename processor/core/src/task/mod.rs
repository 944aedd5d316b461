//! Apps and their tasks. A task is one partition of every topic of an app: a deterministic state machine.
//!
//! ```
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::job;
//! use millrace_core::task::{App, Application, Input, Parsed, Record, Source, SourceKind};
//! use millrace_core::watermark::Order;
//! use millrace_core::{Effects, EventTime};
//!
//! const LETTERS: Source = Source { topic: "letters", kind: SourceKind::Stream(Order::bounded(0, None)) };
//! let app = App::<u8> {
//!     name: "letters",
//!     sources: &[LETTERS],
//!     partitions: 1,
//!     parse: |record| {
//!         let letter = *record.value.and_then(<[u8]>::first).ok_or("no letter")?;
//!         Ok(Parsed::new(letter, EventTime(record.offset)))
//!     },
//!     jobs: || vec![job::<u8, NoParams>("all", "All letters.").source(|l: &u8| Some(l)).to(|_| ("out", "all"))],
//! };
//! let mut task = app.task(0)?;
//! task.start();
//! let mut effects = Effects::default();
//! task.step(Input::Record(Record { source: 0, offset: 7, key: None, value: Some(b"x") }), &mut effects)?;
//! assert_eq!(effects.iter().count(), 1);
//!
//! // A commit writes what has changed; another task with that goes on where this one stood.
//! let mut again = app.task(0)?;
//! task.changes(&mut |key, value| assert!(again.load(key, value).is_ok_and(|known| known)));
//! again.start();
//! assert_eq!(again.offsets(), [("letters", 8)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod app;
mod division;
mod handover;
mod stored;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::app::AppTask;
pub use self::division::{Division, Share, Uneven, divide};
use crate::cep::LivePattern;
use crate::effect::Effects;
use crate::invariant::Stats;
use crate::job::{Descriptor, Job};
pub use crate::params::Refused;
use crate::state::{Change, Cold, StateError};
use crate::time::{EventTime, Watermark};
use crate::watermark::{InvalidIdleTimeout, Order};

/// How a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Its records go through the jobs and move event time, each stream by its own order.
    Stream(Order),
    /// Its records are the newest data of their keys; they are read up to the end before the streams start.
    Reference,
    /// Written by the app's own first stages for its second ones: see [`repartition`](crate::repartition).
    Repartition,
}

impl SourceKind {
    /// Whether it is a stream.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Stream(_))
    }
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
    /// The watermark that the record is marked with: no record with `time <= watermark` follows in its partition. Of no
    /// meaning unless the stream is [punctuated](Order::Punctuated).
    pub mark: Option<Watermark>,
}

impl<E> Parsed<E> {
    /// A record without a mark.
    pub fn new(event: E, at: EventTime) -> Self {
        Self { event, at, mark: None }
    }
}

/// A named set of jobs that share one consumer group and one changelog.
pub struct App<E: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What it reads.
    pub sources: &'static [Source],
    /// Partitions of each of these topics, and so the number of tasks, at its first start. Later its state knows: see
    /// [`divide`].
    pub partitions: i32,
    /// Bytes to an event, once per app.
    pub parse: fn(&Record<'_>) -> Result<Parsed<E>, Malformed>,
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

/// What is wrong with a record, in words. It goes with the record to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl From<String> for Malformed {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<&str> for Malformed {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

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
    /// A commit follows: appends what was held for the time between two commits.
    fn flush(&mut self, effects: &mut Effects);
    /// Calls `change` for every entry of state that changed since the last call.
    fn changes(&mut self, change: &mut Change<'_>);
    /// Calls `entry` for every entry of state.
    fn snapshot(&mut self, entry: &mut Change<'_>);
    /// Puts back an entry that [`Task::changes`] or [`Task::snapshot`] told. Returns false if no job knows it any more.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, StateError>;
    /// Gives a new task all of its state at once. Tables that grow with the number of keys leave it in `cold` and hold
    /// `cached` entries each, beside what one transaction touches. `cold` is told what can't be read.
    fn attach(&mut self, cold: Rc<dyn Cold>, cached: usize);
    /// The next record of a source will have this offset, whatever the state says.
    fn reposition(&mut self, topic: &str, next_offset: i64);
    /// The state is loaded; inputs follow.
    fn start(&mut self);
    /// Time has passed unseen since the state was committed, and these streams have `unread` records: they are not idle.
    /// Whether another task is, it must say again. So no record is late for having waited. Behind [`Task::start`].
    fn resume(&mut self, unread: &[&str]);
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
    /// Visits the patterns of the jobs, with the name of the job, always in the same order.
    fn patterns(&self, visit: &mut dyn FnMut(&'static str, LivePattern<'_>));
    /// Number of entries of keyed state, in memory or not.
    fn entries(&mut self) -> usize;
    /// The key of the records that an entry of state is of; `None`: of the task as a whole, or of a job that is no longer
    /// there.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn owner(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;
    /// What is to be done with its state before it may run, by an entry that was loaded.
    fn division(&self) -> Option<Division>;
    /// Behind [`Task::start`]: its state is its share of what another one had.
    fn divided(&mut self, share: Share);
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
    /// The topic that takes what its jobs emit to `topic`: that one, unless the app is a copy of another.
    fn output(&self, topic: &'static str) -> &'static str {
        topic
    }
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
