//! State on disk, for apps whose state is larger than memory (backend `disk`).
//!
//! ```text
//! task ─ changes ─► pending ─(Kafka has committed)─► one batch: entries + stamp ─► fjall
//!   ▲                                                                              │
//!   └──────────── entries that are not in its cache ◄──────────────────────────────┘
//! ```
//!
//! A worker has one [`Disk`], a task one [`TaskStore`] in it, which has all of the task's entries under the keys that they
//! have in the changelog. Beside them lies a [`Stamp`]: the offset up to which the store is the changelog. Both are
//! written in one atomic batch, and only when their transaction is committed, so what is on disk is never ahead of what
//! the changelog says; after kill -9 it may be behind, and the rest is read from there. Nothing is synced to the
//! device: Kafka has all of it.

mod disk;
mod stamp;
mod task;

pub use disk::Disk;
pub use stamp::{Log, Stamp};
pub use task::{TaskStore, Whole};
