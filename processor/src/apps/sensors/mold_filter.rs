//! `mold-filter`: humidity readings above the threshold become alerts, enriched with the sensor's reference data and
//! routed by severity (the topic) and by location (the key).

use garde::Validate;
use millrace_core::Job;
use millrace_core::stream::{Enriched, job as new_job};
use millrace_wire::Timestamp;
use millrace_wire::event::{Reading, Sensor};
use millrace_wire::result::{Evidence, SensorAlert, Severity, alert_id};
use millrace_wire::topic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::apps::evidence;
use crate::apps::parameters::not_below;

/// Live parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// Readings above this humidity raise an alert.
    #[garde(range(min = 0.0, max = 100.0))]
    #[schemars(title = "Threshold", extend("x-unit" = "%"))]
    threshold: f64,
    /// Alerts above this humidity are high, not only warnings.
    #[garde(range(min = 0.0, max = 100.0))]
    #[schemars(title = "High above", extend("x-unit" = "%"))]
    high: f64,
    /// Alerts above this humidity are critical; not below high.
    #[garde(range(min = 0.0, max = 100.0), custom(not_below(&self.high)))]
    #[schemars(title = "Critical above", extend("x-unit" = "%"))]
    critical: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { threshold: 60.0, high: 70.0, critical: 80.0 }
    }
}

impl Params {
    fn severity(&self, humidity: f64) -> Severity {
        if humidity > self.critical {
            Severity::Critical
        } else if humidity > self.high {
            Severity::High
        } else {
            Severity::Warning
        }
    }
}

pub(super) fn job() -> Box<dyn Job<Event>> {
    new_job::<Event, Params>(
        "mold-filter",
        "Alerts for humidity above a threshold, by severity and location.",
    )
    .topics(
        &[topic::IOT_SENSORS, topic::SENSORS],
        &[topic::SENSOR_ALERTS_CRITICAL, topic::SENSOR_ALERTS_HIGH, topic::SENSOR_ALERTS_WARNING],
    )
    .alerts()
    .source(Event::humidity)
    .filter(|reading, params| reading.value > params.threshold)
    .key_by(|reading| &reading.sensor_id)
    .enrich(Event::sensor)
    .map(|enriched, _, ctx| {
        let severity = ctx.params.severity(enriched.record.value);
        alert(enriched, severity, Timestamp(ctx.now), evidence(ctx.origin).into_iter().collect())
    })
    .to(|alert| (topic_of(alert.severity), &alert.location))
}

fn topic_of(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => topic::SENSOR_ALERTS_CRITICAL,
        Severity::High => topic::SENSOR_ALERTS_HIGH,
        Severity::Warning => topic::SENSOR_ALERTS_WARNING,
    }
}

