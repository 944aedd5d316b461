//! `sensor-anomalies`: readings that are not what the ones before them let expect, of every device type.
//!
//! Two detectors judge each reading: `ewma` follows a level that drifts, `mad` (median and median absolute deviation) is
//! hardly moved by outliers. Readings are judged, and learned, in the order in which they come: a few seconds out of
//! order mean nothing to a level, and a late reading is no less of an anomaly for being late.

use std::collections::BTreeMap;

use garde::Validate;
use millrace_core::anomaly::{Detector, Ewma, EwmaState, Mad, Sample};
use millrace_core::process::{Current, ProcessContext, ProcessFunction};
use millrace_core::state::Ttl;
use millrace_core::stream::job as new_job;
use millrace_core::{EventTime, Job};
use millrace_wire::event::{DeviceType, Reading};
use millrace_wire::result::Anomaly;
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::parameters::TtlDays;

/// Live parameters. The defaults let pass what the demo's sensors do by themselves but for one reading in some thousand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Weight of the newest reading in the mean that is expected: about 2 / (n + 1) remembers n readings.
    #[garde(range(min = 0.001, max = 0.999))]
    #[schemars(title = "EWMA: weight of the newest")]
    ewma_alpha: f64,
    /// The EWMA calls a reading anomalous beyond so many standard deviations.
    #[garde(range(min = 0.1, max = 1_000.0))]
    #[schemars(title = "EWMA: threshold", extend("x-unit" = "σ"))]
    ewma_threshold: f64,
    /// Readings of which the robust detector takes the median.
    #[garde(range(min = 3, max = 4_096))]
    #[schemars(title = "Robust: sample", extend("x-unit" = "readings"))]
    mad_size: usize,
    /// The robust detector calls a reading anomalous beyond this modified z-score.
    #[garde(range(min = 0.1, max = 1_000.0))]
    #[schemars(title = "Robust: threshold")]
    mad_threshold: f64,
    /// Readings of a sensor before the first that can be anomalous; no more than the sample for the robust detector.
    #[garde(range(min = 2, max = 100_000))]
    #[schemars(title = "Warm-up", extend("x-unit" = "readings"))]
    warm_up: u64,
    /// Smaller spreads count as this, in the unit of the readings: what a sensor can resolve.
    #[garde(range(min = 1e-9, max = 1e9))]
    #[schemars(title = "Least spread")]
    min_scale: f64,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            ewma_alpha: 0.1,
            ewma_threshold: 4.0,
            mad_size: 60,
            mad_threshold: 8.0,
            warm_up: 30,
            min_scale: 0.25,
            ttl_days: TtlDays::default(),
        }
    }
}

impl Params {
    fn ewma(&self) -> Ewma {
        Ewma {
            alpha: self.ewma_alpha,
            threshold: self.ewma_threshold,
            warm_up: self.warm_up,
            min_scale: self.min_scale,
        }
    }

    fn mad(&self) -> Mad {
        let warm_up = self.warm_up.min(self.mad_size as u64);
        Mad { size: self.mad_size, threshold: self.mad_threshold, warm_up, min_scale: self.min_scale }
    }
}

/// What the detectors have learned of one metric of a sensor.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Learned {
    ewma: EwmaState,
    mad: Sample,
}

struct Detect;

impl ProcessFunction<Params, Reading> for Detect {
    type State = BTreeMap<DeviceType, Learned>;
    type Out = Anomaly;

    fn record(
        &mut self,
        reading: &Reading,
        at: EventTime,
        metrics: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, Params, Anomaly>,
    ) {
        let Learned { ewma, mad } = metrics.entry(reading.device_type).or_default();
        let params = ctx.params();
        let scores = [
            ("ewma", params.ewma().observe(ewma, reading.value, at)),
            ("mad", params.mad().observe(mad, reading.value, at)),
        ];
        for (method, score) in scores {
            // A value that can't be judged is none that a sensor measures.
            let Ok(score) = score else { continue };
            if score.anomalous {
                ctx.collect(Anomaly {
                    source: topic::IOT_SENSORS.into(),
                    key: reading.sensor_id.clone(),
                    metric: reading.device_type.name().into(),
                    value: score.value,
                    expected: score.expected,
                    score: score.score,
                    method: method.into(),
                    timestamp: reading.timestamp,
                });
            }
        }
    }

    fn ttl(&self, params: &Params) -> Option<Ttl> {
        Some(params.ttl_days.ttl())
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("sensor-anomalies", "Readings that the ones before them did not let expect.")
        .topics(&[topic::IOT_SENSORS], &[topic::ANOMALIES])
        .source(Event::reading)
        .key_by(|reading| &reading.sensor_id)
        .process(Detect)
        .to(|anomaly| (topic::ANOMALIES, &anomaly.key))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::*;

    fn add(test: &mut Harness<Event>, sensor: &str, device: &str, at: i64, value: f64) {
        let reading = json!({"timestamp": at, "sensorId": sensor, "deviceType": device, "value": value});
        test.record(&Event::Reading(serde_json::from_value(reading).unwrap()), at);
    }

    /// So many readings around 20, one a second from `from` on.
    fn steady(test: &mut Harness<Event>, sensor: &str, device: &str, from: i64, n: i64) {
        for i in 0..n {
            add(test, sensor, device, from + i * 1_000, 20.0 + [0.0, 0.5, -0.5][i as usize % 3]);
        }
    }

    fn found(test: &mut Harness<Event>) -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        test.emitted("anomalies").iter().map(|a| (text(&a["metric"]), text(&a["method"]))).collect()
    }

