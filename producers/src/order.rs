//! Event times that are out of order, as a network between sensor and broker makes them.

use millrace_wire::Timestamp;

use crate::Random;

/// How far beyond the bound a late event lies: long enough that a 5-minute window has closed, milliseconds.
const LATE_BY_MS: std::ops::Range<f64> = 360_000.0..900_000.0;

/// Shares and bounds. Shares are 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disorder {
    /// Share of events that are delayed by up to `bound_ms`.
    pub share: f64,
    /// Largest delay of those, milliseconds.
    pub bound_ms: f64,
    /// Share of events that are late: minutes beyond the bound.
    pub late_share: f64,
}

impl Disorder {
    /// Every event is in order.
    pub const NONE: Self = Self { share: 0.0, bound_ms: 0.0, late_share: 0.0 };
}

/// Gives each event its time.
#[derive(Debug, Clone)]
pub struct Order {
    disorder: Disorder,
    random: Random,
}

impl Order {
    /// An order of its own for each stream.
    pub fn new(disorder: Disorder, random: Random) -> Self {
        Self { disorder, random }
    }

    /// The time of an event that arrives at `now`.
    pub fn event_time(&mut self, now: Timestamp) -> Timestamp {
        let Disorder { share, bound_ms, late_share } = self.disorder;
        let draw = self.random.unit();
        let delay = if draw < late_share {
            bound_ms + self.random.between(LATE_BY_MS.start, LATE_BY_MS.end)
        } else if draw < late_share + share {
            self.random.between(0.0, bound_ms)
        } else {
            0.0
        };
        Timestamp(now.millis() - delay as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_bounds_are_kept() {
        let disorder = Disorder { share: 0.2, bound_ms: 2_000.0, late_share: 0.01 };
        let mut order = Order::new(disorder, Random::new(3, 0));
        let now = Timestamp(1_717_200_000_000);
        let n = 200_000;
        let delays: Vec<i64> = (0..n).map(|_| now.millis() - order.event_time(now).millis()).collect();
        let share =
            |of: &dyn Fn(i64) -> bool| delays.iter().filter(|d| of(**d)).count() as f64 / f64::from(n);
        assert!((share(&|d| d > 2_000) - 0.01).abs() < 0.001);
        assert!((share(&|d| d > 0 && d <= 2_000) - 0.2).abs() < 0.005);
        assert!(delays.iter().all(|d| (0..=2_000).contains(d) || (362_000..902_000).contains(d)));
    }

    #[test]
    fn without_disorder_time_is_now() {
        let mut order = Order::new(Disorder::NONE, Random::new(3, 0));
        assert!((0..1_000).all(|i| order.event_time(Timestamp(i)) == Timestamp(i)));
    }
}
