//! The case format, version 1. What it does not know is an error.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub format: u32,
    /// [`Case`]s, read one by one: one that can't be read does not take the others with it.
    pub cases: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub subject: Subject,
    #[serde(rename = "source")]
    _source: Source,
    /// By subject.
    pub spec: Value,
    #[serde(default)]
    pub order: Order,
    pub steps: Vec<Step>,
    pub expect: Option<Vec<Value>>,
    pub late: Option<Vec<Value>>,
    pub timeouts: Option<Vec<Value>>,
    pub state_empty: Option<bool>,
    pub error: Option<Refusal>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Window,
    Watermark,
    Cep,
    Process,
    Join,
}

/// Where the fact is from: for people.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Source {
    project: String,
    version: String,
    commit: String,
    test: String,
    note: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    InvalidSpec,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    Any,
    Exact,
}

/// A step: a map with one key.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// By subject.
    In(Value),
    Wm(i64),
    ProcTime(i64),
    WmIn(InputWatermark),
    Idle(InputStatus),
    Active(InputStatus),
    Register(String),
    Unregister(String),
    Periodic(True),
    SnapshotRestore(True),
    Expect(Vec<Value>),
    StateEmpty(bool),
    Retained(Retained),
    Current(Current),
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct InputWatermark {
    pub input: String,
    pub ts: i64,
    #[serde(default)]
    pub deferred: bool,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct InputStatus {
    pub input: String,
    #[serde(default)]
    pub deferred: bool,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Retained {
    pub left: usize,
    pub right: usize,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Current {
    pub wm: Option<i64>,
    pub idle: bool,
}

/// What can only be `true`.
#[derive(Deserialize, Debug)]
#[serde(try_from = "bool")]
pub struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        if value { Ok(Self) } else { Err("this step can only be true") }
    }
}

impl Case {
    /// What goes beyond the types.
    pub fn check(&self) -> Result<(), String> {
        let none = |field: &str, given: bool| {
            if given { Err(format!("{field} does not apply here")) } else { Ok(()) }
        };
        if self.error.is_some() {
            none("steps", !self.steps.is_empty())?;
            none("expect", self.expect.is_some() || self.state_empty.is_some())?;
            none("late or timeouts", self.late.is_some() || self.timeouts.is_some())?;
        }
        none("expect beside expect steps", self.expect.is_some() && self.has_expect_steps())?;
        none("timeouts", self.timeouts.is_some() && self.subject != Subject::Cep)?;
        let judges = !matches!(self.subject, Subject::Watermark | Subject::Process);
        none("late", self.late.is_some() && !judges)
    }

    pub fn has_expect_steps(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Expect(_)))
    }

    /// Outputs after the last `expect` step, or over the whole run.
    pub fn at_the_end(&self) -> &[Value] {
        self.expect.as_deref().unwrap_or_default()
    }
}

/// Reads a part whose form depends on the subject.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|e| format!("{e} in {value}"))
}

/// A step that the subject does not have.
pub fn unknown(step: &Step) -> String {
    format!("no step of this subject: {step:?}")
}

/// Compares what came with what was expected: numbers as numbers, lists inside of values as multisets.
pub fn compare(what: &str, actual: &[Value], expected: &[Value], order: Order) -> Result<(), String> {
    let form = |values: &[Value]| {
        let mut texts: Vec<String> = values.iter().map(|v| normal(v).to_string()).collect();
        if order == Order::Any {
            texts.sort();
        }
        texts
    };
    same(what, &form(actual), &form(expected))
}

/// Compares a fact.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {actual:?}")) }
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
