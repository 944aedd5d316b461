//! Subject `window`: tumbling event-time windows, through the API that jobs use.

use millrace_core::params::NoParams;
use millrace_core::stream::{Job, job};
use millrace_core::testing::Harness;
use millrace_core::window::{Aggregate, WindowSpec};
use millrace_core::{Effect, EventTime};
use serde_json::{Value, json};

use crate::case::{Case, Outcome, compare};

struct Event {
    key: String,
    value: Value,
}

/// Keeps the values as JSON text and computes at the end: plain, and different from what the engine's jobs do.
struct Fold {
    function: String,
    of: Option<String>,
}

impl Aggregate<Event> for Fold {
    type Acc = Vec<String>;
    type Out = Value;

    fn create(&self) -> Vec<String> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<String>, event: &Event, _: EventTime) {
        acc.push(self.of.as_ref().map_or(&event.value, |of| &event.value[of]).to_string());
    }

    fn merge(&self, acc: &mut Vec<String>, other: &Vec<String>) {
        acc.extend_from_slice(other);
    }

    fn result(&self, acc: &Vec<String>) -> Value {
        let values: Vec<Value> = acc.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
        let sum: f64 = numbers.iter().sum();
        match self.function.as_str() {
            "count" => json!(values.len()),
            "sum" => json!(sum),
            "avg" => json!(sum / numbers.len() as f64),
            "min" => json!(numbers.iter().copied().fold(f64::INFINITY, f64::min)),
            "max" => json!(numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            _ => json!(values),
        }
    }
}

fn build(spec: WindowSpec, lateness: i64, function: &str, of: Option<&str>) -> Box<dyn Job<Event>> {
    let fold = Fold { function: function.to_owned(), of: of.map(str::to_owned) };
    job::<Event, NoParams>("case", "A conformance case.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.key)
        .window(move |_| spec)
        .allowed_lateness(move |_| lateness)
        .aggregate(fold)
        .map(
            |r, _, _| json!({"key": &*r.key, "start": r.window.start, "end": r.window.end, "value": r.value}),
        )
        .to(|_| ("out", ""))
}

fn not_yet(spec: &Value) -> Option<String> {
    let kind = spec["window"]["type"].as_str().unwrap_or_default();
    let trigger = spec.get("trigger").map_or("event_time", |t| t["type"].as_str().unwrap_or_default());
    if kind != "tumbling" {
        Some(format!("{kind} windows"))
    } else if spec["time"] != "event" {
        Some("processing-time windows".into())
    } else if trigger != "event_time" {
        Some(format!("trigger {trigger}"))
    } else if spec.get("purging") == Some(&json!(true)) {
        Some("purging triggers".into())
    } else {
        None
    }
}

pub fn run(case: &Case, restore: bool) -> Result<Outcome, String> {
    if let Some(what) = not_yet(&case.spec) {
        return Ok(Outcome::NotYet(what));
    }
    let (window, aggregate) = (&case.spec["window"], &case.spec["aggregate"]);
    let number = |v: &Value, field: &str| v.get(field).and_then(Value::as_i64).unwrap_or(0);
    let spec = WindowSpec::Tumbling { size: number(window, "size"), offset: number(window, "offset") };
    let spec = match (spec.validate(), &case.error) {
        (Ok(spec), None) => spec,
        (Err(_), Some(_)) => return Ok(Outcome::Passed),
        (Ok(_), Some(_)) => return Err("the specification should have been refused".into()),
        (Err(error), None) => return Err(error.to_string()),
    };
    let lateness = number(&case.spec, "allowed_lateness");
    let function = aggregate["fn"].as_str().unwrap_or_default().to_owned();
    let of = aggregate.get("of").and_then(Value::as_str).map(str::to_owned);
    let mut test = Harness::new(move || build(spec, lateness, &function, of.as_deref()));
    let (mut out, mut late) = (Vec::new(), Vec::new());
    for step in &case.steps {
        let (kind, value) = step.iter().next().ok_or("an empty step")?;
        match kind.as_str() {
            "in" => {
                let event = Event {
                    key: value["key"].as_str().unwrap_or_default().to_owned(),
                    value: value["value"].clone(),
                };
                let ts = value["ts"].as_i64().ok_or("no ts")?;
                test.record(&event, ts);
                out.extend(test.emitted("out"));
                for effect in test.rest() {
                    match effect {
                        Effect::Late { .. } => {
                            late.push(json!({"key": event.key, "ts": ts, "value": event.value}));
                        }
                        other => return Err(format!("unexpected effect {other:?}")),
                    }
                }
            }
            "wm" => test.watermark(value.as_i64().ok_or("no watermark")?),
            "proc_time" => test.processing_time(value.as_i64().ok_or("no time")?),
            "snapshot_restore" => {
                test.restore();
            }
            "expect" => {
                let seen = std::mem::take(&mut out);
                compare("expect", &seen, value.as_array().ok_or("expect is no list")?, case.order)?;
            }
            "state_empty" => {
                compare(
                    "state_empty",
                    &[json!(test.state_is_empty())],
                    std::slice::from_ref(value),
                    case.order,
                )?;
            }
            other => return Err(format!("unknown step {other}")),
        }
        out.extend(test.emitted("out"));
        if restore {
            test.restore();
        }
    }
    compare("at the end", &out, case.expect.as_deref().unwrap_or_default(), case.order)?;
    compare("late", &late, case.late.as_deref().unwrap_or_default(), crate::case::Order::Any)?;
    if let Some(empty) = case.state_empty {
        compare("state_empty", &[json!(test.state_is_empty())], &[json!(empty)], case.order)?;
    }
    let (stats, pending) = (test.job().stats(), test.job().pending());
    if !stats.balances(pending) || stats.violations > 0 {
        return Err(format!("invariants: {stats:?}, {pending} pending"));
    }
    Ok(Outcome::Passed)
}
