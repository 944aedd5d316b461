//! App `sensors`: mold alert. Reads `iot-sensors` and the reference topic `sensors`.

mod battery_low;
mod consecutive_high;
mod humidity_average;
mod humidity_rise;
mod mold_filter;
mod observation;
mod sensor_anomalies;
#[cfg(test)]
mod tests;

use compact_str::CompactString;
use millrace_core::task::{Malformed, Parsed, SourceKind};
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

fn parse(record: &Record<'_>) -> Result<Parsed<Event>, Malformed> {
    let Some(value) = record.value else {
        return match (record.source, record.key.map(std::str::from_utf8)) {
            (1, Some(Ok(key))) => Ok(Parsed::new(Event::SensorGone(key.into()), EventTime(0))),
            _ => Err("the record has no value".into()),
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
