//! The live protocol of `GET /api/v1/live` (WebSocket).
//!
//! The subprotocol names the encoding: [`POSTCARD`] (binary frames, what the page uses) or [`JSON`] (text frames,
//! externally tagged, what everyone else uses). A client that reconnects sends [`ClientMessage::Resume`] with the last
//! `seq` it saw as its first message: if that is still in the server's history (20 s) it gets the missing deltas,
//! otherwise a [`ServerMessage::Hello`]. A client that says nothing within 200 ms gets a `Hello`; a later `Resume` too is
//! answered with one. Then comes a [`ServerMessage::Delta`] per tick (5 a second). Gauges are conflated: a client that is
//! more than 2 s behind gets a fresh `Hello` with the newest. Results and alerts are bounded queues whose `skipped` says
//! how many did not fit. A `Hello` may come at any time and replaces everything.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::result::{SensorAverage, Severity};
use crate::telemetry::{
    Checkpoint, Component, OpenTransaction, Provoked, Recovery, RecoveryPhases, StateBackend, TimeUse,
    WorkerState,
};

/// Subprotocol: postcard in binary frames.
pub const POSTCARD: &str = "millrace.v1.postcard";
/// Subprotocol: JSON in text frames.
pub const JSON: &str = "millrace.v1.json";

/// What a client may say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// "I have seen everything up to `seq`."
    Resume {
        /// The last `seq` seen.
        seq: u64,
    },
    /// Answered with [`ServerMessage::Pong`].
    Ping {
        /// Returned as it is.
        nonce: u64,
    },
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// Everything, to start from.
    Hello(Box<Hello>),
    /// What is new.
    Delta(Box<Delta>),
    /// Answer to a ping.
    Pong {
        /// As given.
        nonce: u64,
    },
    /// The session has ended: sign in again.
    SignedOut,
}

/// Everything, to start from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Deltas continue from here.
    pub seq: u64,
    /// Gauges now.
    pub overview: Overview,
    /// One sample a second, oldest first, up to 10 minutes.
    pub history: Vec<Sample>,
    /// The newest alerts, oldest first, up to 50.
    pub alerts: Vec<AlertNote>,
    /// The newest averages, oldest first, up to 50.
    pub averages: Vec<SensorAverage>,
    /// The newest checkpoints, oldest first, up to 60.
    pub checkpoints: Vec<Checkpoint>,
    /// The newest recoveries, oldest first, up to 20.
    pub recoveries: Vec<Recovery>,
}

/// What is new since the message before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Rises by one a tick.
    pub seq: u64,
    /// Gauges now.
    pub overview: Overview,
    /// The sample of this second, once a second.
    pub sample: Option<Sample>,
    /// New alerts, oldest first, up to 20.
    pub alerts: Vec<AlertNote>,
    /// Alerts of this tick that did not fit.
    pub alerts_skipped: u64,
    /// New averages, oldest first, up to 50.
    pub averages: Vec<SensorAverage>,
    /// Averages of this tick that did not fit.
    pub averages_skipped: u64,
    /// New checkpoints.
    pub checkpoints: Vec<Checkpoint>,
    /// New recoveries.
    pub recoveries: Vec<Recovery>,
}

/// What all alerts have, whatever their topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertNote {
    /// See [`crate::result::alert_id`].
    pub id: String,
    /// What kind of alert it is.
    pub r#type: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whom it concerns.
    pub key: String,
    /// For people.
    pub message: String,
    /// Processing time: when the alert was made.
    pub timestamp: Timestamp,
}

/// One second of history, for the charts. Rates are means over the second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// End of the second, epoch ms.
    pub at_ms: i64,
    /// Records/s that Kafka acknowledged to the generators.
    pub produced_per_s: f64,
    /// Source records/s processed and committed.
    pub consumed_per_s: f64,
    /// Results/s committed.
    pub emitted_per_s: f64,
    /// Documents/s acknowledged by Elasticsearch.
    pub indexed_per_s: f64,
    /// End-to-end latency in this second; `None` when nothing was committed.
    pub latency: Option<Quantiles>,
    /// Lag of the processor's groups, records; `None` when Kafka did not say.
    pub lag_records: Option<i64>,
    /// The largest lag of the processor's groups, seconds.
    pub lag_seconds: Option<f64>,
    /// Lag of the indexer, records.
    pub index_lag_records: Option<i64>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Largest.
    pub max_ms: f64,
    /// Number of records.
    pub count: u64,
}

/// The gauges of the Overview page, also `GET /api/v1/overview`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Overview {
    /// When the gateway put it together, epoch ms.
    pub at_ms: i64,
    /// What is missing or old, in words: empty when all is well.
    pub problems: Vec<ProblemNote>,
    /// Generated streams.
    pub streams: Vec<StreamGauge>,
    /// Apps.
    pub apps: Vec<AppGauge>,
    /// Jobs.
    pub jobs: Vec<JobGauge>,
    /// Consumer groups.
    pub groups: Vec<GroupGauge>,
    /// Workers.
    pub workers: Vec<WorkerGauge>,
    /// The indexer.
    pub indexer: Option<IndexerGauge>,
    /// Kafka brokers that answer.
    pub brokers_up: u32,
    /// Kafka brokers that there should be.
    pub brokers_expected: u32,
    /// Processes, as the launcher sees them; empty when the platform was started without it.
    pub components: Vec<ComponentGauge>,
    /// End-to-end latency over the last 10 s.
    pub latency: Option<Quantiles>,
    /// Records that Kafka acknowledged to the generators, since their start.
    pub produced_total: u64,
    /// Source records processed, since the workers' start.
    pub consumed_total: u64,
    /// Records/s over the last 5 s.
    pub produced_per_s: f64,
    /// Records/s over the last 5 s.
    pub consumed_per_s: f64,
    /// Results/s over the last 5 s.
    pub emitted_per_s: f64,
    /// Dead letters since the workers' start.
    pub dead_total: u64,
    /// Late records since the workers' start.
    pub late_total: u64,
    /// The ledger; `None` before its first entry.
    pub ledger: Option<LedgerGauge>,
}

