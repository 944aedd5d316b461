use serde::{Deserialize, Serialize};

use super::InvalidAggregate;
use crate::time::EventTime;
use crate::window::Aggregate;

/// Bins per sign. At an accuracy of 1 % they span 17 orders of magnitude.
const MAX_BINS: usize = 2048;

/// Counts of values in bins whose bounds are powers of `gamma = (1 + a) / (1 - a)`: each value is known to the relative
/// accuracy `a`.
///
/// This is DDSketch (Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
/// guarantees", VLDB 2019): a value `x > 0` is in bin `ceil(log_gamma x)`, and a bin is read as `2 gamma^i / (gamma + 1)`.
/// Negative values have bins of their own, and so has zero. What is held depends on the values only, not on their order:
/// merging is exact and associative. Of more than 2048 bins of a sign, those nearest to zero fall together, and only
/// there the accuracy is lost.
///
/// It is written here because what is kept must be checked when it is read back, and restore exactly: the crates at hand
/// keep unchecked arrays (`sketches-ddsketch`), or change with the moment of writing or a random seed (t-digest, KLL).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct QuantileSketch {
    accuracy: f64,
    #[serde(skip)]
    ln_gamma: f64,
    zeros: u64,
    /// Bin and count, by bin.
    positive: Vec<(i32, u64)>,
    negative: Vec<(i32, u64)>,
}

/// As it was written, not checked yet.
#[derive(Deserialize)]
struct Stored {
    accuracy: f64,
    zeros: u64,
    positive: Vec<(i32, u64)>,
    negative: Vec<(i32, u64)>,
}

impl TryFrom<Stored> for QuantileSketch {
    type Error = &'static str;

    fn try_from(Stored { accuracy, zeros, positive, negative }: Stored) -> Result<Self, Self::Error> {
        let bins = [&positive, &negative];
        let sorted = bins.iter().all(|bins| bins.is_sorted_by(|a, b| a.0 < b.0) && bins.len() <= MAX_BINS);
        let total = bins.into_iter().flatten().try_fold(zeros, |sum, bin| sum.checked_add(bin.1));
        if !(1e-4..=0.5).contains(&accuracy) || !sorted || total.is_none() {
            return Err("not a quantile sketch");
        }
        Ok(Self { accuracy, ln_gamma: ln_gamma(accuracy), zeros, positive, negative })
    }
}

fn ln_gamma(accuracy: f64) -> f64 {
    ((1.0 + accuracy) / (1.0 - accuracy)).ln()
}

fn add(bins: &mut Vec<(i32, u64)>, bin: i32, count: u64) {
    match bins.binary_search_by_key(&bin, |bin| bin.0) {
        Ok(at) => {
            if let Some(bin) = bins.get_mut(at) {
                bin.1 = bin.1.saturating_add(count);
            }
        }
        Err(at) => {
            bins.insert(at, (bin, count));
            if bins.len() > MAX_BINS {
                let (_, lowest) = bins.remove(0);
                if let Some(first) = bins.first_mut() {
                    first.1 = first.1.saturating_add(lowest);
                }
            }
        }
    }
}

/// To 1 %.
impl Default for QuantileSketch {
    fn default() -> Self {
        Self::empty(0.01)
    }
}

impl QuantileSketch {
    /// Without values.
    ///
    /// # Errors
    /// The accuracy is not from 0.0001 to 0.5.
    pub fn new(accuracy: f64) -> Result<Self, InvalidAggregate> {
        if !(1e-4..=0.5).contains(&accuracy) {
            return Err(InvalidAggregate::Accuracy(accuracy));
        }
        Ok(Self::empty(accuracy))
    }

    fn empty(accuracy: f64) -> Self {
        let ln_gamma = ln_gamma(accuracy);
        Self { accuracy, ln_gamma, zeros: 0, positive: Vec::new(), negative: Vec::new() }
    }

    /// Adds a value `count` times. One that is not finite is left out.
    #[allow(clippy::cast_possible_truncation)]
    pub fn add(&mut self, value: f64, count: u64) {
        if !value.is_finite() || count == 0 {
            return;
        }
        // At the finest accuracy the bins go from -3.8 to 3.6 million: an i32 holds them.
        let bin = (value.abs().ln() / self.ln_gamma).ceil() as i32;
        if value > 0.0 {
            add(&mut self.positive, bin, count);
        } else if value < 0.0 {
            add(&mut self.negative, bin, count);
        } else {
            self.zeros = self.zeros.saturating_add(count);
        }
    }

