//! Subject `process`: process functions with state, time to live and timers, through the API that jobs use.

use millrace_core::params::NoParams;
use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
use millrace_core::state::{Refresh, Ttl};
use millrace_core::stream::{Job, job};
use millrace_core::testing::Harness;
use millrace_core::time::TimeDomain;
use millrace_core::{Effect, EventTime};
use serde_json::{Value, json};

use crate::case::{Case, compare};

struct Event {
    key: String,
    value: Value,
    id: Value,
}

type Ctx<'a, 'b> = ProcessContext<'a, 'b, NoParams, Value>;

/// `fn: timer`.
#[derive(Clone, Copy)]
struct Delayed {
    domain: TimeDomain,
    delay: i64,
}

impl ProcessFunction<NoParams, Event> for Delayed {
    /// The value as JSON, and the timer.
    type State = Option<(String, i64)>;
    type Out = Value;

    fn record(
        &mut self,
        event: &Event,
        at: EventTime,
        state: &mut Current<Self::State>,
        ctx: &mut Ctx<'_, '_>,
    ) {
        if let Some((_, timer)) = state.take() {
            ctx.delete_timer(self.domain, timer);
            return;
        }
        let mut result = json!({"key": event.key, "kind": "element", "value": event.value});
        let clock = match self.domain {
            TimeDomain::Event => {
                result["ts"] = json!(at.0);
                ctx.watermark().0
            }
            TimeDomain::Processing => ctx.now(),
        };
        ctx.collect(result);
        let timer = clock.saturating_add(self.delay);
        ctx.register_timer(self.domain, timer);
        **state = Some((event.value.to_string(), timer));
    }

    fn timer(&mut self, timer: Timer, state: &mut Current<Self::State>, ctx: &mut Ctx<'_, '_>) {
        let (text, _) = state.take().unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        ctx.collect(json!({"key": ctx.key(), "kind": "timer", "value": value, "ts": timer.time}));
    }
}

/// `fn: ttl_value`.
#[derive(Clone, Copy)]
struct Remembered(Ttl);

impl ProcessFunction<NoParams, Event> for Remembered {
    type State = Option<String>;
    type Out = Value;

    fn record(
        &mut self,
        event: &Event,
        _: EventTime,
        state: &mut Current<Self::State>,
        ctx: &mut Ctx<'_, '_>,
    ) {
        if event.value["op"] == "write" {
            **state = Some(event.value["v"].to_string());
        } else {
            let value: Value = state.as_ref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            ctx.collect(json!({"key": event.key, "value": value}));
        }
    }

    fn ttl(&self, _: &NoParams) -> Option<Ttl> {
        Some(self.0)
    }
}

/// A comparison of a field with a constant; `None` for any other predicate.
fn satisfies(condition: &Value, value: &Value) -> Option<bool> {
    let (left, right) = (&value[condition["left"]["field"].as_str()?], condition["right"].get("const")?);
    let order = match (left, right) {
        (Value::Number(l), Value::Number(r)) => l.as_f64()?.partial_cmp(&r.as_f64()?),
        (Value::String(l), Value::String(r)) => Some(l.cmp(r)),
        (Value::Bool(l), Value::Bool(r)) => Some(l.cmp(r)),
        _ => None,
    };
    let holds: fn(std::cmp::Ordering) -> bool = match condition["op"].as_str()? {
        "eq" => std::cmp::Ordering::is_eq,
        "ne" => std::cmp::Ordering::is_ne,
        "lt" => std::cmp::Ordering::is_lt,
        "le" => std::cmp::Ordering::is_le,
        "gt" => std::cmp::Ordering::is_gt,
        "ge" => std::cmp::Ordering::is_ge,
        _ => return None,
    };
    Some(order.is_some_and(holds))
}

fn build(spec: &Value) -> Option<Box<dyn Job<Event>>> {
    let keyed = job::<Event, NoParams>("case", "A conformance case.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.key);
    let number = |field: &str| spec[field].as_i64().unwrap_or_default();
    Some(match spec["fn"].as_str()? {
        "timer" => {
            let domain = if spec["time"] == "event" { TimeDomain::Event } else { TimeDomain::Processing };
            keyed.process(Delayed { domain, delay: number("delay") }).to(|_| ("out", ""))
        }
        "ttl_value" => {
            let refresh = match spec["refresh"].as_str()? {
                "on_write" => Refresh::OnWrite,
                "on_read_and_write" => Refresh::OnReadAndWrite,
                _ => return None,
            };
            keyed
                .process(Remembered(Ttl::processing_time(number("ttl")).refresh(refresh)))
                .to(|_| ("out", ""))
        }
        "consecutive" => {
            let (n, slide) = (number("n") as usize, spec["after"] == "slide");
            let condition = spec["where"].clone();
            satisfies(&condition, &Value::Null)?;
            keyed
                .map_with_state(move |event: &Event, run: &mut Current<Vec<String>>, _, _| {
                    if !satisfies(&condition, &event.value)? {
                        run.clear();
                        return None;
                    }
                    run.push(event.id.to_string());
                    if run.len() < n {
                        return None;
                    }
                    let ids: Vec<Value> = run.iter().map(|id| serde_json::from_str(id).unwrap()).collect();
                    if slide {
                        run.remove(0);
                    } else {
                        run.clear();
                    }
                    Some(json!({"key": event.key, "ids": ids}))
                })
                .to(|_| ("out", ""))
        }
        _ => return None,
    })
}

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    if build(&case.spec).is_none() {
        return Err(format!("process: no kind {}", case.spec["fn"]));
    }
    let spec = case.spec.clone();
    let mut test = Harness::new(move || build(&spec).unwrap());
    let mut out = Vec::new();
    for step in &case.steps {
        let (kind, value) = step.iter().next().ok_or("an empty step")?;
        match kind.as_str() {
            "in" => {
                let event = Event {
                    key: value["key"].as_str().ok_or("no key")?.to_owned(),
                    value: value["value"].clone(),
                    id: value["id"].clone(),
                };
                test.record(&event, value["ts"].as_i64().unwrap_or(0));
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
            other => return Err(format!("unknown step {other}")),
        }
        out.extend(test.emitted("out"));
        if let Some(effect) = test.rest().into_iter().find(|e| !matches!(e, Effect::Emit { .. })) {
            return Err(format!("unexpected effect {effect:?}"));
        }
        if restore {
            test.restore();
        }
    }
    compare("at the end", &out, case.expect.as_deref().unwrap_or_default(), case.order)?;
    if let Some(empty) = case.state_empty {
        compare("state_empty", &[json!(test.state_is_empty())], &[json!(empty)], case.order)?;
    }
    let (stats, pending) = (test.job().stats(), test.job().pending());
    if !stats.balances(pending) || stats.violations > 0 {
        return Err(format!("invariants: {stats:?}, {pending} pending"));
    }
    Ok(())
}
