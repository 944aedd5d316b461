//! `millrace.ledger`: what has become of the records of each task, written in the transaction that commits it. The
//! record's key is `<app>/<partition>`, its value an [`Entry`] as JSON; counts are since the app's first start.

use serde::{Deserialize, Serialize};

/// Version of this format; a reader skips entries of a version that it does not know and says so.
pub const FORMAT: u32 = 1;

/// The key of a task's entry.
pub fn key(app: &str, partition: i32) -> String {
    format!("{app}/{partition}")
}

/// A task at a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// [`FORMAT`].
    pub v: u32,
    /// App.
    pub app: String,
    /// Partition of each of its sources.
    pub partition: i32,
    /// The worker that committed.
    pub component: String,
    /// When the commit began, epoch ms.
    pub at_ms: i64,
    /// Next offset of each stream that is read.
    pub streams: Vec<(String, i64)>,
    /// Records read from them.
    pub records: u64,
    /// Malformed ones among them, which are in `dead-letters`.
    pub dead: u64,
    /// Per job.
    pub jobs: Vec<JobCount>,
}

/// Results that count no longer since a savepoint was restored, although they are in their topics: the task's own count
/// has gone back. Its key is `<app>/<partition>/undone/<at_ms>`, so that each restore has its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undone {
    /// [`FORMAT`].
    pub v: u32,
    /// App.
    pub app: String,
    /// Partition of the task.
    pub partition: i32,
    /// When it was restored, epoch ms.
    pub at_ms: i64,
    /// How many results; negative if the savepoint was ahead of the task.
    pub emitted: i64,
}

/// What a job has done with what it saw. `records = filtered + late + dead + pending + done`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCount {
    /// Job.
    pub job: String,
    /// Records that it saw.
    pub records: u64,
    /// That do not concern it.
    pub filtered: u64,
    /// That came too late, which are in `late-events`.
    pub late: u64,
    /// Of its repartition topic, that can't be read: they are in `dead-letters` too.
    #[serde(default)]
    pub dead: u64,
    /// Held in open windows, by patterns and joins.
    pub pending: u64,
    /// Whose work is done.
    pub done: u64,
    /// Results.
    pub emitted: u64,
}

impl Entry {
    /// Offsets read of all streams together that no record accounts for. 0 for an app that has read its streams from
    /// their first offset; more only if the log began later; less if records were counted twice.
    pub fn unaccounted(&self) -> i64 {
        let offsets: i64 = self.streams.iter().map(|(_, next)| next).sum();
        offsets.saturating_sub(i64::try_from(self.records).unwrap_or(i64::MAX))
    }
}

impl JobCount {
    /// Whether every record is in exactly one place.
    pub fn balances(&self) -> bool {
        self.records == self.filtered + self.late + self.dead + self.pending + self.done
    }
}
