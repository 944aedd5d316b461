//! `battery-low`: an alert when the battery of a sensor falls below a threshold, once until it has been charged.

use compact_str::CompactString;
use garde::Validate;
use millrace_core::process::{Current, ProcessContext, ProcessFunction};
use millrace_core::state::Ttl;
use millrace_core::stream::job as new_job;
use millrace_core::{EventTime, Job};
use millrace_wire::event::Reading;
use millrace_wire::result::{Alert, Severity, alert_id};
use millrace_wire::{Timestamp, topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::evidence;
use crate::apps::parameters::TtlDays;

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// A battery below this charge raises an alert.
    #[garde(range(min = 0.0, max = 100.0))]
    #[schemars(title = "Threshold", extend("x-unit" = "%"))]
    threshold: f64,
    #[garde(dive)]
    ttl_days: TtlDays,
}

impl Default for Params {
    fn default() -> Self {
        Self { threshold: 40.0, ttl_days: TtlDays::default() }
    }
}

/// What the alert says beside what all alerts say.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BatteryLow {
    location: CompactString,
    battery_level: f64,
    threshold: f64,
}

/// Remembers of each sensor whether its battery was low.
struct OncePerCharge;

impl ProcessFunction<Params, Reading> for OncePerCharge {
    type State = bool;
    type Out = Alert<BatteryLow>;

    fn record(
        &mut self,
        reading: &Reading,
        _: EventTime,
        was_low: &mut Current<bool>,
        ctx: &mut ProcessContext<'_, '_, Params, Self::Out>,
    ) {
        let Some(level) = reading.battery_level else { return };
        let threshold = ctx.params().threshold;
        let low = level < threshold;
        if low && !**was_low {
            let evidence: Vec<_> = evidence(ctx.origin()).into_iter().collect();
            let alert = Alert {
                id: alert_id("battery-low", &evidence),
                r#type: "BATTERY_LOW".into(),
                severity: Severity::Warning,
                key: reading.sensor_id.clone(),
                message: format!(
                    "Battery of {} is at {level} % (threshold: {threshold} %)",
                    reading.sensor_id
                ),
                timestamp: Timestamp(ctx.now()),
                evidence,
                details: BatteryLow { location: reading.location.clone(), battery_level: level, threshold },
            };
            ctx.collect(alert);
        }
        **was_low = low;
    }

    fn ttl(&self, params: &Params) -> Option<Ttl> {
        Some(params.ttl_days.ttl())
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>("battery-low", "Alerts for sensors whose battery is low.")
        .topics(&[topic::IOT_SENSORS], &[topic::ALERTS])
        .alerts()
        .source(Event::reading)
        .key_by(|reading| &reading.sensor_id)
        .process(OncePerCharge)
        .to(|alert| (topic::ALERTS, &alert.key))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::*;

    fn charge(test: &mut Harness<Event>, sensor: &str, levels: &[f64]) {
        for level in levels {
            let reading = json!({
                "timestamp": 1, "sensorId": sensor, "deviceType": "humidity", "value": 50, "location": "cellar",
                "batteryLevel": level
            });
            test.record(&Event::Reading(serde_json::from_value(reading).unwrap()), 1);
        }
    }

    #[test]
    fn one_alert_until_the_battery_is_charged() {
        let mut test = Harness::new(job);
        charge(&mut test, "a", &[40.0, 39.5, 39.0]);
        test.restore();
        charge(&mut test, "a", &[38.0, 90.0, 12.0]);
        charge(&mut test, "b", &[50.0]);
        let alerts = test.keyed("alerts");
        let levels: Vec<_> =
            alerts.iter().map(|(key, alert)| (key.as_str(), &alert["batteryLevel"])).collect();
        assert_eq!(levels, [("a", &json!(39.5)), ("a", &json!(12.0))]);
        assert_eq!(alerts[0].1["id"], "battery-low/test/0/1");
    }

    #[test]
    fn the_threshold_is_live_and_limited() {
        let mut test = Harness::new(job);
        charge(&mut test, "a", &[50.0]);
        test.params(1, &json!({"threshold": 60})).unwrap();
        charge(&mut test, "a", &[49.0]);
        assert_eq!(test.emitted("alerts").len(), 1);
        assert!(test.params(2, &json!({"threshold": 101})).unwrap_err().0.contains("threshold"));
    }
}