fn alert(
    enriched: &Enriched<Reading, Sensor>,
    severity: Severity,
    now: Timestamp,
    evidence: Vec<Evidence>,
) -> SensorAlert {
    let Enriched { record: reading, reference } = enriched;
    let location = match reference {
        Some(sensor) if reading.location.is_empty() => sensor.location.clone(),
        _ => reading.location.clone(),
    };
    SensorAlert {
        id: alert_id("mold-filter", &evidence),
        r#type: "MOLD_RISK".to_owned(),
        severity,
        status: "ALERT".to_owned(),
        key: reading.sensor_id.clone(),
        sensor_id: reading.sensor_id.clone(),
        message: format!("Humidity of {:.1} % at {} in {location}", reading.value, reading.sensor_id),
        location,
        value: reading.value,
        reading_timestamp: reading.timestamp,
        timestamp: now,
        sensor: reference.clone(),
        evidence,
    }
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use serde_json::json;

    use super::*;

    fn reading(device: &str, value: f64) -> Event {
        Event::Reading(
            serde_json::from_value(json!({
                "timestamp": 5, "sensorId": "s-1", "deviceType": device, "value": value, "location": "cellar"
            }))
            .unwrap(),
        )
    }

    #[test]
    fn readings_above_the_threshold_are_routed_by_severity_and_location() {
        let mut test = Harness::new(job);
        for value in [60.0, 60.1, 70.0, 70.1, 80.0, 80.1] {
            test.record(&reading("humidity", value), 5);
        }
        test.record(&reading("temperature", 99.0), 5);
        let mut seen = |topic| {
            let keyed = test.keyed(topic);
            keyed.into_iter().map(|(key, alert)| (key, alert["value"].as_f64().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(seen("sensor-alerts.warning"), [("cellar".into(), 60.1), ("cellar".into(), 70.0)]);
        assert_eq!(seen("sensor-alerts.high"), [("cellar".into(), 70.1), ("cellar".into(), 80.0)]);
        assert_eq!(seen("sensor-alerts.critical"), [("cellar".into(), 80.1)]);
        let stats = test.job().stats();
        assert_eq!((stats.records, stats.filtered, stats.done, stats.emitted), (7, 2, 5, 5));
    }

    #[test]
    fn an_alert_carries_its_evidence_and_the_reference_data() {
        let mut test = Harness::new(job);
        let sensor = Sensor { sensor_id: "s-1".into(), location: "cellar".into(), calibration: 0.5 };
        test.reference(&Event::Sensor(sensor));
        test.processing_time(77);
        assert_eq!(test.restore(), 1);
        test.record(&reading("humidity", 81.5), 5);
        test.reference(&Event::SensorGone("s-1".into()));
        test.record(&reading("humidity", 82.0), 5);
        let alerts = test.emitted("sensor-alerts.critical");
        assert_eq!(
            alerts[0],
            json!({
                "id": "mold-filter/test/0/0", "type": "MOLD_RISK", "severity": "critical", "status": "ALERT",
                "key": "s-1", "sensorId": "s-1", "location": "cellar", "value": 81.5, "readingTimestamp": 5,
                "timestamp": 77, "message": "Humidity of 81.5 % at s-1 in cellar",
                "sensor": {"sensorId": "s-1", "location": "cellar", "calibration": 0.5},
                "evidence": [{"topic": "test", "partition": 0, "offset": 0}]
            })
        );
        assert_eq!(alerts[1]["sensor"], json!(null));
    }

    #[test]
    fn a_reading_is_never_too_late() {
        let mut test = Harness::new(job);
        for (at, watermark) in [(9_000, 9_000), (5, 10_000), (8_000, 10_000)] {
            test.record(&reading("humidity", 81.0), at);
            test.watermark(watermark);
        }
        assert_eq!(test.emitted("sensor-alerts.critical").len(), 3);
        assert_eq!(test.job().stats().late, 0);
    }

    #[test]
    fn the_threshold_is_live_and_limited() {
        let mut test = Harness::new(job);
        test.params(1, &json!({"threshold": 90})).unwrap();
        test.record(&reading("humidity", 89.0), 5);
        assert_eq!(test.emitted("sensor-alerts.critical"), [json!(null); 0]);
        test.params(1, &json!({"high": 61, "critical": 62})).unwrap();
        for value in [60.5, 61.5, 62.5] {
            test.record(&reading("humidity", value), 5);
        }
        for topic in ["sensor-alerts.warning", "sensor-alerts.high", "sensor-alerts.critical"] {
            assert_eq!(test.emitted(topic).len(), 1, "{topic}");
        }
        assert!(test.params(2, &json!({"high": 81})).unwrap_err().0.contains("critical"));
        for bad in [json!({"threshold": 101}), json!({"threshold": "x"}), json!({"treshold": 5})] {
            let error = test.params(2, &bad).unwrap_err();
            assert!(error.0.contains("threshold") || error.0.contains("expected"), "{error}");
        }
        assert_eq!(test.job().params_version(), 1);
    }
}
