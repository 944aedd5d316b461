//! Subject `cep`: patterns as data, through the API that jobs use.

use millrace_core::cep::{Detected, FieldValue, Fields, Json, Pattern, Stages};
use millrace_core::params::NoParams;
use millrace_core::stream::{Job, job};
use millrace_core::testing::Harness;
use millrace_core::{Effect, TimeDomain, cep};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::case::{Case, Order, Step, compare, read, same, unknown};

#[derive(Clone, Serialize, Deserialize)]
struct Event {
    key: String,
    id: String,
    value: Json,
}

impl Fields for Event {
    fn field(&self, name: &str) -> FieldValue<'_> {
        self.value.field(name)
    }
}

fn ids(stages: &Stages<Event>) -> Value {
    let list = |events: &[Event]| events.iter().map(|event| Value::from(event.id.as_str())).collect();
    Value::Object(
        stages.iter().map(|(stage, events)| (stage.to_owned(), Value::Array(list(events)))).collect(),
    )
}

fn build(pattern: Pattern, time: TimeDomain) -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("case", "A conformance case.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.key)
        .pattern(move |_| pattern.clone(), time)
        .map(|found, _, _| match found {
            Detected::Match { key, stages, .. } => ("out", json!({"key": &**key, "match": ids(stages)})),
            Detected::TimedOut { key, stages, at, .. } => {
                ("timeouts", json!({"key": &**key, "match": ids(stages), "ts": at}))
            }
        })
        .to(|(topic, _)| (topic, ""))
}

/// The order of the ids is part of a match, that of other lists is not.
fn ordered(outputs: &[Value]) -> Vec<Value> {
    let mut outputs = outputs.to_vec();
    for stages in outputs.iter_mut().filter_map(|output| output.get_mut("match")?.as_object_mut()) {
        stages.values_mut().for_each(|ids| *ids = ids.to_string().into());
    }
    outputs
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    key: String,
    #[serde(default)]
    ts: i64,
    id: String,
    #[serde(default)]
    value: Value,
}

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    let mut spec = case.spec.as_object().cloned().ok_or("the spec is no map")?;
    let time = match spec.remove("time").as_ref().and_then(Value::as_str) {
        Some("event") => TimeDomain::Event,
        Some("processing") => TimeDomain::Processing,
        _ => return Err("no time".into()),
    };
    let pattern: Result<Pattern, String> = serde_json::from_value(spec.into()).map_err(|e| e.to_string());
    let pattern = pattern.and_then(|pattern| match cep::compile(&pattern, cep::Limits::default()) {
        Ok(_) => Ok(pattern),
        Err(error) => Err(error.to_string()),
    });
    let pattern = match (pattern, case.error.is_some()) {
        (Ok(pattern), false) => pattern,
        (Err(_), true) => return Ok(()),
        (Ok(_), true) => return Err("the specification should have been refused".into()),
        (Err(error), false) => return Err(error),
    };
    let mut test = Harness::new(move || build(pattern.clone(), time));
    let (mut out, mut late, mut timeouts) = (Vec::new(), Vec::new(), Vec::new());
    let mut take = |test: &mut Harness<Event>, out: &mut Vec<Value>| {
        for output in test.emitted("out").into_iter().chain(test.emitted("timeouts")) {
            match output.as_array().map(Vec::as_slice) {
                Some([topic, output]) if topic == "out" => out.push(output.clone()),
                Some([_, output]) => timeouts.push(output.clone()),
                _ => {}
            }
        }
    };
    for step in &case.steps {
        match step {
            Step::In(record) => {
                let In { key, ts, id, value } = read(record)?;
                // A scalar has no fields.
                let fields = value.as_object().cloned().unwrap_or_else(Map::new);
                let event = Event { key, id, value: Json(fields) };
                test.record(&event, ts);
                take(&mut test, &mut out);
                for effect in test.rest() {
                    match effect {
                        Effect::Late { .. } => late.push(json!({"key": event.key, "ts": ts, "id": event.id})),
                        other => return Err(format!("unexpected effect {other:?}")),
                    }
                }
            }
            Step::Wm(to) => test.watermark(*to),
            Step::ProcTime(to) => test.processing_time(*to),
            Step::SnapshotRestore(_) => {
                test.restore();
            }
            Step::Expect(expected) => {
                compare("expect", &ordered(&std::mem::take(&mut out)), &ordered(expected), case.order)?;
            }
            Step::StateEmpty(expected) => same("state_empty", &test.state_is_empty(), expected)?,
            other => return Err(unknown(other)),
        }
        take(&mut test, &mut out);
        if restore {
            test.restore();
        }
    }
    compare("at the end", &ordered(&out), &ordered(case.at_the_end()), case.order)?;
    compare("late", &late, case.late.as_deref().unwrap_or_default(), Order::Any)?;
    if let Some(expected) = &case.timeouts {
        compare("timeouts", &ordered(&timeouts), &ordered(expected), Order::Any)?;
    }
    if let Some(expected) = &case.state_empty {
        same("state_empty", &test.state_is_empty(), expected)?;
    }
    let (stats, pending) = (test.job().stats(), test.job().pending());
    if !stats.balances(pending) || stats.violations > 0 {
        return Err(format!("invariants: {stats:?}, {pending} pending"));
    }
    Ok(())
}
