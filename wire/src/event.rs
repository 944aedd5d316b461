//! Events of the raw topics, as any Kafka client may write them.
//!
//! Required fields are the ones that a job cannot do without; the others have a default. Unknown fields are ignored.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceType {
    /// Degrees Celsius.
    Temperature,
    /// Relative humidity in percent.
    Humidity,
    /// Velocity in mm/s.
    Vibration,
    /// Hectopascal.
    Pressure,
}

impl DeviceType {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Vibration => "vibration",
            Self::Pressure => "pressure",
        }
    }
}

/// A record of `iot-sensors`, keyed by `sensorId`.
///
/// ```
/// let reading: millrace_wire::event::Reading = serde_json::from_str(
///     r#"{"timestamp":1717200000000,"sensorId":"s-1","deviceType":"humidity","value":71.5}"#).unwrap();
/// assert_eq!(reading.value, 71.5);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// Event time: when the sensor measured.
    pub timestamp: Timestamp,
    /// Which sensor.
    pub sensor_id: CompactString,
    /// What it measures.
    pub device_type: DeviceType,
    /// The measurement, in `unit`.
    pub value: f64,
    /// Unit of `value`, for people.
    #[serde(default)]
    pub unit: CompactString,
    /// Where the sensor is mounted.
    #[serde(default)]
    pub location: CompactString,
    /// Charge of its battery in percent.
    #[serde(default)]
    pub battery_level: Option<f64>,
}

/// A record of the compacted reference topic `sensors`, keyed by `sensorId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sensor {
    /// Which sensor.
    pub sensor_id: CompactString,
    /// Where it is mounted.
    pub location: CompactString,
    /// What to add to its readings to correct them, in their unit.
    pub calibration: f64,
}
