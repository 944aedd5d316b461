//! Telemetry frames, published by every process to `millrace.telemetry` five times a second, and at once when a command
//! is acknowledged. Totals count from the start of the process (`started_ms`); rates are differences of totals.
//!
//! The record's key is the component's name, its value a [`Frame`] as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::scenario::Scenario;

/// Version of this format; a reader skips frames of a version that it does not know and says so.
pub const FORMAT: u32 = 1;

/// One process at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// [`FORMAT`].
    pub v: u32,
    /// `processor-1`, `indexer`, `producers`, `gateway`, `launcher`.
    pub component: String,
    /// Wall clock, epoch ms.
    pub at_ms: i64,
    /// When the process started, epoch ms; a change means a restart.
    pub started_ms: i64,
    /// Its process.
    pub process: ProcessUsage,
    /// Commands applied or refused since the last frame.
    pub acks: Vec<Ack>,
    /// What it does.
    pub body: Body,
}

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// Process id.
    pub pid: u32,
    /// CPU time used since its start, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// [`crate::control::ControlRecord::id`].
    pub id: String,
    /// Its version: the offset in `millrace.control`.
    pub version: i64,
    /// When it took effect, epoch ms.
    pub at_ms: i64,
    /// Why it was refused; `None` if it is in force.
    pub refused: Option<String>,
}

/// The part of a frame that depends on the kind of process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Body {
    /// A worker process.
    Processor(Processor),
    /// The Elasticsearch indexer.
    Indexer(Indexer),
    /// The generators.
    Producers {
        /// One per stream.
        streams: Vec<Generator>,
    },
    /// The supervisor.
    Launcher {
        /// Every process that it watches.
        components: Vec<Component>,
    },
}

/// One generated stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Generator {
    /// Topic.
    pub stream: String,
    /// Events/s asked for.
    pub target_rate: f64,
    /// Version of the command that asked for it; -1 if none did.
    pub version: i64,
    /// What is provoked in it now.
    pub scenario: Option<Provoked>,
    /// Records that Kafka acknowledged.
    pub produced: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Records that Kafka refused.
    pub failed: u64,
    /// Records handed to the client and not yet acknowledged.
    pub in_flight: u64,
    /// The latest error, if delivery is failing now.
    pub error: Option<String>,
}

/// A scenario under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provoked {
    /// Which.
    pub name: Scenario,
    /// When it began, epoch ms.
    pub started_ms: i64,
    /// When it is over, epoch ms.
    pub ends_ms: i64,
    /// What should come of it, in words.
    pub provokes: String,
}

/// A worker process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Processor {
    /// Per app.
    pub apps: Vec<App>,
    /// What the jobs are; in the first frame and then every 5 s, empty otherwise.
    pub catalogue: Vec<JobDescriptor>,
    /// Time since the last frame by state, ms per second; adds up to 1000 per worker thread.
    pub time: TimeUse,
    /// Committed transactions.
    pub commits: u64,
    /// Aborted transactions.
    pub aborts: u64,
    /// Duration of the latest commit, ms.
    pub commit_ms: f64,
    /// Records in committed transactions: results, side outputs, changelogs and ledger.
    #[serde(default)]
    pub records_out: u64,
    /// Bytes of their keys and values.
    #[serde(default)]
    pub bytes_out: u64,
    /// The transaction that is open.
    #[serde(default)]
    pub transaction: Option<OpenTransaction>,
    /// Sessions that ended with an error: the worker then starts from what is committed.
    #[serde(default)]
    pub restarts: u64,
    /// Kafka's create time of a record to the commit of what came of it, microseconds and counts since the last frame.
    pub latency_us: Vec<(u64, u64)>,
    /// The state of the app that is furthest from running.
    pub state: WorkerState,
}

/// A transaction that is not committed yet.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct OpenTransaction {
    /// Since its first record, ms.
    pub age_ms: f64,
    /// Its commit has begun.
    pub committing: bool,
}

/// Milliseconds per second, Flink's names.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct TimeUse {
    /// Processing records and committing.
    pub busy_ms_per_s: f64,
    /// Waiting for records.
    pub idle_ms_per_s: f64,
    /// Waiting for the producer's queue.
    pub backpressured_ms_per_s: f64,
}

