//! Bodies of the gateway's REST interface under `/api/v1`. Errors are [`Problem`] (`application/problem+json`).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ledger::JobCount;
use crate::scenario::Scenario;
use crate::telemetry::Provoked;

/// What a user may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Change rates, parameters and checkpoints, provoke scenarios.
    Operator,
    /// Everything.
    Admin,
}

/// `POST /session`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password.
    pub password: String,
}

/// `GET /session`, and the answer to `POST /session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Name.
    pub username: String,
    /// Role.
    pub role: Role,
    /// When it ends, epoch ms.
    pub expires_at_ms: i64,
}

/// RFC 9457.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// `/problems/<kind>`.
    pub r#type: String,
    /// What happened.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Why, and what to do.
    pub detail: String,
}

/// A list with the time at which it was true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing<T> {
    /// When this was read from its source, epoch ms.
    pub as_of_ms: i64,
    /// Why it is old or incomplete, if it is.
    pub problem: Option<String>,
    /// What there is.
    pub items: Vec<T>,
}

/// `GET /topics`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TopicView {
    /// Name.
    pub name: String,
    /// `raw`, `reference`, `result`, `side`, `internal`, `other`.
    pub kind: String,
    /// Partitions.
    pub partitions: Vec<PartitionView>,
    /// Replicas of a partition.
    pub replication: u32,
    /// Records written per second over all partitions (end offsets' growth; transaction markers count).
    pub records_per_s: f64,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PartitionView {
    /// Number.
    pub partition: i32,
    /// Broker that leads it; -1 if none does.
    pub leader: i32,
    /// In-sync replicas.
    pub in_sync: Vec<i32>,
    /// First offset still there.
    pub log_start: i64,
    /// Next offset to be written.
    pub high_watermark: i64,
    /// Last stable offset: readers of committed records may read up to here.
    pub last_stable: i64,
    /// Since when it has stood still below the high watermark, epoch ms: a transaction is open there for so long.
    pub open_since_ms: Option<i64>,
}

/// `GET /groups`: lag of a consumer group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    /// Group id.
    pub group: String,
    /// Sum over its partitions, records.
    pub lag_records: i64,
    /// The largest of its partitions: age of the oldest record not yet committed, seconds; `None` if unknown.
    pub lag_seconds: Option<f64>,
    /// Change of `lag_records` per second over the last 30 s; negative when it catches up.
    pub trend_per_s: f64,
    /// Its partitions.
    pub partitions: Vec<GroupPartition>,
}

/// A partition as a group sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupPartition {
    /// Topic.
    pub topic: String,
    /// Number.
    pub partition: i32,
    /// Committed offset; `None` before the first commit.
    pub committed: Option<i64>,
    /// End offset that the group can read up to.
    pub end: i64,
    /// `end - max(committed, log start)`, records.
    pub lag_records: i64,
    /// Age of the oldest record not yet committed, seconds.
    pub lag_seconds: Option<f64>,
}

/// `GET /jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// `app/job` written as `app.job`: the id in paths.
    pub id: String,
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
}

/// `GET|PUT /jobs/{j}/params`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParamsView {
    /// Values in force.
    pub params: Map<String, Value>,
    /// JSON Schema of the values.
    pub schema: Value,
    /// Version in force; -1 for the defaults.
    pub version: i64,
}

/// Body of `PUT /jobs/{j}/params`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamsChange {
    /// Values to change; the others stay.
    pub params: Map<String, Value>,
}

/// Body of `PUT /producers/{p}/rate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateChange {
    /// Events per second.
    pub rate: f64,
}

/// Body of `POST /producers/{p}/scenario`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioStart {
    /// Which; `GET /producers` says what fits a stream.
    pub name: Scenario,
    /// For how long, s.
    #[serde(default = "half_a_minute")]
    pub seconds: u32,
}

fn half_a_minute() -> u32 {
    30
}

/// Answer to a change: what became of the command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Its version: the offset in `millrace.control`.
    pub version: i64,
    /// Whether every process concerned has applied it.
    pub applied: bool,
    /// Request to the last acknowledgement, ms; `None` while some process has not answered.
    pub acknowledged_ms: Option<f64>,
    /// Processes that have not answered in time, or what they said against it.
    pub waiting_for: Vec<String>,
}

/// `GET /producers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProducerView {
    /// Stream (topic).
    pub stream: String,
    /// Events/s asked for.
    pub target_rate: f64,
    /// Events/s acknowledged by Kafka.
    pub rate: f64,
    /// Largest rate that can be asked for, events/s.
    pub max_rate: f64,
    /// What is provoked now.
    pub scenario: Option<Provoked>,
    /// What can be provoked.
    pub scenarios: Vec<Scenario>,
    /// The latest error, if delivery is failing now.
    pub error: Option<String>,
}

/// `GET /results/{index}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultsPage {
    /// Documents that match.
    pub total: u64,
    /// Newest first.
    pub items: Vec<Value>,
    /// Pass as `after` for the next page; absent at the end.
    pub next: Option<String>,
}

/// `GET /ready`: whether the gateway can do its work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// `ready`, `degraded` (without Elasticsearch, everything but past results works) or `not ready`.
    pub status: String,
    /// What it needs.
    pub dependencies: Vec<DependencyHealth>,
}

/// How one dependency is. `GET /ready`, and per component in `GET /overview`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DependencyHealth {
    /// `kafka`, `elasticsearch`, `database`.
    pub name: String,
    /// Whether it answers.
    pub ok: bool,
    /// What it said last.
    pub detail: String,
}

/// `GET /ledger`: what has become of every record, since the apps' first start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// When its newest entry was written, epoch ms; 0 before the first.
    pub as_of_ms: i64,
    /// Whether there are no findings.
    pub balanced: bool,
    /// What does not balance, with its place.
    pub findings: Vec<String>,
    /// Results of all jobs, those included that were emitted again after a savepoint was restored.
    pub emitted: u64,
    /// Documents in Elasticsearch; `None` while it does not answer.
    pub indexed: Option<u64>,
    /// Per app and partition.
    pub partitions: Vec<LedgerPartition>,
}

/// A task in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerPartition {
    /// App.
    pub app: String,
    /// Partition of its streams.
    pub partition: i32,
    /// The worker that wrote it.
    pub component: String,
    /// When, epoch ms.
    pub at_ms: i64,
    /// How far they are read.
    pub streams: Vec<LedgerStream>,
    /// Records read from them.
    pub records: u64,
    /// Malformed ones among them.
    pub dead: u64,
    /// Per job.
    pub jobs: Vec<JobCount>,
    /// What does not balance.
    pub findings: Vec<String>,
}

/// A partition of a stream in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerStream {
    /// Topic.
    pub topic: String,
    /// Next offset to read, as the ledger says.
    pub read_to: i64,
    /// The same as the consumer group says, a second ago at most; `None`: not known.
    pub committed: Option<i64>,
    /// The partition's high watermark, a second ago at most; `None`: not known.
    pub log_end: Option<i64>,
}
