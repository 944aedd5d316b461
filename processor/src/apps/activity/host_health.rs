//! `host-health`: quantiles of processor, memory and errors of each host per window, and readings that the ones before them do
//! not let expect, by a robust detector (median and median absolute deviation).
//!
//! Quantiles come from a sketch that is exact to 1 %. Readings are judged in the order in which they come.

use garde::Validate;
use millrace_core::aggregate::QuantileSketch;
use millrace_core::anomaly::{Detector, Mad, Sample};
use millrace_core::process::{Current, ProcessContext, ProcessFunction};
use millrace_core::state::Ttl;
use millrace_core::stream::job as new_job;
use millrace_core::window::{Aggregate, WindowSpec};
use millrace_core::{EventTime, Job};
use millrace_wire::event::SystemMetrics;
use millrace_wire::result::{Anomaly, HostStats, Percentiles};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::parameters::{Gap, Lateness, Slide, TtlDays, WindowSize, WindowType};

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    #[garde(skip)]
    window: WindowType,
    #[garde(dive)]
    window_size_s: WindowSize,
    #[garde(dive)]
    slide_s: Slide,
    #[garde(dive)]
    gap_s: Gap,
    #[garde(dive)]
    allowed_lateness_s: Lateness,
    /// Readings of which the detector takes the median.
    #[garde(range(min = 3, max = 4_096))]
    #[schemars(title = "Anomalies: sample", extend("x-unit" = "readings"))]
    sample: usize,
    /// A reading is anomalous beyond this modified z-score.
    #[garde(range(min = 0.1, max = 1_000.0))]
    #[schemars(title = "Anomalies: threshold")]
    threshold: f64,
    /// Readings of a host before the first that can be anomalous; no more than the sample.
    #[garde(range(min = 2, max = 100_000))]
    #[schemars(title = "Warm-up", extend("x-unit" = "readings"))]
    warm_up: u64,
    /// Smaller spreads count as this: percent of processor and memory, number of errors.
    #[garde(range(min = 1e-9, max = 1e9))]
    #[schemars(title = "Least spread")]
    min_scale: f64,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            window: WindowType::Tumbling,
            window_size_s: WindowSize(10),
            slide_s: Slide(1),
            gap_s: Gap(10),
            allowed_lateness_s: Lateness(0),
            sample: 60,
            threshold: 8.0,
            warm_up: 30,
            min_scale: 2.0,
            ttl_days: TtlDays::default(),
        }
    }
}

impl Params {
    fn windows(&self) -> WindowSpec {
        self.window.spec(self.window_size_s, self.slide_s, self.gap_s)
    }
}

/// Quantiles of what is measured.
struct Quantiles;

/// Of a window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sketches {
    count: u64,
    cpu: QuantileSketch,
    memory: QuantileSketch,
    errors: QuantileSketch,
}

impl Aggregate<SystemMetrics> for Quantiles {
    type Acc = Sketches;
    type Out = Sketches;

    fn create(&self) -> Sketches {
        Sketches::default()
    }

    fn add(&self, acc: &mut Sketches, metrics: &SystemMetrics, _: EventTime) {
        acc.count += 1;
        acc.cpu.add(metrics.cpu, 1);
        acc.memory.add(metrics.memory, 1);
        acc.errors.add(metrics.errors, 1);
    }

    fn merge(&self, acc: &mut Sketches, other: &Sketches) {
        acc.count += other.count;
        acc.cpu.merge(&other.cpu);
        acc.memory.merge(&other.memory);
        acc.errors.merge(&other.errors);
    }

    fn result(&self, acc: &Sketches) -> Sketches {
        acc.clone()
    }
}

fn percentiles(sketch: &QuantileSketch) -> Option<Percentiles> {
    Some(Percentiles { p50: sketch.quantile(0.5)?, p95: sketch.quantile(0.95)?, p99: sketch.quantile(0.99)? })
}

/// What the detector has learned of a host.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Learned {
    cpu: Sample,
    memory: Sample,
    errors: Sample,
}

