//! Rates from totals.

use std::collections::VecDeque;

/// Rates are means over this time.
pub const WINDOW_MS: i64 = 5_000;
/// Points older than this are forgotten (one is kept, to interpolate from): a minute and what frames may be late.
const KEEP_MS: i64 = 65_000;
/// After this silence a rate runs out instead of standing still.
const SILENCE_MS: i64 = 1_000;

/// A counter as it was seen over the last seconds. It only rises: a restart of the process that counts goes on from
/// where it was, so that no rate is negative.
#[derive(Debug, Clone)]
pub struct Meter {
    /// (time, everything counted until then), by time.
    points: VecDeque<(i64, f64)>,
    /// The counter's own value when last seen.
    raw: f64,
}

impl Meter {
    /// A counter that is seen for the first time and counted before: what it has counted is no rate.
    pub fn known(at_ms: i64, raw: f64) -> Self {
        Self { points: VecDeque::from([(at_ms, raw)]), raw }
    }

    /// A counter that started from zero after `since_ms`.
    pub fn born(since_ms: i64, at_ms: i64, raw: f64) -> Self {
        let mut meter = Self::known(since_ms.min(at_ms), 0.0);
        meter.observe(at_ms, raw, true);
        meter
    }

    /// The counter stands at `raw`. `restarted`: its process started anew since the last time.
    pub fn observe(&mut self, at_ms: i64, raw: f64, restarted: bool) {
        let (last_ms, total) = self.points.back().copied().unwrap_or((at_ms, 0.0));
        // A counter that falls without a restart lost a part (a task that moved away): that part was counted.
        let gain = if restarted { raw } else { raw - self.raw };
        self.raw = raw;
        self.points.push_back((at_ms.max(last_ms), total + gain.max(0.0)));
        while self.points.get(1).is_some_and(|&(t, _)| t < at_ms - KEEP_MS) {
            self.points.pop_front();
        }
    }

    /// Everything counted.
    pub fn total(&self) -> f64 {
        self.points.back().map_or(0.0, |&(_, total)| total)
    }

    /// Everything counted until `t`, between two sightings in proportion to time.
    fn at(&self, t: i64) -> f64 {
        let later = self.points.partition_point(|&(at, _)| at < t);
        match (later.checked_sub(1).and_then(|i| self.points.get(i)), self.points.get(later)) {
            (Some(&(t0, v0)), Some(&(t1, v1))) if t1 > t0 => {
                v0 + (v1 - v0) * (t - t0) as f64 / (t1 - t0) as f64
            }
            (Some(&(_, v)), _) | (None, Some(&(_, v))) => v,
            (None, None) => 0.0,
        }
    }

    /// Counted in (`from`, `to`].
    pub fn gain(&self, from_ms: i64, to_ms: i64) -> f64 {
        (self.at(to_ms) - self.at(from_ms)).max(0.0)
    }

    /// Per second over the last [`WINDOW_MS`].
    pub fn rate(&self, now_ms: i64) -> f64 {
        let (Some(&(first, _)), Some(&(last, _))) = (self.points.front(), self.points.back()) else {
            return 0.0;
        };
        let end = if now_ms - last < SILENCE_MS { last } else { now_ms };
        let start = (end - WINDOW_MS).max(first);
        if end <= start { 0.0 } else { self.gain(start, end) * 1000.0 / (end - start) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(per_frame: f64) -> Meter {
        let mut meter = Meter::known(0, 1_000.0);
        for i in 1..=50 {
            meter.observe(i * 200, 1_000.0 + per_frame * i as f64, false);
        }
        meter
    }

    #[test]
    fn a_steady_counter_has_its_rate() {
        let meter = steady(20.0);
        assert!((meter.rate(10_050) - 100.0).abs() < 1e-6);
        assert!((meter.gain(8_500, 9_500) - 100.0).abs() < 1e-6, "interpolated inside of frames");
        assert!((meter.total() - 2_000.0).abs() < 1e-6);
    }

    #[test]
    fn a_restart_gives_no_negative_rate_and_no_jump() {
        let mut meter = steady(20.0);
        meter.observe(10_200, 15.0, true);
        meter.observe(10_400, 35.0, false);
        let rate = meter.rate(10_400);
        assert!((95.0..=101.0).contains(&rate), "{rate}");
        assert!((meter.total() - 2_035.0).abs() < 1e-6);
    }

    #[test]
    fn a_part_that_moves_away_is_no_loss() {
        let mut meter = steady(20.0);
        meter.observe(10_200, 100.0, false);
        meter.observe(10_400, 120.0, false);
        assert!((meter.total() - 2_020.0).abs() < 1e-6);
    }

    #[test]
    fn a_silent_process_runs_out() {
        let meter = steady(20.0);
        assert!(meter.rate(13_000) < 60.0);
        assert!(meter.rate(16_000).abs() < 1e-9);
    }

    #[test]
    fn a_counter_born_between_frames_counts_from_zero() {
        let meter = Meter::born(1_000, 1_200, 20.0);
        assert!((meter.rate(1_200) - 100.0).abs() < 1e-6);
    }
}