    fn read(&self, bin: i32) -> f64 {
        let power = (f64::from(bin) * self.ln_gamma).exp();
        // 2 / (gamma + 1) = 1 - a. The power of the very last bin can be beyond the largest number.
        (power * (1.0 - self.accuracy)).min(f64::MAX)
    }

    /// Adds all values of another. If its accuracy differs, so that its bins do too, its values are taken as it reads them.
    pub fn merge(&mut self, other: &Self) {
        self.zeros = self.zeros.saturating_add(other.zeros);
        if self.accuracy.to_bits() == other.accuracy.to_bits() {
            other.positive.iter().for_each(|(bin, count)| add(&mut self.positive, *bin, *count));
            other.negative.iter().for_each(|(bin, count)| add(&mut self.negative, *bin, *count));
        } else {
            other.positive.iter().for_each(|(bin, count)| self.add(other.read(*bin), *count));
            other.negative.iter().for_each(|(bin, count)| self.add(-other.read(*bin), *count));
        }
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        let bins = self.positive.iter().chain(&self.negative);
        bins.fold(self.zeros, |sum, bin| sum.saturating_add(bin.1))
    }

    /// The value of rank `floor(q (n - 1))`, counted from 0 at the smallest, to the relative accuracy; `None` without
    /// values.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let last = self.count().checked_sub(1)?;
        let mut rank = ((q.clamp(0.0, 1.0) * last as f64) as u64).min(last);
        let negative = self.negative.iter().rev().map(|(bin, count)| (-self.read(*bin), *count));
        let positive = self.positive.iter().map(|(bin, count)| (self.read(*bin), *count));
        for (value, count) in negative.chain([(0.0, self.zeros)]).chain(positive) {
            match rank.checked_sub(count) {
                Some(rest) => rank = rest,
                None => return Some(value),
            }
        }
        None
    }
}

/// A quantile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// From 0 to 1.
    pub q: f64,
    /// The value.
    pub value: f64,
}

/// Quantiles of the values, each to a relative accuracy: see [`QuantileSketch`]. None without values.
///
/// ```
/// use millrace_core::aggregate::Quantiles;
/// use millrace_core::time::EventTime;
/// use millrace_core::window::Aggregate;
///
/// let quantiles = Quantiles::new(|ms: &f64| *ms, 0.01, &[0.5, 0.99])?;
/// let mut acc = quantiles.create();
/// (1..=1000).for_each(|ms| quantiles.add(&mut acc, &f64::from(ms), EventTime(0)));
/// let p99 = quantiles.result(&acc)[1];
/// assert!(p99.q == 0.99 && (p99.value - 990.0).abs() <= 9.9);
/// # Ok::<_, millrace_core::aggregate::InvalidAggregate>(())
/// ```
#[derive(Debug, Clone)]
pub struct Quantiles<F> {
    value: F,
    empty: QuantileSketch,
    quantiles: Vec<f64>,
}

impl<F> Quantiles<F> {
    /// These quantiles of `value`, to this relative accuracy: 0.01 is 1 %.
    ///
    /// # Errors
    /// An accuracy that is not from 0.0001 to 0.5, a quantile that is not from 0 to 1.
    pub fn new(value: F, accuracy: f64, quantiles: &[f64]) -> Result<Self, InvalidAggregate> {
        if let Some(q) = quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
            return Err(InvalidAggregate::Quantile(*q));
        }
        Ok(Self { value, empty: QuantileSketch::new(accuracy)?, quantiles: quantiles.to_vec() })
    }
}

impl<I, F: Fn(&I) -> f64> Aggregate<I> for Quantiles<F> {
    type Acc = QuantileSketch;
    type Out = Vec<Quantile>;

    fn create(&self) -> QuantileSketch {
        self.empty.clone()
    }

    fn add(&self, acc: &mut QuantileSketch, record: &I, _: EventTime) {
        acc.add((self.value)(record), 1);
    }

    fn merge(&self, acc: &mut QuantileSketch, other: &QuantileSketch) {
        acc.merge(other);
    }

    fn result(&self, acc: &QuantileSketch) -> Vec<Quantile> {
        self.quantiles.iter().filter_map(|&q| Some(Quantile { q, value: acc.quantile(q)? })).collect()
    }
}
