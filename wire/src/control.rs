//! Commands, carried by the compacted topic `millrace.control` (one partition).
//!
//! A record's key is [`Target::key`], so that compaction keeps the newest command of each target. Its *version* is its
//! offset: larger is newer. Who applies a command acknowledges it in its telemetry ([`crate::telemetry::Ack`]).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::scenario::Scenario;

/// Version of this format; a reader skips records of a version that it does not know and says so.
pub const FORMAT: u32 = 1;

/// Settings of a generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSettings {
    /// Events per second, 0 to [`MAX_RATE`].
    pub rate: f64,
}

/// The largest rate of one stream, events/s.
pub const MAX_RATE: f64 = 50_000.0;

/// What is to be provoked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioSettings {
    /// Which; one that fits the stream.
    pub name: Scenario,
    /// For how long, from the moment the command was given: 1 to [`MAX_SECONDS`].
    pub seconds: u32,
}

/// The longest that a scenario lasts, s.
pub const MAX_SECONDS: u32 = 3_600;

/// What a command says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Command {
    /// How fast a stream is generated.
    Rate {
        /// The stream's topic.
        stream: String,
        /// The new settings.
        settings: RateSettings,
    },
    /// What happens in a stream for a while. It ends by itself, or with the next one of the stream.
    Scenario {
        /// The stream's topic.
        stream: String,
        /// What.
        settings: ScenarioSettings,
    },
    /// All parameters of a job: a map from name to value, as its JSON Schema describes.
    Params {
        /// The job's app.
        app: String,
        /// The job.
        job: String,
        /// Complete: a parameter that is absent takes its default.
        params: Map<String, Value>,
    },
    /// The tasks of an app make a checkpoint now, those whose state has changed since the last one. It is for those who
    /// run when it is given.
    Checkpoint {
        /// The app.
        app: String,
    },
}

/// A record of `millrace.control`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// [`FORMAT`].
    pub v: u32,
    /// Unique; acknowledgements name it.
    pub id: String,
    /// When it was given, epoch ms.
    pub issued_at_ms: i64,
    /// Who gave it.
    pub by: String,
    /// What it says.
    pub command: Command,
}

impl Command {
    /// Key of its record: commands with the same key replace each other.
    pub fn key(&self) -> String {
        match self {
            Self::Rate { stream, .. } => format!("rate/{stream}"),
            Self::Scenario { stream, .. } => format!("scenario/{stream}"),
            Self::Params { app, job, .. } => format!("params/{app}/{job}"),
            Self::Checkpoint { app } => format!("checkpoint/{app}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let record = ControlRecord {
            v: FORMAT,
            id: "a".into(),
            issued_at_ms: 1,
            by: "admin".into(),
            command: Command::Rate { stream: "iot-sensors".into(), settings: RateSettings { rate: 5.0 } },
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"id":"a","issued_at_ms":1,"by":"admin","command":{"kind":"rate","stream":"iot-sensors","settings":{"rate":5.0}}}"#
        );
        assert_eq!(serde_json::from_str::<ControlRecord>(&text).unwrap(), record);
        assert_eq!(record.command.key(), "rate/iot-sensors");
    }
}
