//! Records of the result topics. Each becomes one document in the index `<prefix>-<topic>`.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::event::Sensor;

/// How bad it is. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Above the threshold.
    Warning,
    /// Well above.
    High,
    /// Act now.
    Critical,
}

/// A source record that a result rests on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Evidence {
    /// Topic of the record.
    pub topic: CompactString,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl Evidence {
    /// `topic/partition/offset`: alert ids are derived from it, so that a replay gives the same id.
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// A record of `sensor-alerts.{critical,high,warning}`, keyed by location: job `mold-filter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SensorAlert {
    /// `mold-filter/<evidence>`: the same after a replay.
    pub id: String,
    /// `MOLD_RISK`.
    pub r#type: String,
    /// By the reading's value.
    pub severity: Severity,
    /// `ALERT`; what a consumer switches on.
    pub status: String,
    /// The sensor.
    pub key: CompactString,
    /// The sensor, again under its own name.
    pub sensor_id: CompactString,
    /// The reading's location, or the reference data's when the reading has none.
    pub location: CompactString,
    /// Relative humidity in percent, as measured.
    pub value: f64,
    /// Event time of the reading.
    pub reading_timestamp: Timestamp,
    /// Processing time: when the alert was made.
    pub timestamp: Timestamp,
    /// For people.
    pub message: String,
    /// Reference data of the sensor, null if there is none yet.
    pub sensor: Option<Sensor>,
    /// The reading.
    pub evidence: Vec<Evidence>,
}

/// A record of `sensor-averages`, keyed by `sensorId`: job `humidity-average`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SensorAverage {
    /// Which sensor.
    #[serde(rename = "sensorId")]
    pub sensor_id: CompactString,
    /// Location of the window's latest reading by event time.
    pub location: CompactString,
    /// Inclusive, epoch ms.
    pub window_start: i64,
    /// Exclusive, epoch ms.
    pub window_end: i64,
    /// Arithmetic mean, percent.
    pub average: f64,
    /// Smallest reading.
    pub min: f64,
    /// Largest reading.
    pub max: f64,
    /// Number of readings.
    pub count: u64,
}

/// Names of the headers of a record in `dead-letters` and `late-events`; the value is the original's bytes.
pub mod header {
    /// Topic of the original.
    pub const TOPIC: &str = "source-topic";
    /// Partition of the original.
    pub const PARTITION: &str = "source-partition";
    /// Offset of the original.
    pub const OFFSET: &str = "source-offset";
    /// `app/job`; only the app when the record could not be parsed.
    pub const JOB: &str = "job";
    /// `malformed`, `late`, `rejected`.
    pub const ERROR_KIND: &str = "error-kind";
    /// What is wrong with it.
    pub const ERROR_TEXT: &str = "error-text";
}
