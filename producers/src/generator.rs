use std::f64::consts::TAU;
use std::io;

use millrace_wire::Timestamp;
use millrace_wire::scenario::Scenario;
use serde::Serialize;

/// Key and value of an event; its buffers are used again for the next one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Record {
    /// What decides the partition.
    pub key: Vec<u8>,
    /// JSON.
    pub value: Vec<u8>,
}

impl Record {
    /// Replaces what it holds.
    ///
    /// # Errors
    /// The value can't be written as JSON.
    pub fn put(&mut self, key: &str, value: &impl Serialize) -> io::Result<()> {
        self.key.clear();
        self.key.extend_from_slice(key.as_bytes());
        self.value.clear();
        Ok(serde_json::to_writer(&mut self.value, value)?)
    }
}

/// Share of events that are of the hot key while there is one.
pub(crate) const HOT: f64 = 0.8;

/// How much goes on, 0 to 1, where it is `ahead` hours later than in UTC: most of it at `peak` o'clock, and twelve hours from
/// then less by `depth`.
pub(crate) fn by_hour(at: Timestamp, ahead: f64, peak: f64, depth: f64) -> f64 {
    let hour = at.millis() as f64 / 3_600_000.0 + ahead;
    1.0 - depth * (1.0 - (TAU * (hour - peak) / 24.0).cos()) / 2.0
}

/// Two digits after the point, as sensors and tills write them.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A record of a compacted reference topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The reference topic.
    pub topic: &'static str,
    /// Key and value.
    pub record: Record,
}

/// Makes the events of one stream.
pub trait Generator: Send {
    /// The topic that the events go to; also the name of the stream in commands and telemetry.
    fn stream(&self) -> &'static str;

    /// Reference data that the events refer to: written before the first of them.
    fn reference(&self) -> Vec<Reference>;

    /// From now on this is provoked, or nothing. What does not concern the content of events is none of its business.
    fn provoke(&mut self, _scenario: Option<Scenario>) {}

    /// Writes the next event into `record`, replacing what it holds.
    ///
    /// # Errors
    /// The event can't be written as JSON, or, if it is a reading, can't be read.
    fn next(&mut self, event_time: Timestamp, record: &mut Record) -> io::Result<()>;
}
