//! What a predicate may see of an event.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue<'a> {
    /// Null, or no such field.
    Null,
    /// True or false.
    Bool(bool),
    /// Any number.
    Number(f64),
    /// Text.
    Text(&'a str),
}

impl From<bool> for FieldValue<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for FieldValue<'_> {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a, T: Into<FieldValue<'a>>> From<Option<T>> for FieldValue<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<'a> From<&'a Value> for FieldValue<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(value) => value.as_f64().into(),
            Value::String(value) => Self::Text(value),
            Value::Null | Value::Array(_) | Value::Object(_) => Self::Null,
        }
    }
}

/// Gives predicates access to an event's fields by name.
///
/// ```
/// use millrace_core::cep::{FieldValue, Fields};
///
/// struct Reading {
///     sensor: String,
///     humidity: f64,
/// }
/// impl Fields for Reading {
///     fn field(&self, name: &str) -> FieldValue<'_> {
///         match name {
///             "sensor" => FieldValue::Text(&self.sensor),
///             "humidity" => FieldValue::Number(self.humidity),
///             _ => FieldValue::Null,
///         }
///     }
/// }
/// let reading = Reading { sensor: "s1".into(), humidity: 71.5 };
/// assert_eq!(reading.field("humidity"), FieldValue::Number(71.5));
/// assert_eq!(reading.field("altitude"), FieldValue::Null);
/// ```
pub trait Fields {
    /// The value of a field; [`FieldValue::Null`] if there is none of that name.
    fn field(&self, name: &str) -> FieldValue<'_>;
}

impl<T: Fields + ?Sized> Fields for &T {
    fn field(&self, name: &str) -> FieldValue<'_> {
        (**self).field(name)
    }
}

impl Fields for Map<String, Value> {
    fn field(&self, name: &str) -> FieldValue<'_> {
        self.get(name).map_or(FieldValue::Null, FieldValue::from)
    }
}

impl Fields for Value {
    fn field(&self, name: &str) -> FieldValue<'_> {
        self.get(name).map_or(FieldValue::Null, FieldValue::from)
    }
}

/// A JSON object as the event of a job. State is encoded without field names, which JSON values can't be read back
/// from: this type travels there as JSON text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Json(pub Map<String, Value>);

impl Fields for Json {
    fn field(&self, name: &str) -> FieldValue<'_> {
        self.0.field(name)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.serialize(serializer)
        } else {
            serde_json::to_string(&self.0).map_err(serde::ser::Error::custom)?.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Map::deserialize(deserializer).map(Self)
        } else {
            let text = String::deserialize(deserializer)?;
            serde_json::from_str(&text).map(Self).map_err(serde::de::Error::custom)
        }
    }
}
