//! Progress of event time.
//!
//! Each source partition has a [`Generator`], as the [`Order`] of its stream asks for: [`BoundedOutOfOrderness`], or
//! [`Punctuated`] if its records carry watermarks.
//! A [`Multiplexer`] merges them to the task's watermark, which is the minimum over the partitions that are not idle and
//! never falls. A [`Valve`] merges the channels of a stream that was repartitioned on its way.
//!
//! All follow Flink (`BoundedOutOfOrdernessWatermarks`, `WatermarksWithIdleness`, `WatermarkOutputMultiplexer`,
//! `StatusWatermarkValve`, release 1.20).

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
