//! Live parameters of a job: a plain struct with defaults, limits, units and descriptions.
//!
//! ```
//! use garde::Validate;
//! use millrace_core::params::{Params, merge};
//!
//! /// What people can change.
//! #[derive(Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Validate)]
//! #[serde(default, deny_unknown_fields)]
//! struct Alarm {
//!     /// Readings above it raise an alarm.
//!     #[garde(range(min = 0.0, max = 100.0))]
//!     #[schemars(extend("x-unit" = "%"))]
//!     threshold: f64,
//! }
//! impl Default for Alarm {
//!     fn default() -> Self {
//!         Self { threshold: 60.0 }
//!     }
//! }
//!
//! let change = serde_json::json!({"threshold": 101});
//! let error = merge::<Alarm>(change.as_object().unwrap()).err().unwrap();
//! assert!(error.0.contains("threshold"), "{error}");
//! assert_eq!(Alarm::schema()["properties"]["threshold"]["maximum"], 100.0);
//! ```

use garde::Validate;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Parameters of a job. Implemented for every struct that has what it takes.
pub trait Params:
    Serialize + DeserializeOwned + Default + Clone + Validate<Context = ()> + JsonSchema
{
    /// JSON Schema, with defaults and limits.
    fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }

    /// The values.
    fn to_map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        }
    }
}

impl<T: Serialize + DeserializeOwned + Default + Clone + Validate<Context = ()> + JsonSchema> Params for T {}

/// Why parameters are refused, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// For jobs that have none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, serde::Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// Reads values: what is absent takes its default.
///
/// # Errors
/// An unknown name, a wrong type, a value outside of its limits.
pub fn merge<P: Params>(values: &Map<String, Value>) -> Result<P, Refused> {
    let params: P =
        serde_json::from_value(Value::Object(values.clone())).map_err(|e| Refused(e.to_string()))?;
    params.validate().map_err(|report| Refused(report.to_string().trim().replace('\n', "; ")))?;
    Ok(params)
}
