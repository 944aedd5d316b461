use compact_str::CompactString;
use millrace_core::cep::{FieldValue, Fields, Operand, Stages, field};
use millrace_core::stream::Context;
use millrace_wire::Timestamp;
use millrace_wire::event::Reading;
use millrace_wire::result::Evidence;
use serde::{Deserialize, Serialize};

use crate::apps::evidence;

/// What a pattern keeps of a humidity reading, with where it is from. Part of the state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Observation {
    pub sensor_id: CompactString,
    pub location: CompactString,
    /// Percent.
    pub humidity: f64,
    pub at: Timestamp,
    pub evidence: Option<Evidence>,
}

impl Observation {
    pub fn new<P>(reading: &Reading, ctx: &Context<'_, P>) -> Self {
        Self {
            sensor_id: reading.sensor_id.clone(),
            location: reading.location.clone(),
            humidity: reading.value,
            at: reading.timestamp,
            evidence: evidence(ctx.origin),
        }
    }
}

/// In patterns: the humidity of the event at hand.
pub(super) fn humidity() -> Operand {
    field("humidity")
}

/// What a match has taken, whatever its stages are called.
pub(super) fn in_order(stages: &Stages<Observation>) -> Vec<&Observation> {
    let mut taken: Vec<_> = stages.iter().flat_map(|(_, observations)| observations).collect();
    taken.sort_by_key(|observation| observation.at);
    taken
}

/// Those of an observation.
pub(super) const FIELDS: &[&str] = &["humidity", "location"];

impl Fields for Observation {
    fn field(&self, name: &str) -> FieldValue<'_> {
        match name {
            "humidity" => FieldValue::Number(self.humidity),
            "location" => FieldValue::Text(&self.location),
            _ => FieldValue::Null,
        }
    }
}
