//! Checkpoints: a task's committed state at an `object_store` URL. They bound how much of the changelog a recovery has
//! to read; the changelog alone would do.
//!
//! ```text
//! commit ─► Changes ─(10 s: handed over)─► Chain ─► 000000000007-<ms>.delta, .json ─► what no one names is removed
//! ```
//!
//! What a task writes to its changelog is also kept here, the newest value of each key. A checkpoint hands that over to
//! a background task and goes on: the worker is held up for microseconds, however large the state. The background task
//! writes it as a *delta* behind the files of the checkpoint before; when there are many deltas, or large ones, it
//! merges all of them into a new *base*. `<app>/<partition>/<id>-<ms>.json` is the manifest: it names the files that
//! make up the checkpoint, with length and SHA-256, carries its own, and is written last: without a manifest there is no
//! checkpoint.
//!
//! Of a task whose state is on disk, at most 20,000 changes are held. A base is read from a snapshot of its
//! store and written piece by piece; it is due too when there were more changes than that.
//!
//! Kept are the newest three, and the newest of the chain before, so that a damaged base is not the end of all of them.
//! A checkpoint of which anything is torn, missing or damaged is passed over for the one before it, and telemetry says so.

mod chain;
mod changes;
mod collector;
mod format;
mod manifest;
mod pieces;
mod store;

pub use chain::Chain;
pub use changes::Changes;
pub use collector::Collector;
pub use format::{Damaged, Encoded, Entry, entries, merged};
pub use manifest::{FORMAT, File, Manifest, Unreadable, digest, seal};
pub use store::{Found, Loaded, ReadError, Store};

/// How many checkpoints of a task are kept.
pub const RETAINED: usize = 3;

/// State that was saved longer ago is not used: Kafka keeps a record that says that a key is gone for 24 h
/// (`delete.retention.ms`), so in the changelog behind it one may be missing, and the key would be back.
pub const TOO_OLD_MS: i64 = 23 * 3_600_000;
