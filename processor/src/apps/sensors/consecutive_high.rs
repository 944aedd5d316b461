//! `consecutive-high`: an alert when so many consecutive readings of a sensor are above a threshold.
//!
//! Readings are consecutive in event time: the pattern sees them sorted, when the watermark has passed them. A reading that
//! is not above the threshold ends the run. After an alert the run restarts: under the defaults six high readings in a row
//! are two alerts, five are one.

use garde::Validate;
use millrace_core::cep::{AfterMatch, Detected, Pattern};
use millrace_core::stream::job as new_job;
use millrace_core::{Job, TimeDomain};
use millrace_wire::Timestamp;
use millrace_wire::result::{Alert, ConsecutiveHigh, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use super::observation::{FIELDS, Observation, humidity, in_order};
use crate::apps::parameters::compiles;

/// Live parameters. A change forgets the runs that are under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Readings above this humidity count.
    #[garde(range(min = 0.0, max = 100.0))]
    #[schemars(title = "Threshold", extend("x-unit" = "%"))]
    threshold: f64,
    /// So many in a row raise an alert.
    #[garde(range(min = 1, max = 50))]
    #[schemars(title = "Consecutive readings", extend("x-unit" = "readings"))]
    count: u32,
    /// Less than this lies between the first and the last of them; the run of a sensor that falls silent is forgotten then.
    #[garde(range(min = 1, max = 2_592_000))]
    #[schemars(title = "Within", extend("x-unit" = "s"))]
    within_s: i64,
    /// Another pattern, over the fields `humidity` and `location` of the humidity readings of a sensor.
    /// `null` is the one that the other parameters say.
    #[garde(custom(compiles(FIELDS)))]
    #[schemars(title = "Pattern", with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pattern: Option<Pattern>,
}

impl Default for Params {
    fn default() -> Self {
        Self { threshold: 70.0, count: 3, within_s: 86_400, pattern: None }
    }
}

const HIGH: &str = "high";

fn pattern(params: &Params) -> Pattern {
    params.pattern.clone().unwrap_or_else(|| {
        Pattern::begin(HIGH)
            .where_(humidity().gt(params.threshold))
            .times(params.count)
            .consecutive()
            .within(params.within_s * 1_000)
            .after_match(AfterMatch::PastLast)
    })
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("consecutive-high", "Alerts for consecutive humid readings of a sensor.")
        .topics(&[topic::IOT_SENSORS], &[topic::MOLD_ALERTS])
        .alerts()
        .source(Event::humidity)
        .map(|reading, _, ctx| Observation::new(reading, ctx))
        .key_by(|observation| &observation.sensor_id)
        .pattern(pattern, TimeDomain::Event)
        .filter_map(|found, _, ctx| match found {
            Detected::Match { stages, .. } => alert(&in_order(stages), ctx.params, Timestamp(ctx.now)),
            Detected::TimedOut { .. } => None,
        })
        .to(|alert| (topic::MOLD_ALERTS, &alert.key))
}

