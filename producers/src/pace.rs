//! How many events are due, without drift: after `t` seconds at rate `r`, `floor(t * r)` have been due, however
//! irregularly one asks.

use std::time::Duration;

/// A stream that has fallen behind, because Kafka took its time, sends at most what this long makes due; what is older
/// is forgone and counted, so that recovery is no flood.
pub const CATCH_UP: Duration = Duration::from_secs(1);

/// The pace of one stream. Time is a duration since any fixed moment.
#[derive(Debug, Clone)]
pub struct Pace {
    rate: f64,
    since: Duration,
    /// Part of an event that was owed at `since`.
    credit: f64,
    /// Events sent or forgone after `since`.
    settled: u64,
    forgone: u64,
}

impl Pace {
    /// Starts at `now` with `rate` events/s.
    pub fn new(now: Duration, rate: f64) -> Self {
        Self { rate, since: now, credit: 0.0, settled: 0, forgone: 0 }
    }

    /// Events that should be sent now. Report the ones that were with [`Pace::sent`].
    pub fn due(&mut self, now: Duration) -> u64 {
        let due = (self.owed(now).floor() as u64).saturating_sub(self.settled);
        let bound = (self.rate * CATCH_UP.as_secs_f64()).ceil() as u64;
        let excess = due.saturating_sub(bound);
        self.settled += excess;
        self.forgone += excess;
        due - excess
    }

    /// `count` of the events that were due have been sent.
    pub fn sent(&mut self, count: u64) {
        self.settled += count;
    }

    /// Goes on at another rate. What is due and not sent is forgone, so that a change takes effect at once; the part of
    /// an event that has accrued is kept, so that frequent changes lose nothing.
    pub fn set_rate(&mut self, now: Duration, rate: f64) {
        let left = (self.owed(now) - self.settled as f64).max(0.0);
        self.forgone += left.floor() as u64;
        self.credit = left.fract();
        self.since = now;
        self.settled = 0;
        self.rate = rate;
    }

    /// Events/s.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Events that were due and were never sent.
    pub fn forgone(&self) -> u64 {
        self.forgone
    }

    fn owed(&self, now: Duration) -> f64 {
        self.credit + now.saturating_sub(self.since).as_secs_f64() * self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    /// Asks at irregular moments, on average every 10 ms, and sends all that is due; returns how much that was.
    fn run(pace: &mut Pace, random: &mut Random, from: Duration, to: Duration) -> u64 {
        let (mut now, mut sent) = (from, 0);
        while now < to {
            now = (now + Duration::from_secs_f64(random.between(0.001, 0.019))).min(to);
            let due = pace.due(now);
            pace.sent(due);
            sent += due;
        }
        sent
    }

    #[test]
    fn hours_at_odd_rates_do_not_drift() {
        let mut random = Random::new(7, 0);
        for rate in [0.0, 0.013, 1.0 / 3.0, 7.77, 99.99, 1234.5678, 50_000.0] {
            let mut pace = Pace::new(Duration::from_secs(5), rate);
            let sent = run(&mut pace, &mut random, Duration::from_secs(5), Duration::from_secs(5 + 3 * 3600));
            assert_eq!(sent, (3.0 * 3600.0 * rate).floor() as u64, "rate {rate}");
            assert_eq!(pace.forgone(), 0);
        }
    }

    #[test]
    fn changes_of_rate_neither_burst_nor_lose() {
        let mut random = Random::new(8, 0);
        let mut pace = Pace::new(Duration::ZERO, 0.0);
        let (mut now, mut expected, mut sent) = (Duration::ZERO, 0.0, 0);
        for _ in 0..2_000 {
            let rate = random.between(0.0, 1_000.0);
            pace.set_rate(now, rate);
            assert_eq!(pace.due(now), 0, "a change alone makes nothing due");
            let until = now + Duration::from_secs_f64(random.between(0.0, 2.0));
            sent += run(&mut pace, &mut random, now, until);
            expected += (until - now).as_secs_f64() * rate;
            now = until;
        }
        assert!((sent as f64 - expected).abs() < 2.0, "{sent} of {expected}");
    }

    #[test]
    fn catching_up_is_bounded_and_counted() {
        let mut pace = Pace::new(Duration::ZERO, 100.0);
        assert_eq!(pace.due(Duration::from_secs(60)), 100);
        assert_eq!(pace.forgone(), 5_900);
        pace.sent(100);
        assert_eq!(pace.due(Duration::from_secs(60)), 0);
        assert_eq!(pace.due(Duration::from_millis(60_500)), 50);
    }

    #[test]
    fn rate_0_stops_even_a_stream_that_is_behind() {
        let mut pace = Pace::new(Duration::ZERO, 100.0);
        assert_eq!(pace.due(Duration::from_millis(500)), 50);
        pace.set_rate(Duration::from_millis(500), 0.0);
        assert_eq!(pace.due(Duration::from_secs(3600)), 0);
        assert_eq!(pace.forgone(), 50);
    }
}
