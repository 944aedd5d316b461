use serde::{Deserialize, Serialize};

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
