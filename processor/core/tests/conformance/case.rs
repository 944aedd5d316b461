//! The case format, version 1.

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub format: u32,
    pub cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub subject: String,
    #[serde(rename = "source")]
    pub _source: Value,
    pub spec: Value,
    #[serde(default)]
    pub order: Order,
    pub steps: Vec<Step>,
    pub expect: Option<Vec<Value>>,
    pub late: Option<Vec<Value>>,
    pub timeouts: Option<Vec<Value>>,
    pub state_empty: Option<bool>,
    pub error: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    Any,
    Exact,
}

/// A step: a map with one key.
pub type Step = std::collections::BTreeMap<String, Value>;

/// Compares what came with what was expected: numbers as numbers, lists inside of values as multisets.
pub fn compare(what: &str, actual: &[Value], expected: &[Value], order: Order) -> Result<(), String> {
    let form = |values: &[Value]| {
        let mut texts: Vec<String> = values.iter().map(|v| normal(v).to_string()).collect();
        if order == Order::Any {
            texts.sort();
        }
        texts
    };
    let (a, e) = (form(actual), form(expected));
    if a == e { Ok(()) } else { Err(format!("{what}: expected {e:?}, got {a:?}")) }
}

fn normal(value: &Value) -> Value {
    match value {
        Value::Number(n) => n.as_f64().filter(|f| f.abs() < 9e15).map_or_else(|| value.clone(), Value::from),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(normal).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), normal(v))).collect()),
        other => other.clone(),
    }
}
