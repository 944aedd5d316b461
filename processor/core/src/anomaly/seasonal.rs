use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::welford::judge;
use super::{Detector, InvalidDetector, Refused, Score, accept, check};
use crate::aggregate::Moments;
use crate::time::EventTime;

const HOUR: i64 = 3_600_000;

/// One baseline for each hour of the day, UTC: the z-score of [`Welford`](super::Welford) among the values of the same
/// hour, of whichever day (seasonal means: Hyndman, Athanasopoulos, "Forecasting: principles and practice", section on
/// seasonality). Each hour warms up on its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Seasonal {
    /// Anomalous beyond so many standard deviations of the hour.
    pub threshold: f64,
    /// Values of an hour of the day before the first of it that can be anomalous; at least 2.
    pub warm_up: u64,
    /// Least standard deviation, in the unit of the values.
    pub min_scale: f64,
}

impl Default for Seasonal {
    fn default() -> Self {
        Self { threshold: 3.0, warm_up: 30, min_scale: 1e-9 }
    }
}

/// What a [`Seasonal`] has learned: 24 baselines, from midnight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Hours([Moments; 24]);

impl Hours {
    /// The baseline of the hour of the day of a time, UTC.
    pub fn at(&self, at: EventTime) -> Moments {
        self.0.get(hour(at)).copied().unwrap_or_default()
    }
}

/// 0 to 23, also before the epoch.
fn hour(at: EventTime) -> usize {
    usize::try_from(at.0.div_euclid(HOUR).rem_euclid(24)).unwrap_or(0)
}

impl Detector for Seasonal {
    type State = Hours;

    fn validate(&self) -> Result<(), InvalidDetector> {
        check(self.threshold, self.min_scale, self.warm_up, 2, u64::MAX)
    }

    fn observe(&self, state: &mut Hours, value: f64, at: EventTime) -> Result<Score, Refused> {
        let value = accept(value)?;
        let score = judge(&state.at(at), value, self.threshold, self.min_scale, self.warm_up);
        if let Some(baseline) = state.0.get_mut(hour(at)) {
            baseline.add(value);
        }
        Ok(score)
    }
}