    #[test]
    fn a_jump_is_found_by_both_detectors_in_every_device_type() {
        for device in ["temperature", "humidity", "vibration", "pressure"] {
            let mut test = Harness::new(job);
            steady(&mut test, "s", device, 0, 40);
            assert!(test.emitted("anomalies").is_empty());
            add(&mut test, "s", device, 40_000, 60.0);
            let anomalies = test.keyed("anomalies");
            assert_eq!(anomalies.len(), 2);
            for ((key, anomaly), method) in anomalies.into_iter().zip(["ewma", "mad"]) {
                assert_eq!(key, "s");
                assert!((anomaly["expected"].as_f64().unwrap() - 20.0).abs() < 0.5, "{anomaly}");
                assert!(anomaly["score"].as_f64().unwrap() > 8.0, "{anomaly}");
                let mut rest = anomaly;
                rest.as_object_mut().unwrap().retain(|name, _| name != "expected" && name != "score");
                let expected = json!({"source": "iot-sensors", "key": "s", "metric": device, "value": 60.0,
                                      "method": method, "timestamp": 40_000});
                assert_eq!(rest, expected);
            }
            let stats = test.job().stats();
            assert_eq!((stats.emitted, stats.balances(0)), (2, true), "{stats:?}");
        }
    }

    #[test]
    fn sensors_and_metrics_are_judged_by_themselves_after_their_warm_up() {
        let mut test = Harness::new(job);
        steady(&mut test, "s", "temperature", 0, 40);
        steady(&mut test, "s", "pressure", 0, 29);
        add(&mut test, "s", "pressure", 40_000, 1_013.0);
        add(&mut test, "t", "temperature", 40_000, 60.0);
        assert_eq!(found(&mut test), [], "29 readings are no warm-up, and another sensor has none");
        add(&mut test, "s", "temperature", 41_000, 60.0);
        assert_eq!(found(&mut test).len(), 2);
    }

    #[test]
    fn the_robust_detector_is_not_moved_by_outliers() {
        let mut test = Harness::new(job);
        steady(&mut test, "s", "temperature", 0, 40);
        for at in 41..46 {
            add(&mut test, "s", "temperature", at * 1_000, 60.0);
        }
        let methods: Vec<String> = found(&mut test).into_iter().map(|(_, method)| method).collect();
        assert_eq!(methods.iter().filter(|m| *m == "mad").count(), 5, "{methods:?}");
        assert!(methods.iter().filter(|m| *m == "ewma").count() < 5, "the mean follows: {methods:?}");
    }

    #[test]
    fn what_was_learned_survives_a_restart_and_late_readings_are_judged_too() {
        let mut test = Harness::new(job);
        steady(&mut test, "s", "vibration", 0, 40);
        test.watermark(35_000);
        assert_eq!(test.restore(), 1);
        add(&mut test, "s", "vibration", 10_000, 60.0);
        assert_eq!(found(&mut test).len(), 2);
        assert_eq!(test.job().stats().late, 0);
    }

    const DAY: i64 = 24 * 3_600 * 1_000;

    #[test]
    fn a_silent_sensor_is_forgotten() {
        let mut test = Harness::new(job);
        steady(&mut test, "s", "vibration", 0, 40);
        test.watermark(39_000 + 30 * DAY - 1);
        assert!(!test.state_is_empty());
        test.watermark(39_000 + 30 * DAY);
        assert!(test.state_is_empty());
    }

    #[test]
    fn thresholds_are_live_and_limited() {
        let mut test = Harness::new(job);
        steady(&mut test, "s", "humidity", 0, 40);
        test.params(1, &json!({"ewma_threshold": 1_000, "mad_threshold": 1_000})).unwrap();
        add(&mut test, "s", "humidity", 40_000, 60.0);
        assert_eq!(found(&mut test), []);
        // A sample below the warm-up is allowed: the robust detector is warm when its sample is full.
        test.params(2, &json!({"mad_size": 3, "mad_threshold": 1, "ewma_threshold": 1_000})).unwrap();
        add(&mut test, "s", "humidity", 41_000, 20.0);
        add(&mut test, "s", "humidity", 42_000, 90.0);
        assert_eq!(found(&mut test).last(), Some(&("humidity".to_owned(), "mad".to_owned())));
        for (bad, name) in [(json!({"ewma_alpha": 1}), "ewma_alpha"), (json!({"mad_size": 2}), "mad_size")] {
            let error = test.params(3, &bad).unwrap_err();
            assert!(error.0.contains(name), "{error}");
        }
    }

    #[test]
    fn how_long_a_silent_sensor_is_known_is_live() {
        let mut test = Harness::new(job);
        add(&mut test, "s", "vibration", 0, 1.0);
        test.params(1, &json!({"ttl_days": 2})).unwrap();
        test.watermark(2 * DAY - 1);
        assert!(!test.state_is_empty());
        test.watermark(2 * DAY);
        assert!(test.state_is_empty());
        assert!(test.params(2, &json!({"ttl_days": 0})).unwrap_err().0.contains("ttl_days"));
    }
}
