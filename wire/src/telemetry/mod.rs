//! Telemetry frames, published by every process to `millrace.telemetry` five times a second, and at once when a command
//! is acknowledged. Totals count from the start of the process (`started_ms`); rates are differences of totals.
//!
//! The record's key is the component's name, its value a [`Frame`] as JSON.

mod backend;
mod processor;
mod recovery;

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;
pub use backend::{AppBackend, StateBackend};
pub use processor::{App, Job, JobDescriptor, OpenTransaction, Processor, Task, TimeUse, WorkerState};
pub use recovery::{Checkpoint, Recovery, RecoveryPhases};

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
