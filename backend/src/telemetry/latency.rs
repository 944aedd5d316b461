//! Quantiles of the end-to-end latency, by second.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use millrace_wire::live::Quantiles;

/// Ten minutes: what is longer is shown as this.
const MAX_US: u64 = 600_000_000;
/// 1 % is precise enough for a chart, and small.
const DIGITS: u8 = 2;
const KEEP_S: i64 = 14;

/// Histograms of the last seconds.
#[derive(Default)]
pub struct Latencies {
    seconds: VecDeque<(i64, Histogram<u64>)>,
}

impl Latencies {
    /// Adds (microseconds, count) pairs of a frame made at `at_ms`.
    pub fn record(&mut self, at_ms: i64, pairs: &[(u64, u64)]) {
        if pairs.is_empty() {
            return;
        }
        let second = at_ms.div_euclid(1000);
        if !self.seconds.iter().any(|(s, _)| *s == second) {
            let Ok(histogram) = Histogram::new_with_bounds(1, MAX_US, DIGITS) else { return };
            let place = self.seconds.partition_point(|(s, _)| *s < second);
            self.seconds.insert(place, (second, histogram));
        }
        if let Some((_, histogram)) = self.seconds.iter_mut().find(|(s, _)| *s == second) {
            for &(micros, count) in pairs {
                histogram.saturating_record_n(micros.max(1), count);
            }
        }
        let newest = self.seconds.back().map_or(second, |(s, _)| *s);
        while self.seconds.front().is_some_and(|(s, _)| *s <= newest - KEEP_S) {
            self.seconds.pop_front();
        }
    }

    /// Quantiles of the `count` seconds that end at `end_ms`; `None` if nothing was measured.
    pub fn quantiles(&self, end_ms: i64, count: i64) -> Option<Quantiles> {
        let end = end_ms.div_euclid(1000);
        let mut sum: Option<Histogram<u64>> = None;
        for (_, histogram) in self.seconds.iter().filter(|(s, _)| (end - count..end).contains(s)) {
            match &mut sum {
                None => sum = Some(histogram.clone()),
                // Same bounds: can't fail.
                Some(sum) => sum.add(histogram).unwrap_or_default(),
            }
        }
        let sum = sum.filter(|h| !h.is_empty())?;
        let ms = |micros: u64| micros as f64 / 1000.0;
        Some(Quantiles {
            p50_ms: ms(sum.value_at_quantile(0.50)),
            p95_ms: ms(sum.value_at_quantile(0.95)),
            p99_ms: ms(sum.value_at_quantile(0.99)),
            max_ms: ms(sum.max()),
            count: sum.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_merged_by_second() {
        let mut latencies = Latencies::default();
        latencies.record(5_100, &[(10_000, 98), (50_000, 1)]);
        latencies.record(5_900, &[(100_000, 1)]);
        latencies.record(6_100, &[(1_000_000, 100)]);
        let q = latencies.quantiles(6_000, 1).unwrap();
        assert_eq!(q.count, 100);
        assert!((q.p50_ms - 10.0).abs() < 0.2, "{q:?}");
        assert!((q.p99_ms - 50.0).abs() < 0.6, "{q:?}");
        assert!((q.max_ms - 100.0).abs() < 1.0, "{q:?}");
        assert_eq!(latencies.quantiles(7_000, 10).unwrap().count, 200);
        assert_eq!(latencies.quantiles(5_000, 1), None);
    }
}
