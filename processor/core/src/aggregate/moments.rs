use serde::{Deserialize, Serialize};

use crate::time::EventTime;
use crate::window::Aggregate;

/// Count, mean and sum of squared deviations of the values so far: mean and variance in one pass, without the
/// cancellation of `E[x^2] - E[x]^2`.
///
/// One value: `d = x - mean; mean += d / n; m2 += d * (x - mean)` (Welford, "Note on a method for calculating corrected
/// sums of squares and products", 1962). Two sets: `d = mean_b - mean_a; mean = mean_a + d n_b / n; m2 = m2_a + m2_b +
/// d^2 n_a n_b / n` (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
/// 1979).
///
/// ```
/// use millrace_core::aggregate::Moments;
/// let mut moments = Moments::default();
/// [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].into_iter().for_each(|x| moments.add(x));
/// assert_eq!((moments.mean(), moments.variance()), (Some(5.0), Some(4.0)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    count: u64,
    mean: f64,
    m2: f64,
}

#[allow(clippy::cast_precision_loss)]
impl Moments {
    /// Adds a value. The caller has made sure that it is finite.
    pub fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.m2 += before * (value - self.mean);
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let difference = other.mean - self.mean;
        self.count = self.count.saturating_add(other.count);
        self.mean += difference * (b / (a + b));
        self.m2 += other.m2 + difference * difference * (a * (b / (a + b)));
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; `None` without one.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Their variance as a population: `m2 / n`; `None` without one.
    pub fn variance(&self) -> Option<f64> {
        (self.count > 0).then(|| self.m2 / self.count as f64)
    }

    /// Variance of what they are a sample of: `m2 / (n - 1)`; `None` for fewer than two.
    pub fn sample_variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.m2 / (self.count - 1) as f64)
    }
}

/// Variance of the values, of SQL's two kinds. `None` for too few.
#[derive(Debug, Clone, Copy)]
pub struct Variance<F> {
    value: F,
    sample: bool,
}

impl<F> Variance<F> {
    /// `VAR_POP`: `m2 / n`.
    pub const fn population(value: F) -> Self {
        Self { value, sample: false }
    }

    /// `VAR_SAMP`: `m2 / (n - 1)`.
    pub const fn sample(value: F) -> Self {
        Self { value, sample: true }
    }
}

impl<I, F: Fn(&I) -> f64> Aggregate<I> for Variance<F> {
    type Acc = Moments;
    type Out = Option<f64>;

    fn create(&self) -> Moments {
        Moments::default()
    }

    fn add(&self, acc: &mut Moments, record: &I, _: EventTime) {
        let value = (self.value)(record);
        if value.is_finite() {
            acc.add(value);
        }
    }

    fn merge(&self, acc: &mut Moments, other: &Moments) {
        acc.merge(other);
    }

    fn result(&self, acc: &Moments) -> Option<f64> {
        if self.sample { acc.sample_variance() } else { acc.variance() }
    }
}

/// Standard deviation of the values: the square root of their [`Variance`].
#[derive(Debug, Clone, Copy)]
pub struct StdDev<F>(Variance<F>);

impl<F> StdDev<F> {
    /// `STDDEV_POP`.
    pub const fn population(value: F) -> Self {
        Self(Variance::population(value))
    }

    /// `STDDEV_SAMP`.
    pub const fn sample(value: F) -> Self {
        Self(Variance::sample(value))
    }
}

impl<I, F: Fn(&I) -> f64> Aggregate<I> for StdDev<F> {
    type Acc = Moments;
    type Out = Option<f64>;

    fn create(&self) -> Moments {
        Moments::default()
    }

    fn add(&self, acc: &mut Moments, record: &I, at: EventTime) {
        self.0.add(acc, record, at);
    }

    fn merge(&self, acc: &mut Moments, other: &Moments) {
        acc.merge(other);
    }

    fn result(&self, acc: &Moments) -> Option<f64> {
        Aggregate::<I>::result(&self.0, acc).map(f64::sqrt)
    }
}