/// What a worker is doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Connecting, joining the group, or without partitions.
    #[default]
    Starting,
    /// Reading checkpoint and changelog.
    Restoring {
        /// Changelog records applied.
        records: u64,
    },
    /// Processing.
    Running,
    /// Restarting after an error.
    Retrying {
        /// The error.
        error: String,
    },
    /// Given up.
    Failed {
        /// The error.
        error: String,
    },
}

/// Where an app keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateBackend {
    /// All of it in memory.
    #[default]
    Memory,
    /// On the worker's disk, with a cache in memory: it may be larger than memory.
    Disk,
}

impl StateBackend {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// The choice of a backend for an app: `commerce=disk`.
///
/// ```
/// use millrace_wire::telemetry::{AppBackend, StateBackend};
///
/// let chosen: AppBackend = "commerce=disk".parse().unwrap();
/// assert_eq!((chosen.app.as_str(), chosen.backend), ("commerce", StateBackend::Disk));
/// assert_eq!(chosen.to_string(), "commerce=disk");
/// assert!("commerce".parse::<AppBackend>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppBackend {
    /// The app.
    pub app: String,
    /// Where its state is kept.
    pub backend: StateBackend,
}

impl FromStr for AppBackend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = [StateBackend::Memory, StateBackend::Disk];
        let parsed = text.split_once('=').and_then(|(app, name)| {
            let backend = known.into_iter().find(|backend| backend.name() == name)?;
            (!app.is_empty()).then(|| Self { app: app.to_owned(), backend })
        });
        parsed.ok_or_else(|| format!("{text:?} is not APP=memory or APP=disk"))
    }
}

impl TryFrom<String> for AppBackend {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AppBackend> for String {
    fn from(chosen: AppBackend) -> Self {
        chosen.to_string()
    }
}

impl fmt::Display for AppBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.app, self.backend.name())
    }
}

/// An app on one worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Where its state is.
    #[serde(default)]
    pub backend: StateBackend,
    /// What it is doing.
    #[serde(default)]
    pub state: WorkerState,
    /// Its tasks here.
    pub tasks: Vec<Task>,
    /// Its jobs, over the tasks here.
    pub jobs: Vec<Job>,
    /// Checkpoints completed since the last frame.
    pub checkpoints: Vec<Checkpoint>,
    /// Recoveries since the last frame.
    pub recoveries: Vec<Recovery>,
    /// How it came back the last time, since the process started.
    #[serde(default)]
    pub phases: Option<RecoveryPhases>,
}

/// How an app got its partitions on a worker, at its start, after a crash or when the group shared them anew: one phase after
/// the other, ms.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RecoveryPhases {
    /// When it had caught up, epoch ms.
    pub at_ms: i64,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// From the last commit to partitions that it did not have before, to the moment when it asked for them: a crash
    /// noticed and the process started again, or the dead one's session timed out. `None`: there was no commit.
    pub detect_ms: Option<f64>,
    /// Until the group gave it the partitions.
    pub rejoin_ms: f64,
    /// Until their state was back.
    pub restore_ms: f64,
    /// Until what had come meanwhile was processed and committed.
    pub catch_up_ms: f64,
}

impl RecoveryPhases {
    /// All of them together, ms.
    pub fn total_ms(&self) -> f64 {
        self.detect_ms.unwrap_or(0.0) + self.rejoin_ms + self.restore_ms + self.catch_up_ms
    }
}

/// One (app, partition).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Task {
    /// Partition of every topic of the app.
    pub partition: i32,
    /// Source records processed here since the process started.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Malformed ones among them.
    pub dead: u64,
    /// Event-time watermark, epoch ms; `None` before the first.
    pub watermark_ms: Option<i64>,
    /// No record for the idle timeout.
    pub idle: bool,
    /// Entries of keyed state.
    pub state_entries: u64,
    /// Next source offset to commit.
    pub offset: i64,
}

