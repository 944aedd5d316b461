use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Checkpoint, Recovery, RecoveryPhases, StateBackend};

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
    /// Processing records.
    pub busy_ms_per_s: f64,
    /// Waiting for records.
    pub idle_ms_per_s: f64,
    /// Waiting for brokers: they take no more records yet, or have not committed yet.
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
