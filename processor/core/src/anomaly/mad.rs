use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::{Detector, InvalidDetector, Refused, Score, accept, check};
use crate::time::EventTime;

/// Median and median absolute deviation (MAD) of the last `size` values, as the modified z-score
/// `0.6745 (x - median) / MAD`, where `MAD = median |x_i - median|` and 0.6745 is the third quartile of the standard normal
/// distribution (Iglewicz, Hoaglin, "How to detect and handle outliers", 1993, who recommend a threshold of 3.5).
///
/// Up to half of the sample can be outliers without moving it far. The scale, `MAD / 0.6745`, is at least `min_scale`:
/// this is what counts when more than half of the sample are equal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mad {
    /// Values of the sample: 3 to 4096.
    pub size: usize,
    /// Anomalous beyond this modified z-score.
    pub threshold: f64,
    /// Values before the first that can be anomalous; from 2 to `size`.
    pub warm_up: u64,
    /// Least scale, in the unit of the values.
    pub min_scale: f64,
}

impl Default for Mad {
    fn default() -> Self {
        Self { size: 60, threshold: 3.5, warm_up: 30, min_scale: 1e-9 }
    }
}

/// Third quartile of the standard normal distribution, as the source rounds it.
const QUARTILE: f64 = 0.6745;

/// What a [`Mad`] has learned: the last values.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(from = "VecDeque<f64>")]
pub struct Sample {
    /// Oldest first.
    arrived: VecDeque<f64>,
    /// The same, smallest first.
    sorted: Vec<f64>,
}

impl From<VecDeque<f64>> for Sample {
    fn from(arrived: VecDeque<f64>) -> Self {
        let mut sorted: Vec<f64> = arrived.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { arrived, sorted }
    }
}

impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.arrived.serialize(serializer)
    }
}

impl Sample {
    /// Adds a value; the oldest make room.
    fn push(&mut self, value: f64, size: usize) {
        while self.arrived.len() >= size.max(1) {
            let Some(oldest) = self.arrived.pop_front() else { break };
            if let Ok(at) = self.sorted.binary_search_by(|other| other.total_cmp(&oldest)) {
                self.sorted.remove(at);
            }
        }
        self.arrived.push_back(value);
        let at = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(at, value);
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.arrived.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.arrived.is_empty()
    }

    /// The middle value; the mean of the two of an even number. `None` without values.
    pub fn median(&self) -> Option<f64> {
        let (low, high) =
            (self.sorted.get(self.len().checked_sub(1)? / 2)?, self.sorted.get(self.len() / 2)?);
        Some(low / 2.0 + high / 2.0)
    }

    /// Median of the distances to the median; `None` without values. Walks outwards from the median, as the distances
    /// grow on both sides.
    pub fn mad(&self) -> Option<f64> {
        let median = self.median()?;
        let right = self.sorted.partition_point(|value| *value < median);
        let (left, right) = self.sorted.split_at(right);
        let (mut left, mut right) =
            (left.iter().rev().map(|x| median - x).peekable(), right.iter().map(|x| x - median).peekable());
        let mut nearest = std::iter::from_fn(|| match (left.peek(), right.peek()) {
            (Some(l), Some(r)) if l <= r => left.next(),
            (Some(_), None) => left.next(),
            _ => right.next(),
        });
        let low = nearest.nth(self.len().checked_sub(1)? / 2)?;
        let high = if self.len().is_multiple_of(2) { nearest.next()? } else { low };
        Some(low / 2.0 + high / 2.0)
    }
}

impl Detector for Mad {
    type State = Sample;

    fn validate(&self) -> Result<(), InvalidDetector> {
        if !(3..=4096).contains(&self.size) {
            return Err(InvalidDetector::Size(self.size));
        }
        check(self.threshold, self.min_scale, self.warm_up, 2, self.size as u64)
    }

    fn observe(&self, state: &mut Sample, value: f64, _: EventTime) -> Result<Score, Refused> {
        let value = accept(value)?;
        let score = match (state.median(), state.mad()) {
            (Some(median), Some(mad)) => {
                let scale = (mad / QUARTILE).max(self.min_scale);
                Score::of(value, median, scale, self.threshold, (state.len() as u64) < self.warm_up)
            }
            _ => Score::nothing(value),
        };
        state.push(value, self.size);
        Ok(score)
    }
}
