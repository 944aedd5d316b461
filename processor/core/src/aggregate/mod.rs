//! Aggregates for windows: what people ask of a window again and again, each mergeable, so that the slices of a sliding
//! window and sessions that meet can share them.
//!
//! | aggregate | result | exact? |
//! |---|---|---|
//! | [`Count`] | records | yes |
//! | [`Sum`], [`Avg`] | of a value | to rounding |
//! | [`Min`], [`Max`] | of a value | yes |
//! | [`Variance`], [`StdDev`] | of a value ([`Moments`]) | to rounding, numerically stable |
//! | [`TopN`] | the keys with the largest values | yes |
//! | [`DistinctCount`] | different keys (HyperLogLog) | about `1.04 / sqrt(2^lg_k)` standard error |
//! | [`Quantiles`] | of a value (DDSketch) | relative error of each at most the accuracy asked for |
//!
//! Values come from a closure. A value that is not finite is left out, as SQL leaves out `NULL`: one bad reading does not
//! turn a whole window into `NaN`. Nothing here depends on hash order or on a random seed: the same records give the same
//! accumulator, and all but the rounding of sums is independent of their order.
//!
//! Several aggregates run in one window as a tuple:
//!
//! ```
//! use millrace_core::aggregate::{Avg, Count, Max};
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//! use millrace_core::window::WindowSpec;
//!
//! type Reading = (String, f64);
//!
//! fn per_minute() -> Box<dyn Job<Reading>> {
//!     let value = |reading: &Reading| reading.1;
//!     job::<Reading, NoParams>("per-minute", "Readings of a minute.")
//!         .source(|reading: &Reading| Some(reading))
//!         .key_by(|reading| &reading.0)
//!         .window(|_| WindowSpec::tumbling(60_000))
//!         .aggregate((Count, Avg(value), Max(value)))
//!         .map(|result, _, _| result.value)
//!         .to(|_| ("minutes", ""))
//! }
//! let mut test = Harness::new(per_minute);
//! for (value, at) in [(1.0, 0), (2.0, 1), (f64::NAN, 2)] {
//!     test.record(&("a".to_owned(), value), at);
//! }
//! test.watermark(60_000);
//! assert_eq!(test.emitted("minutes"), [serde_json::json!([3, 1.5, 2.0])]);
//! ```

mod basic;
mod distinct;
mod moments;
mod quantiles;
#[cfg(test)]
mod tests;
mod top;
mod tuple;

pub use basic::{Avg, Count, Max, Min, Sum};
pub use distinct::{Distinct, DistinctCount};
pub use moments::{Moments, StdDev, Variance};
pub use quantiles::{Quantile, QuantileSketch, Quantiles};
pub use top::{Ranked, TopN};

/// An aggregate that can't be made.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidAggregate {
    /// Of a HyperLogLog sketch.
    #[error("lg_k must be from 4 to 21, it is {0}: 12 takes 4 KiB and counts to about 1.6 %")]
    LgK(u8),
    /// Of a quantile sketch.
    #[error("the relative accuracy must be from 0.0001 to 0.5, it is {0}: 0.01 is 1 %")]
    Accuracy(f64),
    /// No quantile.
    #[error("a quantile must be from 0 to 1, it is {0}: 0.99 is the 99th percentile")]
    Quantile(f64),
}
