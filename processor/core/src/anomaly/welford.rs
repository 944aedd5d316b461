use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Detector, InvalidDetector, Refused, Score, accept, check};
use crate::aggregate::Moments;
use crate::time::EventTime;

/// Mean and sample variance of all values so far, as a z-score: `(x - mean) / sqrt(m2 / (n - 1))`, by Welford's
/// recurrence, which [`Moments`] has with its source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Welford {
    /// Anomalous beyond so many standard deviations.
    pub threshold: f64,
    /// Values before the first that can be anomalous; at least 2.
    pub warm_up: u64,
    /// Least standard deviation, in the unit of the values.
    pub min_scale: f64,
}

impl Default for Welford {
    fn default() -> Self {
        Self { threshold: 3.0, warm_up: 30, min_scale: 1e-9 }
    }
}

impl Detector for Welford {
    type State = Moments;

    fn validate(&self) -> Result<(), InvalidDetector> {
        check(self.threshold, self.min_scale, self.warm_up, 2, u64::MAX)
    }

    fn observe(&self, state: &mut Moments, value: f64, _: EventTime) -> Result<Score, Refused> {
        let value = accept(value)?;
        let score = judge(state, value, self.threshold, self.min_scale, self.warm_up);
        state.add(value);
        Ok(score)
    }
}

pub(super) fn judge(before: &Moments, value: f64, threshold: f64, min_scale: f64, warm_up: u64) -> Score {
    match before.mean() {
        Some(mean) => {
            let scale = before.sample_variance().unwrap_or(0.0).sqrt().max(min_scale);
            Score::of(value, mean, scale, threshold, before.count() < warm_up)
        }
        None => Score::nothing(value),
    }
}