struct Detect;

impl ProcessFunction<Params, SystemMetrics> for Detect {
    type State = Learned;
    type Out = Out;

    fn record(
        &mut self,
        metrics: &SystemMetrics,
        at: EventTime,
        learned: &mut Current<Learned>,
        ctx: &mut ProcessContext<'_, '_, Params, Out>,
    ) {
        let Params { sample: size, threshold, warm_up, min_scale, .. } = *ctx.params();
        let mad = Mad { size, threshold, warm_up: warm_up.min(size as u64), min_scale };
        let Learned { cpu, memory, errors } = &mut **learned;
        for (metric, value, sample) in [
            ("cpu", metrics.cpu, cpu),
            ("memory", metrics.memory, memory),
            ("errors", metrics.errors, errors),
        ] {
            // A value that can't be judged is none that a machine measures.
            let Ok(score) = mad.observe(sample, value, at) else { continue };
            if score.anomalous {
                ctx.collect(Out::Anomaly(Anomaly {
                    source: topic::SYSTEM_METRICS.into(),
                    key: metrics.host.clone(),
                    metric: metric.into(),
                    value: score.value,
                    expected: score.expected,
                    score: score.score,
                    method: "mad".into(),
                    timestamp: metrics.timestamp,
                }));
            }
        }
    }

    fn ttl(&self, params: &Params) -> Option<Ttl> {
        Some(params.ttl_days.ttl())
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Out {
    Stats(HostStats),
    Anomaly(Anomaly),
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    let start = || {
        new_job::<Event, Params>(
            "host-health",
            "Quantiles and anomalies of processor, memory and errors per host.",
        )
        .topics(&[topic::SYSTEM_METRICS], &[topic::HOST_STATS, topic::ANOMALIES])
        .source(Event::metrics)
    };
    let stats = start()
        .key_by(|metrics| &metrics.host)
        .window(Params::windows)
        .allowed_lateness(|params| params.allowed_lateness_s.ms())
        .aggregate(Quantiles)
        .filter_map(|result, _, _| {
            Some(Out::Stats(HostStats {
                host: (&*result.key).into(),
                window_start: result.window.start,
                window_end: result.window.end,
                count: result.value.count,
                cpu: percentiles(&result.value.cpu)?,
                memory: percentiles(&result.value.memory)?,
                errors: percentiles(&result.value.errors)?,
            }))
        });
    let anomalies = start().key_by(|metrics| &metrics.host).process(Detect);
    stats.union(anomalies).to(|out| match out {
        Out::Stats(stats) => (topic::HOST_STATS, &stats.host),
        Out::Anomaly(anomaly) => (topic::ANOMALIES, &anomaly.key),
    })
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::{HOUR, metrics, pay};
    use super::*;

    fn near(value: &serde_json::Value, expected: f64) -> bool {
        (value.as_f64().unwrap() - expected).abs() <= expected * 0.01
    }

    #[test]
    fn a_window_of_a_host_is_told_by_its_quantiles() {
        let mut test = Harness::new(job);
        for i in 0..100 {
            // In no order.
            let i = i * 37 % 100;
            metrics(&mut test, "h", i * 100, (i + 1) as f64, 50.0, if i == 99 { 7.0 } else { 0.0 });
        }
        metrics(&mut test, "other", 5, 10.0, 20.0, 1.0);
        pay(&mut test, "u", 5, 1.0);
        test.watermark(9_998);
        test.restore();
        assert!(test.emitted("host-stats").is_empty());
        test.watermark(9_999);
        let all = test.keyed("host-stats");
        assert_eq!((all.len(), all[0].0.as_str(), all[1].0.as_str()), (2, "h", "other"));
        let stats = &all[0].1;
        assert_eq!(
            (&stats["host"], &stats["window_start"], &stats["window_end"], &stats["count"]),
            (&json!("h"), &json!(0), &json!(10_000), &json!(100))
        );
        for (name, expected) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
            assert!(near(&stats["cpu"][name], expected) && near(&stats["memory"][name], 50.0), "{stats}");
            assert_eq!(stats["errors"][name], 0.0, "one of a hundred is beyond p99");
        }
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.violations == 0, "{stats:?}");
    }

