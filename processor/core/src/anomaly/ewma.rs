use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Detector, InvalidDetector, Refused, Score, accept, check};
use crate::time::EventTime;

/// Exponentially weighted mean and variance, as a z-score.
///
/// `d = x - mean; mean += alpha d; variance = (1 - alpha) (variance + alpha d^2)`, from `mean = x_1`, `variance = 0`
/// (Finch, "Incremental calculation of weighted mean and variance", 2009, section 9). The score is `d / sqrt(variance)`
/// with the mean and variance before `x`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ewma {
    /// Weight of the newest value, between 0 and 1: about `2 / (n + 1)` remembers n values.
    pub alpha: f64,
    /// Anomalous beyond so many standard deviations.
    pub threshold: f64,
    /// Values before the first that can be anomalous; at least 2.
    pub warm_up: u64,
    /// Least standard deviation, in the unit of the values.
    pub min_scale: f64,
}

impl Default for Ewma {
    fn default() -> Self {
        Self { alpha: 0.1, threshold: 3.0, warm_up: 30, min_scale: 1e-9 }
    }
}

/// What an [`Ewma`] has learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EwmaState {
    pub(super) seen: u64,
    pub(super) mean: f64,
    pub(super) variance: f64,
}

impl Detector for Ewma {
    type State = EwmaState;

    fn validate(&self) -> Result<(), InvalidDetector> {
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            return Err(InvalidDetector::Alpha(self.alpha));
        }
        check(self.threshold, self.min_scale, self.warm_up, 2, u64::MAX)
    }

    fn observe(&self, state: &mut EwmaState, value: f64, _: EventTime) -> Result<Score, Refused> {
        let value = accept(value)?;
        let score = if state.seen == 0 {
            *state = EwmaState { seen: 0, mean: value, variance: 0.0 };
            Score::nothing(value)
        } else {
            let scale = state.variance.sqrt().max(self.min_scale);
            Score::of(value, state.mean, scale, self.threshold, state.seen < self.warm_up)
        };
        let difference = value - state.mean;
        let step = self.alpha * difference;
        state.mean += step;
        state.variance = (1.0 - self.alpha) * (state.variance + difference * step);
        state.seen = state.seen.saturating_add(1);
        Ok(score)
    }
}