fn alert(run: &[&Observation], params: &Params, now: Timestamp) -> Option<Alert<ConsecutiveHigh>> {
    let (first, last) = (run.first()?, run.last()?);
    let evidence: Vec<_> = run.iter().filter_map(|observation| observation.evidence.clone()).collect();
    let (readings, sensor) = (run.len(), &last.sensor_id);
    let threshold = params.pattern.is_none().then_some(params.threshold);
    let message = match threshold {
        Some(threshold) => format!("{readings} readings in a row above {threshold} % at {sensor}"),
        None => format!("{readings} readings at {sensor} match the pattern"),
    };
    Some(Alert {
        id: alert_id("consecutive-high", &evidence),
        r#type: "CONSECUTIVE_HIGH".into(),
        severity: Severity::High,
        key: last.sensor_id.clone(),
        message,
        timestamp: now,
        evidence,
        details: ConsecutiveHigh {
            sensor_id: last.sensor_id.clone(),
            location: last.location.clone(),
            threshold,
            values: run.iter().map(|observation| observation.humidity).collect(),
            first_timestamp: first.at,
            last_timestamp: last.at,
        },
    })
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::{Value, json};

    use super::super::tests::humid;
    use super::*;

    fn runs(test: &mut Harness<Event>) -> Vec<Value> {
        test.emitted("mold-alerts").into_iter().map(|alert| alert["values"].clone()).collect()
    }

    #[test]
    fn three_in_a_row_raise_one_alert_with_its_evidence() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        humid(&mut test, "s", &[(1, 71.0), (2, 75.5), (3, 70.5), (4, 72.0), (5, 73.0)]);
        humid(&mut test, "other", &[(3, 99.0)]);
        test.watermark(10);
        assert_eq!(
            test.keyed("mold-alerts"),
            [(
                "s".into(),
                json!({
                    "id": "consecutive-high/test/0/0,1,2", "type": "CONSECUTIVE_HIGH", "severity": "high", "key": "s",
                    "message": "3 readings in a row above 70 % at s", "timestamp": 77,
                    "evidence": [
                        {"topic": "test", "partition": 0, "offset": 0}, {"topic": "test", "partition": 0, "offset": 1},
                        {"topic": "test", "partition": 0, "offset": 2}
                    ],
                    "sensorId": "s", "location": "cellar", "threshold": 70.0, "values": [71.0, 75.5, 70.5],
                    "firstTimestamp": 1, "lastTimestamp": 3
                })
            )]
        );
        humid(&mut test, "s", &[(11, 74.0)]);
        test.watermark(20);
        assert_eq!(runs(&mut test), [json!([72.0, 73.0, 74.0])], "the run restarts after an alert");
    }

    #[test]
    fn a_reading_at_the_threshold_or_below_resets() {
        let mut test = Harness::new(job);
        humid(&mut test, "s", &[(1, 80.0), (2, 80.0), (3, 70.0), (4, 80.0), (5, 80.0), (6, 20.0), (7, 80.0)]);
        test.watermark(7);
        assert_eq!(runs(&mut test), [json!(null); 0]);
        assert!(test.job().stats().balances(test.job().pending()));
    }

    #[test]
    fn readings_count_in_the_order_of_event_time_and_late_ones_not_at_all() {
        let mut test = Harness::new(job);
        // 65 came last but was measured between the others.
        humid(&mut test, "s", &[(1, 71.0), (4, 74.0), (3, 73.0), (2, 65.0)]);
        test.watermark(4);
        assert_eq!(runs(&mut test), [json!(null); 0]);
        humid(&mut test, "s", &[(4, 90.0)]);
        assert_eq!(test.rest(), [Effect::Late { job: "consecutive-high", watermark: 4 }]);
        test.restore();
        humid(&mut test, "s", &[(5, 75.0)]);
        test.watermark(5);
        assert_eq!(runs(&mut test), [json!([73.0, 74.0, 75.0])], "a run goes on after a restart");
    }

    #[test]
    fn threshold_and_count_are_live_and_limited() {
        let mut test = Harness::new(job);
        humid(&mut test, "s", &[(1, 80.0)]);
        test.watermark(1);
        test.params(1, &json!({"threshold": 50, "count": 2})).unwrap();
        humid(&mut test, "s", &[(2, 51.0), (3, 52.0)]);
        test.watermark(3);
        assert_eq!(runs(&mut test), [json!([51.0, 52.0])], "what was under way is forgotten");
        for (bad, name) in [(json!({"count": 0}), "count"), (json!({"threshold": -1}), "threshold")] {
            let error = test.params(2, &bad).unwrap_err();
            assert!(error.0.contains(name), "{error}");
        }
        for count in [1, 50] {
            test.params(3, &json!({"count": count})).unwrap();
        }
        assert_eq!(test.job().stats().violations, 0, "whatever the limits allow can be compiled");
    }

    #[test]
    fn the_run_of_a_sensor_that_falls_silent_is_forgotten() {
        let mut test = Harness::new(job);
        humid(&mut test, "s", &[(0, 80.0), (1, 80.0)]);
        test.watermark(86_400_000);
        assert!(!test.state_is_empty());
        test.watermark(86_400_001);
        assert!(test.state_is_empty());
        test.params(1, &json!({"within_s": 1})).unwrap();
        let day = 86_400_000;
        humid(&mut test, "s", &[(day + 1, 80.0), (day + 2, 80.0), (day + 1_001, 80.0), (day + 1_002, 80.0)]);
        test.watermark(2 * day);
        assert_eq!(runs(&mut test), [json!(null); 0], "three of them are never within a second");
    }

    #[test]
    fn the_pattern_is_live() {
        let mut test = Harness::new(job);
        let dry = json!({"op": "lt", "left": {"field": "humidity"}, "right": {"const": 40}});
        let pattern = json!({"pattern": [{"stage": "dry", "where": dry, "quantifier": {"times": {"min": 2, "max": 2}}}],
                             "within": 60_000});
        test.params(1, &json!({"pattern": pattern})).unwrap();
        humid(&mut test, "s", &[(1, 39.0), (2, 90.0), (3, 38.0)]);
        test.watermark(3);
        let alerts = test.emitted("mold-alerts");
        assert_eq!((alerts.len(), &alerts[0]["values"]), (1, &json!([39.0, 38.0])));
        assert_eq!(
            (&alerts[0]["message"], &alerts[0]["threshold"]),
            (&json!("2 readings at s match the pattern"), &json!(null))
        );
        assert!(test.params(2, &json!({"pattern": {"pattern": []}})).unwrap_err().0.contains("no elements"));
    }
}
