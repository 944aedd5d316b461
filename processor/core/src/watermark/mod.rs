//! Progress of event time.
//!
//! Each source partition has a [`Generator`], as the [`Order`] of its stream asks for: [`BoundedOutOfOrderness`], or
//! [`Punctuated`] if its records carry watermarks.
//! A [`Multiplexer`] merges them to the task's watermark, which is the minimum over the partitions that are not idle and
//! never falls. A [`Valve`] merges the channels of a stream that was repartitioned on its way.
//!
//! All follow Flink (`BoundedOutOfOrdernessWatermarks`, `WatermarksWithIdleness`, `WatermarkOutputMultiplexer`,
//! `StatusWatermarkValve`, release 1.20).
//!
//! ```
//! use millrace_core::watermark::{Generator, Multiplexer, Order, Progress};
//! use millrace_core::{EventTime, Watermark};
//!
//! // Two partitions, 2 s out of order at the most, idle after a second without a record.
//! let order = Order::bounded(2_000, Some(1_000));
//! let mut partitions = [Generator::new(order).unwrap(), Generator::new(order).unwrap()];
//! let mut task = Multiplexer::new(partitions.len());
//!
//! // The slower one holds the task back.
//! for (input, at) in [10_000, 60_000].into_iter().enumerate() {
//!     partitions[input].record(EventTime(at), None);
//!     task.update(input, partitions[input].watermark());
//! }
//! assert_eq!(task.combine().advanced, Some(Watermark(7_999)));
//!
//! // Until it has been silent for too long.
//! for now in [0, 1_001] {
//!     if partitions[0].tick(now) == Progress::Idle {
//!         task.set_idle(0);
//!     }
//! }
//! assert_eq!(task.combine().advanced, Some(Watermark(57_999)));
//!
//! // What it brings when it is back does not turn the time back.
//! partitions[0].record(EventTime(11_000), None);
//! task.update(0, partitions[0].watermark());
//! assert_eq!((task.combine().advanced, task.watermark()), (None, Watermark(57_999)));
//! ```

mod bounded;
mod idleness;
mod multiplexer;
mod order;
mod punctuated;
mod valve;

pub use bounded::{Bounded, BoundedOutOfOrderness};
pub use idleness::{InvalidIdleTimeout, Progress};
pub use multiplexer::{Combined, Multiplexer};
pub use order::{Generator, Order, Standing};
pub use punctuated::Punctuated;
pub use valve::{Marker, Valve};
