use crate::time::EventTime;
use crate::window::Aggregate;

/// How many records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count;

impl<I> Aggregate<I> for Count {
    type Acc = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, acc: &mut u64, _: &I, _: EventTime) {
        *acc = acc.saturating_add(1);
    }

    fn merge(&self, acc: &mut u64, other: &u64) {
        *acc = acc.saturating_add(*other);
    }

    fn result(&self, acc: &u64) -> u64 {
        *acc
    }
}

/// Sum of the values; 0 without one. Exact for whole numbers up to 2^53, else to the rounding of `f64` additions.
#[derive(Debug, Clone, Copy)]
pub struct Sum<F>(pub F);

impl<I, F: Fn(&I) -> f64> Aggregate<I> for Sum<F> {
    type Acc = f64;
    type Out = f64;

    fn create(&self) -> f64 {
        0.0
    }

    fn add(&self, acc: &mut f64, record: &I, _: EventTime) {
        let value = (self.0)(record);
        if value.is_finite() {
            *acc += value;
        }
    }

    fn merge(&self, acc: &mut f64, other: &f64) {
        *acc += other;
    }

    fn result(&self, acc: &f64) -> f64 {
        *acc
    }
}

/// Arithmetic mean of the values: sum / count. `None` without one.
#[derive(Debug, Clone, Copy)]
pub struct Avg<F>(pub F);

impl<I, F: Fn(&I) -> f64> Aggregate<I> for Avg<F> {
    /// Sum and number.
    type Acc = (f64, u64);
    type Out = Option<f64>;

    fn create(&self) -> (f64, u64) {
        (0.0, 0)
    }

    fn add(&self, acc: &mut (f64, u64), record: &I, _: EventTime) {
        let value = (self.0)(record);
        if value.is_finite() {
            *acc = (acc.0 + value, acc.1.saturating_add(1));
        }
    }

    fn merge(&self, acc: &mut (f64, u64), other: &(f64, u64)) {
        *acc = (acc.0 + other.0, acc.1.saturating_add(other.1));
    }

    #[allow(clippy::cast_precision_loss)]
    fn result(&self, acc: &(f64, u64)) -> Option<f64> {
        (acc.1 > 0).then(|| acc.0 / acc.1 as f64)
    }
}

/// Smallest value. `None` without one.
#[derive(Debug, Clone, Copy)]
pub struct Min<F>(pub F);

/// Largest value. `None` without one.
#[derive(Debug, Clone, Copy)]
pub struct Max<F>(pub F);

/// By the total order, so that 0 and -0 do not depend on who came first.
fn keep(acc: &mut Option<f64>, value: Option<f64>, better: std::cmp::Ordering) {
    let Some(value) = value.filter(|value| value.is_finite()) else { return };
    if acc.is_none_or(|best| value.total_cmp(&best) == better) {
        *acc = Some(value);
    }
}

macro_rules! extreme {
    ($name:ident, $better:ident) => {
        impl<I, F: Fn(&I) -> f64> Aggregate<I> for $name<F> {
            type Acc = Option<f64>;
            type Out = Option<f64>;

            fn create(&self) -> Option<f64> {
                None
            }

            fn add(&self, acc: &mut Option<f64>, record: &I, _: EventTime) {
                keep(acc, Some((self.0)(record)), std::cmp::Ordering::$better);
            }

            fn merge(&self, acc: &mut Option<f64>, other: &Option<f64>) {
                keep(acc, *other, std::cmp::Ordering::$better);
            }

            fn result(&self, acc: &Option<f64>) -> Option<f64> {
                *acc
            }
        }
    };
}

extreme!(Min, Less);
extreme!(Max, Greater);