/// What has become of every record, since the apps' first start: see [`crate::ledger`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerGauge {
    /// When the newest entry was written, epoch ms.
    pub as_of_ms: i64,
    /// What does not balance, with its place: empty when all does.
    pub findings: Vec<String>,
    /// Records read, by all apps.
    pub records: u64,
    /// Malformed ones among them.
    pub dead: u64,
    /// Per job, over all partitions.
    pub jobs: Vec<LedgerJob>,
}

/// A job in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerJob {
    /// App.
    pub app: String,
    /// Its counts.
    pub count: crate::ledger::JobCount,
}

/// Something that is not well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemNote {
    /// Component or service.
    pub about: String,
    /// What is wrong and what follows from it.
    pub text: String,
    /// Since when, epoch ms.
    pub since_ms: i64,
}

/// A generated stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StreamGauge {
    /// Topic.
    pub stream: String,
    /// Events/s asked for.
    pub target_rate: f64,
    /// Records/s acknowledged by Kafka, over the last 5 s.
    pub rate: f64,
    /// What is provoked now.
    pub scenario: Option<Provoked>,
    /// Age of this number, ms.
    pub age_ms: i64,
    /// The latest error, if delivery is failing now.
    pub error: Option<String>,
}

/// How an app did in the last minute, over all workers. A share is `None` when there was nothing to share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AppGauge {
    /// App.
    pub app: String,
    /// Records read.
    pub records_per_min: f64,
    /// Results of the jobs that write nothing but alerts.
    pub alerts_per_min: f64,
    /// Window completeness, 0 to 1: of the records that belong to windows, those that came before the first one that they
    /// belong to had given its result.
    pub completeness: Option<f64>,
    /// Share of the records that came too late, over the jobs that they concern, 0 to 1.
    pub late_share: Option<f64>,
    /// Share of the records that are dead letters, 0 to 1.
    pub dead_share: Option<f64>,
    /// Sessions of its workers that ended with an error, and violations of the engine's invariants.
    pub errors_per_min: f64,
}

/// A job over all workers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobGauge {
    /// App.
    pub app: String,
    /// Job.
    pub job: String,
    /// Where its app keeps the state.
    #[serde(default)]
    pub backend: StateBackend,
    /// Records/s that concern it, over the last 5 s.
    pub records_per_s: f64,
    /// Results/s, over the last 5 s.
    pub emitted_per_s: f64,
    /// Results since the workers' start.
    pub emitted_total: u64,
    /// Records that came too late, since the workers' start.
    pub late_total: u64,
    /// Records held in open windows.
    pub pending: u64,
    /// The slowest task's watermark, epoch ms.
    pub watermark_ms: Option<i64>,
    /// Now minus that, ms.
    pub watermark_lag_ms: Option<i64>,
    /// That task's partition: the one that holds event time back.
    pub watermark_partition: Option<i32>,
    /// Version of the parameters in force.
    pub params_version: i64,
    /// Violations of the engine's invariants.
    pub violations: u64,
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GroupGauge {
    /// Group id.
    pub group: String,
    /// Records.
    pub lag_records: i64,
    /// Seconds.
    pub lag_seconds: Option<f64>,
    /// Records per second.
    pub trend_per_s: f64,
    /// Age of these numbers, ms.
    pub age_ms: i64,
}

/// A worker process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkerGauge {
    /// `processor-1`.
    pub component: String,
    /// What it is doing.
    pub state: WorkerState,
    /// Partitions that it has.
    pub partitions: Vec<i32>,
    /// Source records/s, over the last 5 s.
    pub records_per_s: f64,
    /// Records/s in its committed transactions, over the last 5 s.
    pub records_out_per_s: f64,
    /// Bytes/s of source records, over the last 5 s.
    pub bytes_in_per_s: f64,
    /// Bytes/s in its committed transactions, over the last 5 s.
    pub bytes_out_per_s: f64,
    /// How its time goes.
    pub time: TimeUse,
    /// The transaction that was open at the latest frame.
    pub transaction: Option<OpenTransaction>,
    /// Sessions that ended with an error, since the process started.
    pub restarts: u64,
    /// Duration of the latest commit, ms.
    pub commit_ms: f64,
    /// Commits/s, over the last 5 s.
    pub commits_per_s: f64,
    /// How the apps that run here came back the last time, since the process started: app and phases.
    pub phases: Vec<(String, RecoveryPhases)>,
    /// Age of these numbers, ms.
    pub age_ms: i64,
}

/// The indexer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct IndexerGauge {
    /// Documents/s, over the last 5 s.
    pub indexed_per_s: f64,
    /// Documents since its start.
    pub indexed_total: u64,
    /// Refused for good, since its start.
    pub rejected_total: u64,
    /// Why it can't index now.
    pub error: Option<String>,
    /// Age of these numbers, ms.
    pub age_ms: i64,
}

/// A process under the launcher.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ComponentGauge {
    /// As the launcher says.
    pub component: Component,
    /// Share of one core over the last 5 s, 0 to n.
    pub cpu: f64,
    /// Age of these numbers, ms.
    pub age_ms: i64,
}
