use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::stream::Origin;
use crate::task::Malformed;
use crate::time::{EventTime, Watermark};

/// What is in a repartition topic, as JSON.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// A record.
    Record {
        /// Its event time.
        at: EventTime,
        /// Topic, partition and offset of the source record that it was made of; `None` for one made of several.
        origin: Option<(&'a str, i32, i64)>,
        /// JSON.
        record: &'a str,
    },
    /// How far a task is.
    Progress {
        /// Its partition.
        from: i32,
        /// No record of it at or before this time follows.
        watermark: Watermark,
        /// It does not hold the others up.
        idle: bool,
        /// It has just come back and does not know who is idle: those that are say so again.
        asks: bool,
    },
}

/// Both in one, as written and read.
#[derive(Serialize, Deserialize)]
struct Envelope<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    origin: Option<(&'a str, i32, i64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<i64>,
    #[serde(default)]
    idle: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    asks: bool,
}

/// A record, to be written.
pub(super) fn record<T: Serialize>(at: EventTime, origin: Option<Origin>, record: &T) -> impl Serialize {
    let origin = origin.map(|o| (o.topic, o.partition, o.offset));
    Envelope {
        at: Some(at.0),
        origin,
        record: Some(record),
        from: None,
        watermark: None,
        idle: false,
        asks: false,
    }
}

/// A marker, to be written.
pub(crate) fn progress(from: i32, watermark: Watermark, idle: bool, asks: bool) -> impl Serialize {
    let watermark = watermark.get();
    Envelope::<()> { at: None, origin: None, record: None, from: Some(from), watermark, idle, asks }
}

impl<'a> Message<'a> {
    /// Reads what is in the topic.
    ///
    /// # Errors
    /// It is neither.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let envelope: Envelope<'a, &'a RawValue> =
            serde_json::from_slice(bytes).map_err(|e| format!("not of a repartition topic: {e}"))?;
        let Envelope { at, origin, record, from, watermark, idle, asks } = envelope;
        match (at, record, from) {
            (Some(at), Some(record), _) => {
                Ok(Self::Record { at: EventTime(at), origin, record: record.get() })
            }
            (_, None, Some(from)) => {
                let watermark = watermark.map_or(Watermark::NONE, Watermark);
                Ok(Self::Progress { from, watermark, idle, asks })
            }
            _ => Err("not of a repartition topic: neither a record nor a marker".into()),
        }
    }
}
