use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Detector, InvalidDetector, Refused, Score, accept, check};
use crate::time::EventTime;

/// Change against the last value, per second of event time: `(x - last) / (t - t_last)`, the backward difference quotient.
/// In the quality control of measurements it is the "step test" of the largest change that is plausible (Zahumenský,
/// "Guidelines on quality control procedures for data from automatic weather stations", WMO, 2004, time consistency check).
///
/// A value that is not later than the last one has no rate: it is not judged, and the last one stays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateOfChange {
    /// Anomalous beyond this change, in the unit of the values per second, up or down.
    pub threshold: f64,
    /// Values before the first that can be anomalous; at least 1.
    pub warm_up: u64,
}

impl Default for RateOfChange {
    fn default() -> Self {
        Self { threshold: 1.0, warm_up: 1 }
    }
}

/// What a [`RateOfChange`] has learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Last {
    seen: u64,
    value: f64,
    at: i64,
}

impl Detector for RateOfChange {
    type State = Last;

    fn validate(&self) -> Result<(), InvalidDetector> {
        check(self.threshold, 1.0, self.warm_up, 1, u64::MAX)
    }

    #[allow(clippy::cast_precision_loss)]
    fn observe(&self, state: &mut Last, value: f64, at: EventTime) -> Result<Score, Refused> {
        let value = accept(value)?;
        if state.seen > 0 && at.0 <= state.at {
            return Ok(Score { warming_up: state.seen < self.warm_up, ..Score::nothing(value) });
        }
        let score = if state.seen == 0 {
            Score::nothing(value)
        } else {
            let seconds = (at.0.saturating_sub(state.at)) as f64 / 1000.0;
            Score::of(value, state.value, seconds, self.threshold, state.seen < self.warm_up)
        };
        *state = Last { seen: state.seen.saturating_add(1), value, at: at.0 };
        Ok(score)
    }
}
