//! Checkpoints: snapshots of a task's state, each with a manifest, at an `object_store` URL. They bound how much of the
//! changelog a recovery has to read; the changelog alone would do.
//!
//! `<app>/<partition>/<id>.state` holds the entries, `<id>.json` the manifest. The manifest is written last: without
//! one there is no checkpoint. The newest three are kept.

mod format;
mod store;

use millrace_core::Task;
use millrace_service::clock;
use millrace_wire::telemetry;
use serde::{Deserialize, Serialize};

pub use format::{Damaged, Snapshot, entries};
pub use store::{Loaded, Store};

/// Version of manifest and state file.
pub const FORMAT: u32 = 1;
/// How many checkpoints of a task are kept.
pub const RETAINED: usize = 3;

/// What a checkpoint holds and where it stands. Timers are not in it: they follow from the windows in the state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub version: u32,
    /// App.
    pub app: String,
    /// Partition of the task.
    pub partition: i32,
    /// Rising per task.
    pub id: u64,
    /// When it was begun, epoch ms.
    pub created_ms: i64,
    /// Begun to durable (the state file; the manifest comes after), ms.
    pub duration_ms: f64,
    /// Next offset of each source.
    pub offsets: Vec<(String, i64)>,
    /// Offset of the changelog from which the state has to be continued.
    pub changelog_offset: i64,
    /// Event-time watermark, epoch ms.
    pub watermark_ms: Option<i64>,
    /// Versions of the jobs' parameters in force.
    pub params: Vec<(String, i64)>,
    /// Entries in the state file.
    pub entries: u64,
    /// Length of the state file.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// As telemetry tells it. `blocked_ms` is how long processing was held up.
    pub fn telemetry(&self, blocked_ms: f64, error: Option<String>) -> telemetry::Checkpoint {
        telemetry::Checkpoint {
            app: self.app.clone(),
            partition: self.partition,
            id: self.id,
            at_ms: clock::now_ms(),
            duration_ms: self.duration_ms,
            blocked_ms,
            bytes: self.bytes,
            entries: self.entries,
            offset: self.offsets.first().map_or(0, |(_, offset)| *offset),
            error,
        }
    }
}

/// Takes a task's state as it is: what has just been committed.
pub fn take(
    task: &mut dyn Task,
    app: &str,
    partition: i32,
    id: u64,
    changelog_offset: i64,
) -> (Manifest, Snapshot) {
    let mut snapshot = Snapshot::default();
    task.snapshot(&mut |key, value| snapshot.push(key, value.unwrap_or_default()));
    let manifest = Manifest {
        version: FORMAT,
        app: app.to_owned(),
        partition,
        id,
        created_ms: clock::now_ms(),
        duration_ms: 0.0,
        offsets: task.offsets().into_iter().map(|(topic, offset)| (topic.to_owned(), offset)).collect(),
        changelog_offset,
        watermark_ms: task.watermark().get(),
        params: task.jobs().into_iter().map(|job| (job.name.to_owned(), job.params_version)).collect(),
        entries: snapshot.entries,
        bytes: 0,
        sha256: String::new(),
    };
    (manifest, snapshot)
}
