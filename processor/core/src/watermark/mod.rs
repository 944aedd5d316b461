//! Progress of event time.
//!
//! Each source partition has a [`BoundedOutOfOrderness`] generator; a [`Multiplexer`] merges them to the task's
//! watermark, which is the minimum over the partitions that are not idle and never falls. Both follow Flink
//! (`BoundedOutOfOrdernessWatermarks`, `WatermarksWithIdleness`, `WatermarkOutputMultiplexer`, release 1.20).

mod bounded;
mod multiplexer;

pub use bounded::{Bounded, BoundedOutOfOrderness, InvalidIdleTimeout, Progress};
pub use multiplexer::{Combined, Multiplexer};
