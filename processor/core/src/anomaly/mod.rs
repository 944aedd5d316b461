//! Anomaly detectors: is this value what the values before it let expect?
//!
//! A [`Detector`] is a configuration, made to be a live parameter; what it has learned is its [`Detector::State`], kept
//! per key. [`Detector::observe`] first judges a value by what was seen before it, then learns it. It always learns: a
//! level that stays becomes normal.
//!
//! | detector | expects | for |
//! |---|---|---|
//! | [`Ewma`] | an exponentially weighted mean | levels that drift |
//! | [`Welford`] | the mean of all values | levels that stay |
//! | [`Mad`] | the median of the last values | series with outliers, which hardly move it |
//! | [`Seasonal`] | the mean of the hour of the day, UTC | daily rhythms |
//! | [`RateOfChange`] | the last value | jumps |
//!
//! The rules that they share:
//! - Warm-up: the first `warm_up` values are learned and scored, but are never anomalous.
//! - Constant series: a spread below `min_scale` counts as `min_scale`, so nothing is divided by zero; with the default
//!   of 1e-9 any change of a constant series is an anomaly. Set it to what the sensor can resolve.
//! - What is no number, or beyond ±1e100 (so that no square overflows), is [`Refused`]: the state stays as it is.
//! - With nothing to compare with, the value itself is expected and the score is 0.
//!
//! ```
//! use millrace_core::anomaly::{Detector, Ewma, EwmaState};
//! use millrace_core::time::EventTime;
//!
//! let detector = Ewma { warm_up: 5, ..Ewma::default() }.validated()?;
//! let mut state = EwmaState::default();
//! for (minute, value) in [20.0, 20.1, 19.9, 20.0, 20.2, 20.1].into_iter().enumerate() {
//!     assert!(!detector.observe(&mut state, value, EventTime(minute as i64 * 60_000))?.anomalous);
//! }
//! let score = detector.observe(&mut state, 35.0, EventTime(360_000))?;
//! assert!(score.anomalous && score.value > score.upper);
//! assert!(detector.observe(&mut state, f64::NAN, EventTime(420_000)).is_err());
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod ewma;
mod mad;
mod rate;
mod seasonal;
#[cfg(test)]
mod tests;
mod welford;

pub use ewma::{Ewma, EwmaState};
pub use mad::{Mad, Sample};
pub use rate::{Last, RateOfChange};
pub use seasonal::{Hours, Seasonal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
pub use welford::Welford;

use crate::time::EventTime;

/// Judges values one by one.
pub trait Detector: Sized {
    /// What is kept per key. The default is before the first value.
    type State: Default + PartialEq + Serialize + DeserializeOwned;

    /// # Errors
    /// The first setting that is out of its limits.
    fn validate(&self) -> Result<(), InvalidDetector>;

    /// The detector, if its settings are within their limits.
    ///
    /// # Errors
    /// As [`Detector::validate`].
    fn validated(self) -> Result<Self, InvalidDetector> {
        self.validate().map(|()| self)
    }

    /// Judges a value by what was seen before it, then learns it.
    ///
    /// # Errors
    /// The value is none that can be judged; the state stays as it is.
    fn observe(&self, state: &mut Self::State, value: f64, at: EventTime) -> Result<Score, Refused>;
}

/// How unusual a value is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The value.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// Lower end of what counts as normal.
    pub lower: f64,
    /// Upper end of what counts as normal.
    pub upper: f64,
    /// How far off, with its sign: in units of the detector's spread, or per second for [`RateOfChange`]. Its size is
    /// what the threshold is compared with.
    pub score: f64,
    /// The size of the score exceeds the threshold, and the warm-up is over.
    pub anomalous: bool,
    /// The warm-up is not over.
    pub warming_up: bool,
}

impl Score {
    /// `score = (value - expected) / scale`; normal is `expected ± threshold * scale`.
    fn of(value: f64, expected: f64, scale: f64, threshold: f64, warming_up: bool) -> Self {
        let score = (value - expected) / scale;
        Self {
            value,
            expected,
            lower: expected - threshold * scale,
            upper: expected + threshold * scale,
            score,
            anomalous: !warming_up && score.abs() > threshold,
            warming_up,
        }
    }

    /// There is nothing to compare with.
    fn nothing(value: f64) -> Self {
        Self {
            value,
            expected: value,
            lower: value,
            upper: value,
            score: 0.0,
            anomalous: false,
            warming_up: true,
        }
    }
}

/// A value that can't be judged.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} can't be judged: it is not a number between -1e100 and 1e100")]
pub struct Refused(pub f64);

const LIMIT: f64 = 1e100;

fn accept(value: f64) -> Result<f64, Refused> {
    if value.abs() <= LIMIT { Ok(value) } else { Err(Refused(value)) }
}

/// A setting out of its limits.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidDetector {
    /// Of every detector.
    #[error("the threshold must be greater than 0 and at most 1e100, it is {0}")]
    Threshold(f64),
    /// Of every detector but the rate of change.
    #[error("the least scale must be from 1e-100 to 1e100, it is {0}")]
    MinScale(f64),
    /// Of every detector.
    #[error("the warm-up must be from {least} to {most} values, it is {warm_up}")]
    WarmUp {
        /// The setting.
        warm_up: u64,
        /// Fewer leave nothing to compare with.
        least: u64,
        /// With more it would never be over.
        most: u64,
    },
    /// Of [`Ewma`].
    #[error("alpha, the weight of the newest value, must be between 0 and 1, it is {0}")]
    Alpha(f64),
    /// Of [`Mad`].
    #[error("the sample must be of 3 to 4096 values, it is of {0}")]
    Size(usize),
}

fn check(threshold: f64, min_scale: f64, warm_up: u64, least: u64, most: u64) -> Result<(), InvalidDetector> {
    if !(threshold > 0.0 && threshold <= LIMIT) {
        return Err(InvalidDetector::Threshold(threshold));
    }
    if !(1e-100..=LIMIT).contains(&min_scale) {
        return Err(InvalidDetector::MinScale(min_scale));
    }
    if !(least..=most).contains(&warm_up) {
        return Err(InvalidDetector::WarmUp { warm_up, least, most });
    }
    Ok(())
}

/// For parameters: lets a job's `garde` check the detector in them.
///
/// ```
/// use garde::Validate;
/// use millrace_core::anomaly::{Mad, valid};
/// use millrace_core::params::merge;
///
/// /// What people can change.
/// #[derive(Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Validate)]
/// #[serde(default, deny_unknown_fields)]
/// struct Watch {
///     /// When a reading is an outlier.
///     #[garde(custom(valid))]
///     outlier: Mad,
/// }
/// let change = serde_json::json!({"outlier": {"size": 2}});
/// assert!(merge::<Watch>(change.as_object().unwrap()).err().unwrap().0.contains("3 to 4096"));
/// ```
///
/// # Errors
/// As [`Detector::validate`], in words.
pub fn valid<D: Detector>(detector: &D, _: &()) -> garde::Result {
    detector.validate().map_err(garde::Error::new)
}