/// A job, over the tasks of one worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Records that it saw.
    pub records: u64,
    /// Records that do not concern it.
    pub filtered: u64,
    /// Records that came too late.
    pub late: u64,
    /// Results.
    pub emitted: u64,
    /// Records held in open windows.
    pub pending: u64,
    /// Version of its parameters in force at the slowest task; -1 for the defaults.
    pub params_version: i64,
    /// The parameters in force.
    pub params: Map<String, Value>,
    /// Violations of the engine's invariants: 0 unless there is a bug.
    pub violations: u64,
    /// Records that belong to windows, late ones included.
    #[serde(default)]
    pub windowed: u64,
    /// Those that came when the first window that they belong to had given its result, late ones included.
    #[serde(default)]
    pub tardy: u64,
    /// The violations by the name of the invariant; those that there have been.
    #[serde(default)]
    pub violations_by_name: BTreeMap<String, u64>,
    /// Partial matches of its patterns that a limit took, since the app's first start.
    #[serde(default)]
    pub partial_matches_dropped: u64,
}

/// What a job is, for people and forms.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobDescriptor {
    /// App.
    pub app: String,
    /// Job.
    pub job: String,
    /// One sentence.
    pub description: String,
    /// Topics that it reads.
    pub inputs: Vec<String>,
    /// Topics that it writes.
    pub outputs: Vec<String>,
    /// JSON Schema of its parameters: an object whose properties carry title, description, type, limits, default and
    /// `x-unit`.
    pub schema: Value,
    /// Whether all of its results are alerts.
    #[serde(default)]
    pub alerts: bool,
}

/// A completed checkpoint of one task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its app.
    pub app: String,
    /// Its partition.
    pub partition: i32,
    /// Rising per task.
    pub id: u64,
    /// When it was complete, epoch ms.
    pub at_ms: i64,
    /// Start to durable, ms.
    pub duration_ms: f64,
    /// How long it held up processing, ms.
    pub blocked_ms: f64,
    /// All files of it, those that it shares with the ones before included.
    pub bytes: u64,
    /// Entries of keyed state.
    pub entries: u64,
    /// The input offset that it stands at.
    pub offset: i64,
    /// Why it failed; `None` if it is durable.
    pub error: Option<String>,
    /// The file that was new: what has changed since the one before, or everything, compacted.
    pub written_bytes: u64,
    /// Number of files: a base and the deltas behind it.
    pub files: u32,
}

/// A task's state put back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Recovery {
    /// Its app.
    pub app: String,
    /// Its partition.
    pub partition: i32,
    /// When it was done, epoch ms.
    pub at_ms: i64,
    /// Start to finish, ms, of all tasks of the app that came back with this one.
    pub duration_ms: f64,
    /// Checkpoint used, if any.
    pub checkpoint: Option<u64>,
    /// Changelog offset from which state on the worker's disk was continued, if it was.
    #[serde(default)]
    pub local_offset: Option<i64>,
    /// Changelog records applied after it.
    pub changelog_records: u64,
    /// Input offset at which processing goes on.
    pub offset: i64,
    /// Newer checkpoints and local state that could not be used, and why.
    pub passed_over: Vec<String>,
}

/// The indexer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Indexer {
    /// Documents that Elasticsearch acknowledged.
    pub indexed: u64,
    /// Documents that it refused for good; they are in `dead-letters`.
    pub rejected: u64,
    /// Bulk requests that had to be repeated.
    pub retries: u64,
    /// Duration of the latest bulk request, ms.
    pub bulk_ms: f64,
    /// The latest error, if indexing is not possible now.
    pub error: Option<String>,
    /// Since when, epoch ms.
    pub error_since_ms: Option<i64>,
}

/// State of a process under the launcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentState {
    /// Started, not ready.
    #[default]
    Starting,
    /// Ready.
    Running,
    /// Died; will be started again.
    Restarting,
    /// Stopped on request.
    Stopped,
    /// Given up.
    Failed,
}

/// A process under the launcher.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Component {
    /// `kafka-1..3`, `elasticsearch`, `processor-1..N`, `indexer`, `producers`, `gateway`.
    pub name: String,
    /// What it takes of the machine, with its children.
    pub process: ProcessUsage,
    /// How it is.
    pub state: ComponentState,
    /// Restarts since the launcher started.
    pub restarts: u32,
    /// What is wrong, if something is.
    pub detail: Option<String>,
    /// TCP ports it listens on.
    pub ports: Vec<u16>,
}
