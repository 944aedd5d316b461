//! App `sensors`: mold alert. Reads `iot-sensors` and the reference topic `sensors`.

mod battery_low;
mod consecutive_high;
mod humidity_average;
mod humidity_rise;
mod mold_filter;
mod observation;
mod sensor_anomalies;

use compact_str::CompactString;
use millrace_core::task::{Parsed, SourceKind};
use millrace_core::{App, EventTime, Record, Source};
use millrace_wire::event::{DeviceType, Reading, Sensor};
use millrace_wire::topic;

use super::json;

/// What a record of this app is.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// From `iot-sensors`.
    Reading(Reading),
    /// From `sensors`.
    Sensor(Sensor),
    /// A tombstone in `sensors`.
    SensorGone(CompactString),
}

impl Event {
    fn reading(&self) -> Option<&Reading> {
        match self {
            Self::Reading(reading) => Some(reading),
            Self::Sensor(_) | Self::SensorGone(_) => None,
        }
    }

    fn humidity(&self) -> Option<&Reading> {
        self.reading().filter(|reading| reading.device_type == DeviceType::Humidity)
    }

    fn sensor(&self) -> Option<(&str, Option<&Sensor>)> {
        match self {
            Self::Sensor(sensor) => Some((&sensor.sensor_id, Some(sensor))),
            Self::SensorGone(id) => Some((id, None)),
            Self::Reading(_) => None,
        }
    }
}

/// The app.
pub const APP: App<Event> = App {
    name: "sensors",
    sources: &[
        Source { topic: topic::IOT_SENSORS, kind: super::STREAM },
        Source { topic: topic::SENSORS, kind: SourceKind::Reference },
    ],
    partitions: topic::PARTITIONS,
    parse,
    jobs: || {
        vec![
            mold_filter::job(),
            humidity_average::job(),
            consecutive_high::job(),
            humidity_rise::job(),
            sensor_anomalies::job(),
            battery_low::job(),
        ]
    },
};

fn parse(record: &Record<'_>) -> Result<Parsed<Event>, String> {
    let Some(value) = record.value else {
        return match (record.source, record.key.map(std::str::from_utf8)) {
            (1, Some(Ok(key))) => Ok(Parsed::new(Event::SensorGone(key.into()), EventTime(0))),
            _ => Err("the record has no value".to_owned()),
        };
    };
    if record.source == 1 {
        let sensor = serde_json::from_slice(value).map_err(|e| format!("not a sensor: {e}"))?;
        return Ok(Parsed::new(Event::Sensor(sensor), EventTime(0)));
    }
    let reading: Reading = json(value).map_err(|e| format!("not a sensor reading: {e}"))?;
    let at = EventTime(reading.timestamp.millis());
    Ok(Parsed::new(Event::Reading(reading), at))
}

#[cfg(test)]
mod tests {
    use millrace_core::testing::Harness;
    use millrace_core::{Application, Effect, Effects, Input};
    use serde_json::json;

    use super::*;

    /// Humidity readings of a sensor: (event time, percent).
    pub(super) fn humid(test: &mut Harness<Event>, sensor: &str, readings: &[(i64, f64)]) {
        for (at, value) in readings {
            let reading = json!({
                "timestamp": at, "sensorId": sensor, "deviceType": "humidity", "value": value, "location": "cellar"
            });
            test.record(&Event::Reading(serde_json::from_value(reading).unwrap()), *at);
        }
    }

    fn reading(sensor: &str, at: i64, value: f64) -> String {
        format!(
            r#"{{"timestamp":{at},"sensorId":"{sensor}","deviceType":"humidity","value":{value},"location":"cellar"}}"#
        )
    }

    #[test]
    fn malformed_records_are_dead_and_stop_nothing() {
        let mut task = APP.task(0).unwrap();
        task.start();
        let mut effects = Effects::default();
        let values: [Option<&[u8]>; 4] =
            [Some(b"\xff\xfe"), Some(br#"{"timestamp":"soon"}"#), None, Some(b"")];
        for (offset, value) in values.into_iter().enumerate() {
            let record = Record { source: 0, offset: offset as i64, key: None, value };
            task.step(Input::Record(record), &mut effects).unwrap();
        }
        let good = reading("s", 1_000, 65.0);
        let record = Record { source: 0, offset: 4, key: None, value: Some(good.as_bytes()) };
        task.step(Input::Record(record), &mut effects).unwrap();
        let dead = effects.iter().filter(|e| matches!(e, Effect::Dead { .. })).count();
        let emitted = effects.iter().filter(|e| matches!(e, Effect::Emit { .. })).count();
        assert_eq!((dead, emitted, task.totals().dead, task.totals().records), (4, 1, 4, 5));
        assert_eq!(task.offsets(), [("iot-sensors", 5)]);
    }

    #[test]
    fn restored_from_the_changelog_it_continues_exactly() {
        let change = ("humidity-average", &json!({"window_size_s": 10}));
        let written = crate::apps::tests::continues_exactly(&APP, change, |i| {
            let at = 1_000_000 + i * 2_000 - (i % 7) * 1_500;
            let jump = if i == 390 { 500.0 } else { 0.0 };
            (0, reading(&format!("s{}", i % 3), at, 50.0 + jump + (i % 40) as f64))
        });
        for topic in [topic::SENSOR_AVERAGES, topic::SENSOR_ALERTS_HIGH, topic::MOLD_ALERTS, topic::ANOMALIES]
        {
            assert!(written.contains(topic), "{topic}");
        }
    }
}