    #[test]
    fn a_jump_of_each_metric_is_an_anomaly() {
        let mut test = Harness::new(job);
        for i in 0..40 {
            metrics(&mut test, "h", i * 1_000, 20.0 + (i % 3) as f64, 50.0, 0.0);
        }
        test.restore();
        assert!(test.emitted("anomalies").is_empty());
        metrics(&mut test, "new", 40_000, 99.0, 99.0, 99.0);
        metrics(&mut test, "h", 40_000, 95.0, 50.0, 30.0);
        let all = test.keyed("anomalies");
        let found: Vec<_> =
            all.iter().map(|(key, a)| (key.as_str(), a["metric"].as_str().unwrap())).collect();
        assert_eq!(found, [("h", "cpu"), ("h", "errors")], "another host is not warm yet");
        let mut first = all[0].1.clone();
        first.as_object_mut().unwrap().remove("score");
        let expected = json!({"source": "system-metrics", "key": "h", "metric": "cpu", "value": 95.0, "expected": 21.0,
                              "method": "mad", "timestamp": 40_000});
        assert_eq!(first, expected);
    }

    #[test]
    fn late_readings_are_judged_but_belong_to_no_window() {
        let mut test = Harness::new(job);
        metrics(&mut test, "h", 1_000, 20.0, 50.0, 0.0);
        test.watermark(9_999);
        test.emitted("host-stats");
        metrics(&mut test, "h", 2_000, 20.0, 50.0, 0.0);
        assert_eq!(test.rest(), [Effect::Late { job: "host-health", watermark: 9_999 }]);
    }

    #[test]
    fn windows_and_detector_are_live() {
        let mut test = Harness::new(job);
        test.params(
            1,
            &json!({"window_size_s": 1, "sample": 3, "warm_up": 2, "threshold": 1, "min_scale": 1}),
        )
        .unwrap();
        for (at, cpu) in [(0, 10.0), (1, 10.0), (2, 10.0), (3, 13.0)] {
            metrics(&mut test, "h", at, cpu, 50.0, 0.0);
        }
        assert_eq!(test.emitted("anomalies").len(), 1);
        test.watermark(999);
        assert_eq!(test.emitted("host-stats")[0]["count"], 4);
        for (bad, name) in [(json!({"sample": 2}), "sample"), (json!({"window_size_s": 0}), "window_size_s")]
        {
            assert!(test.params(2, &bad).unwrap_err().0.contains(name));
        }
    }

    #[test]
    fn the_type_of_window_is_live() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"window": "session", "gap_s": 5})).unwrap();
        metrics(&mut test, "h/kafka-1", 1_000, 20.0, 50.0, 0.0);
        metrics(&mut test, "h/kafka-1", 3_000, 20.0, 50.0, 0.0);
        test.watermark(7_999);
        let stats = test.emitted("host-stats");
        let shown = ["window_start", "window_end", "count"].map(|field| stats[0][field].as_i64().unwrap());
        assert_eq!((stats.len(), shown, &stats[0]["host"]), (1, [1_000, 8_000, 2], &json!("h/kafka-1")));
    }

    #[test]
    fn a_host_that_is_silent_for_so_long_is_forgotten() {
        let mut test = Harness::new(job);
        metrics(&mut test, "h", 0, 20.0, 50.0, 0.0);
        test.params(1, &json!({"ttl_days": 2})).unwrap();
        test.watermark(2 * 24 * HOUR - 1);
        assert!(!test.state_is_empty());
        test.watermark(2 * 24 * HOUR);
        assert!(test.state_is_empty());
        assert!(test.params(2, &json!({"ttl_days": 0})).unwrap_err().0.contains("ttl_days"));
    }
}
