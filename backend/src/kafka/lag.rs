//! Lag in records and in seconds. Pure.

use std::collections::VecDeque;

/// How long ends are remembered: a group that is further behind has no known lag in seconds.
const KEEP_MS: i64 = 900_000;
/// The trend is over this time.
const TREND_MS: i64 = 30_000;
/// A topic's rate is over this time.
const RATE_MS: i64 = 5_000;

/// A value over time.
#[derive(Debug, Default, Clone)]
pub struct History {
    points: VecDeque<(i64, i64)>,
}

impl History {
    /// `value` at `at_ms`.
    pub fn push(&mut self, at_ms: i64, value: i64) {
        // A flat stretch needs only its two ends.
        let flat = |p: Option<&(i64, i64)>| p.is_some_and(|&(_, v)| v == value);
        let n = self.points.len();
        if flat(self.points.back()) && flat(n.checked_sub(2).and_then(|i| self.points.get(i))) {
            self.points.pop_back();
        }
        self.points.push_back((at_ms, value));
        while self.points.get(1).is_some_and(|&(t, _)| t < at_ms - KEEP_MS) {
            self.points.pop_front();
        }
    }

    /// When the value passed `mark`: between two points in proportion. `None` if that is older than the history, or if
    /// it has not passed.
    pub fn passed(&self, mark: i64) -> Option<f64> {
        let above = self.points.iter().position(|&(_, v)| v > mark)?;
        let (&(t0, v0), &(t1, v1)) = (self.points.get(above.checked_sub(1)?)?, self.points.get(above)?);
        // The record at `mark` made the end go from `mark` to `mark + 1`.
        Some(t0 as f64 + (t1 - t0) as f64 * (mark + 1 - v0) as f64 / (v1 - v0).max(1) as f64)
    }

    fn slope(&self, window_ms: i64) -> f64 {
        let Some(&(t1, v1)) = self.points.back() else { return 0.0 };
        let from = self.points.partition_point(|&(t, _)| t < t1 - window_ms);
        // Inside a flat stretch that began earlier, its value holds at the window's start too.
        match (from.checked_sub(1).and_then(|i| self.points.get(i)), self.points.get(from)) {
            (Some(&(_, before)), Some(&(_, v0))) if before == v0 => {
                (v1 - v0) as f64 * 1000.0 / window_ms as f64
            }
            (_, Some(&(t0, v0))) if t1 > t0 => (v1 - v0) as f64 * 1000.0 / (t1 - t0) as f64,
            _ => 0.0,
        }
    }

    /// Change per second over the last 30 s.
    pub fn trend(&self) -> f64 {
        self.slope(TREND_MS)
    }

    /// Growth per second over the last 5 s.
    pub fn growth(&self) -> f64 {
        self.slope(RATE_MS).max(0.0)
    }
}

/// `end - max(committed, log start)`; never negative, as the three are read one after the other.
pub fn records(end: i64, committed: Option<i64>, log_start: i64) -> i64 {
    (end - committed.unwrap_or(log_start).max(log_start)).max(0)
}

/// Age of the oldest record that is not committed.
pub fn seconds(ends: &History, now_ms: i64, end: i64, committed: Option<i64>, log_start: i64) -> Option<f64> {
    if records(end, committed, log_start) == 0 {
        return Some(0.0);
    }
    let passed = ends.passed(committed.unwrap_or(log_start).max(log_start))?;
    Some(((now_ms as f64 - passed) / 1000.0).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 records a second from offset 100.
    fn ends() -> History {
        let mut ends = History::default();
        for s in 0..=20 {
            ends.push(s * 1000, 100 + 10 * s);
        }
        ends
    }

    #[test]
    fn lag_counts_from_the_commit_or_the_log_start() {
        assert_eq!(records(100, Some(40), 0), 60);
        assert_eq!(records(100, Some(40), 70), 30, "what retention removed is no lag");
        assert_eq!(records(100, None, 70), 30);
        assert_eq!(records(100, Some(101), 0), 0, "read after the end was");
    }

    #[test]
    fn seconds_are_the_age_of_the_oldest_record_not_committed() {
        let ends = ends();
        assert_eq!(seconds(&ends, 20_000, 300, Some(300), 0), Some(0.0));
        let lag = seconds(&ends, 20_000, 300, Some(250), 0).unwrap();
        assert!((lag - 4.9).abs() < 1e-9, "record 250 came at 15.1 s: {lag}");
        assert_eq!(seconds(&ends, 20_000, 300, Some(50), 0), None, "older than the history");
    }

    #[test]
    fn a_flat_stretch_keeps_its_ends() {
        let mut ends = ends();
        for s in 21..=60 {
            ends.push(s * 1000, 300);
        }
        assert!(ends.points.len() <= 23);
        assert!(ends.growth().abs() < 1e-9);
        ends.push(61_000, 310);
        let lag = seconds(&ends, 61_000, 310, Some(300), 0).unwrap();
        assert!((0.0..=1.0).contains(&lag), "the record came in the last second: {lag}");
        assert!((ends.growth() - 2.0).abs() < 0.01, "{}", ends.growth());
    }

    #[test]
    fn the_trend_is_negative_when_a_group_catches_up() {
        let mut lag = History::default();
        for s in 0..=40 {
            lag.push(s * 1000, 1_000 - 20 * s);
        }
        assert!((lag.trend() + 20.0).abs() < 1e-9);
        assert!((ends().growth() - 10.0).abs() < 1e-9);
    }
}
