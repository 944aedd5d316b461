//! Streams that are keyed otherwise than their source: records travel through a topic to the task of their new key.
//!
//! ```text
//! task 0 ─ first stage ─┐                        ┌─ second stage ─ task 0
//! task 1 ─ first stage ─┼─ repartition topic ────┼─ second stage ─ task 1
//! task 2 ─ first stage ─┘  records and markers   └─ second stage ─ task 2
//! ```
//!
//! The topic is one more source of the app: what the first stage writes is committed with the input that it came from,
//! and what the second stage reads is committed with its results. Event time travels too: each task tells every
//! partition of the topic how far its watermark is ([`Message::Progress`]), at multiples of [`MARKER_EVERY`] ms of
//! processing time, and the second stage merges what all tasks say ([`Valve`](crate::watermark::Valve)). Its windows
//! close when the slowest task that is not idle has passed their end.
//!
//! What is in time for the first stage is in time for the second, unless its task was idle and others were faster to go
//! on: a task's records and markers keep their order. A task that was away asks, and waits until those that it knows as
//! idle have said that they are ([`Task::resume`](crate::task::Task::resume)).
//!
//! [`Stream::combine`](crate::stream::Stream::combine) aggregates in the first stage, for the time between two commits: a
//! key that all records share costs the topic a record per task, slice and commit, however many there are.
//!
//! ```
//! use millrace_core::aggregate::{Count, Sum};
//! use millrace_core::params::NoParams;
//! use millrace_core::repartition::Merge;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//! use millrace_core::window::WindowSpec;
//!
//! fn totals() -> Box<dyn Job<u32>> {
//!     let aggregate = || (Count, Sum(|n: &u32| f64::from(*n)));
//!     job::<u32, NoParams>("totals", "Number and sum of all numbers, per minute.")
//!         .source(|n: &u32| Some(n))
//!         .combine(1_000, |_| "all", aggregate())
//!         .repartition("totals.repartition", |partial| &partial.key, move |partials| {
//!             partials
//!                 .key_by(|partial| &partial.key)
//!                 .window(|_| WindowSpec::tumbling(60_000))
//!                 .aggregate(Merge::<_, u32>::new(aggregate()))
//!                 .map(|result, _, _| result.value)
//!                 .to(|_| ("totals", "all"))
//!         })
//! }
//! let mut test = Harness::new(totals);
//! for n in 1..=100 {
//!     test.record(&n, 1_000);
//! }
//! test.watermark(59_999);
//! assert_eq!(test.emitted("totals"), [serde_json::json!([100, 5050.0])]);
//! ```

mod combine;
mod message;
mod stage;
#[cfg(test)]
mod tests;

pub use combine::{Combine, Merge, Partial};
pub use message::Message;
pub(crate) use message::progress;
pub use stage::SecondStage;

/// Tasks tell how far they are at multiples of it, ms of processing time, unless they become idle or active.
pub const MARKER_EVERY: i64 = 1_000;
