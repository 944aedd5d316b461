//! `humidity-rise`: humidity of a sensor above a lower limit, followed by one above an upper limit within some minutes.
//!
//! The events of a match are not used again: 71, 72 and 85 % are one rise, from 71 to 85.

use garde::Validate;
use millrace_core::cep::{AfterMatch, Detected, Pattern};
use millrace_core::stream::job as new_job;
use millrace_core::{Job, TimeDomain};
use millrace_wire::Timestamp;
use millrace_wire::result::{Alert, HumidityRise, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use super::observation::{FIELDS, Observation, humidity, in_order};
use crate::apps::parameters::{compiles, not_below};

/// Live parameters. A change forgets the rises that are under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// The first reading is above this humidity.
    #[garde(range(min = 0.0, max = 100.0))]
    #[schemars(title = "Lower limit", extend("x-unit" = "%"))]
    lower: f64,
    /// The second is above this one, which is not below the lower limit.
    #[garde(range(min = 0.0, max = 100.0), custom(not_below(&self.lower)))]
    #[schemars(title = "Upper limit", extend("x-unit" = "%"))]
    upper: f64,
    /// Less than this lies between them.
    #[garde(range(min = 1, max = 86_400))]
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
        Self { lower: 70.0, upper: 80.0, within_s: 600, pattern: None }
    }
}

const FIRST: &str = "first";
const SECOND: &str = "second";

fn pattern(params: &Params) -> Pattern {
    params.pattern.clone().unwrap_or_else(|| {
        Pattern::begin(FIRST)
            .where_(humidity().gt(params.lower))
            .followed_by(SECOND)
            .where_(humidity().gt(params.upper))
            .within(params.within_s * 1_000)
            .after_match(AfterMatch::PastLast)
    })
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("humidity-rise", "Alerts when the humidity of a sensor rises within minutes.")
        .topics(&[topic::IOT_SENSORS], &[topic::MOLD_ALERTS])
        .alerts()
        .source(Event::humidity)
        // The upper limit is not below the lower one: what is not above that is no part of a match. Of another pattern
        // nothing is known.
        .filter(|reading, params: &Params| params.pattern.is_some() || reading.value > params.lower)
        .map(|reading, _, ctx| Observation::new(reading, ctx))
        .key_by(|observation| &observation.sensor_id)
        .pattern(pattern, TimeDomain::Event)
        .filter_map(|found, _, ctx| match found {
            Detected::Match { stages, .. } => alert(&in_order(stages), Timestamp(ctx.now)),
            Detected::TimedOut { .. } => None,
        })
        .to(|alert| (topic::MOLD_ALERTS, &alert.key))
}

/// The rise is from the first to the last reading of the match.
fn alert(taken: &[&Observation], now: Timestamp) -> Option<Alert<HumidityRise>> {
    let (first, second) = (taken.first()?, taken.last()?);
    let evidence: Vec<_> = taken.iter().filter_map(|o| o.evidence.clone()).collect();
    Some(Alert {
        id: alert_id("humidity-rise", &evidence),
        r#type: "HUMIDITY_RISE".into(),
        severity: Severity::Critical,
        key: second.sensor_id.clone(),
        message: format!(
            "Humidity rose from {:.1} % to {:.1} % in {} s at {}",
            first.humidity,
            second.humidity,
            (second.at.millis() - first.at.millis()) / 1_000,
            second.sensor_id
        ),
        timestamp: now,
        evidence,
        details: HumidityRise {
            sensor_id: second.sensor_id.clone(),
            location: second.location.clone(),
            first: first.humidity,
            second: second.humidity,
            first_timestamp: first.at,
            second_timestamp: second.at,
        },
    })
}

#[cfg(test)]
mod tests {
    use millrace_core::Effect;
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::super::tests::humid;
    use super::*;

    /// (first, second) of each alert.
    fn rises(test: &mut Harness<Event>) -> Vec<(f64, f64)> {
        let alerts = test.emitted("mold-alerts");
        alerts.iter().map(|a| (a["first"].as_f64().unwrap(), a["second"].as_f64().unwrap())).collect()
    }

    #[test]
    fn above_70_followed_by_above_80_is_exactly_one_alert() {
        let mut test = Harness::new(job);
        test.processing_time(77);
        humid(&mut test, "s", &[(0, 71.0), (60_000, 85.0)]);
        humid(&mut test, "other", &[(1, 65.0), (2, 85.0)]);
        test.watermark(700_000);
        assert_eq!(
            test.keyed("mold-alerts"),
            [(
                "s".into(),
                json!({
                    "id": "humidity-rise/test/0/0,1", "type": "HUMIDITY_RISE", "severity": "critical", "key": "s",
                    "message": "Humidity rose from 71.0 % to 85.0 % in 60 s at s", "timestamp": 77,
                    "evidence": [
                        {"topic": "test", "partition": 0, "offset": 0}, {"topic": "test", "partition": 0, "offset": 1}
                    ],
                    "sensorId": "s", "location": "cellar", "first": 71.0, "second": 85.0,
                    "firstTimestamp": 0, "secondTimestamp": 60_000
                })
            )]
        );
        assert!(test.state_is_empty(), "nothing is kept when the time is over");
    }

    #[test]
    fn what_lies_between_does_not_matter_and_no_event_counts_twice() {
        let mut test = Harness::new(job);
        humid(&mut test, "s", &[(0, 71.0), (1, 50.0), (2, 72.0), (3, 85.0), (4, 86.0), (5, 87.0)]);
        test.watermark(5);
        assert_eq!(rises(&mut test), [(71.0, 85.0), (86.0, 87.0)]);
    }

    #[test]
    fn ten_minutes_are_too_late() {
        let mut test = Harness::new(job);
        humid(&mut test, "s", &[(0, 71.0), (600_000, 85.0)]);
        humid(&mut test, "t", &[(0, 71.0), (599_999, 85.0)]);
        test.watermark(600_000);
        assert_eq!(rises(&mut test), [(71.0, 85.0)]);
    }

    #[test]
    fn events_match_in_the_order_of_event_time_and_late_ones_not_at_all() {
        let mut test = Harness::new(job);
        humid(&mut test, "s", &[(20, 85.0), (10, 71.0)]);
        humid(&mut test, "t", &[(10, 81.0), (20, 71.0)]);
        test.watermark(20);
        assert_eq!(rises(&mut test), [(71.0, 85.0)], "71 came second, but was measured first");
        humid(&mut test, "u", &[(20, 71.0)]);
        assert_eq!(test.rest(), [Effect::Late { job: "humidity-rise", watermark: 20 }]);
        test.restore();
        humid(&mut test, "t", &[(30, 90.0)]);
        test.watermark(30);
        assert_eq!(rises(&mut test), [(81.0, 90.0)], "a rise goes on after a restart");
    }

    #[test]
    fn limits_are_live_and_what_makes_no_pattern_is_refused() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"lower": 40, "upper": 45, "within_s": 1})).unwrap();
        humid(&mut test, "s", &[(0, 41.0), (999, 46.0), (2_000, 41.0), (3_000, 46.0)]);
        test.watermark(3_000);
        assert_eq!(rises(&mut test), [(41.0, 46.0)]);
        for (bad, why) in [
            (json!({"within_s": 0}), "within_s"),
            (json!({"upper": 101}), "upper"),
            (json!({"lower": 85}), "below the limit before it, which is 85"),
        ] {
            let error = test.params(2, &bad).unwrap_err();
            assert!(error.0.contains(why), "{error}");
        }
        assert_eq!((test.job().params_version(), test.job().stats().violations), (1, 0));
    }

    /// The example of docs/jobs.md.
    #[test]
    fn the_pattern_is_live_and_one_that_cant_be_compiled_is_refused() {
        let shown = include_str!("../../../../docs/jobs.md").split("```json\n").nth(1).unwrap();
        let three: serde_json::Value = serde_json::from_str(shown.split("```").next().unwrap()).unwrap();
        let mut test = Harness::new(job);
        test.params(1, &json!({"pattern": three})).unwrap();
        humid(&mut test, "s", &[(0, 61.0), (1, 59.0), (2, 66.0), (3, 71.0)]);
        test.restore();
        test.watermark(3);
        let alerts = test.emitted("mold-alerts");
        assert_eq!(
            (alerts.len(), &alerts[0]["id"]),
            (1, &json!("humidity-rise/test/0/0,2,3")),
            "three readings"
        );
        assert_eq!((&alerts[0]["first"], &alerts[0]["second"]), (&json!(61.0), &json!(71.0)));
        test.params(2, &json!({"pattern": null})).unwrap();
        humid(&mut test, "s", &[(10, 61.0), (11, 66.0), (12, 71.0), (13, 81.0)]);
        test.watermark(13);
        assert_eq!(rises(&mut test), [(71.0, 81.0)], "that of the limits again");
        let stage = |name: &str| json!({"stage": name});
        for (bad, why) in [
            (
                json!({"pattern": [stage("a"), stage("b")], "within": 1}),
                "has no contiguity: say how it follows",
            ),
            (json!({"pattern": [], "within": 1}), "no elements"),
            (json!({"pattern": [stage("a")]}), "`within` is missing"),
            (json!({"pattern": [stage("a")], "within": 0}), "must be above 0"),
            (json!({"patern": []}), "patern"),
        ] {
            let error = test.params(3, &json!({"pattern": bad})).unwrap_err();
            assert!(error.0.contains(why), "{error}");
        }
        assert_eq!((test.job().params_version(), test.job().stats().violations), (2, 0));
    }
}
