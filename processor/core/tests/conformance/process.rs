//! Subject `process`: process functions with state, time to live and timers, through the API that jobs use.

use millrace_core::cep::Predicate;
use millrace_core::params::NoParams;
use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
use millrace_core::state::{Refresh, Ttl};
use millrace_core::stream::{Job, job};
use millrace_core::testing::Harness;
use millrace_core::time::TimeDomain;
use millrace_core::{Effect, EventTime};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::case::{Case, Step, compare, read, same, unknown};
use crate::predicate::holds;

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

/// What the case asks for.
#[derive(Clone, Deserialize)]
#[serde(tag = "fn", rename_all = "snake_case", deny_unknown_fields)]
enum Spec {
    Timer { time: Time, delay: i64 },
    TtlValue { ttl: i64, refresh: Access },
    Consecutive { n: usize, r#where: Predicate, after: After },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Time {
    Event,
    Processing,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Access {
    OnWrite,
    OnReadAndWrite,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum After {
    Restart,
    Slide,
}

fn build(spec: Spec) -> Box<dyn Job<Event>> {
    let keyed = job::<Event, NoParams>("case", "A conformance case.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.key);
    match spec {
        Spec::Timer { time, delay } => {
            let domain = match time {
                Time::Event => TimeDomain::Event,
                Time::Processing => TimeDomain::Processing,
            };
            keyed.process(Delayed { domain, delay }).to(|_| ("out", ""))
        }
        Spec::TtlValue { ttl, refresh } => {
            let refresh = match refresh {
                Access::OnWrite => Refresh::OnWrite,
                Access::OnReadAndWrite => Refresh::OnReadAndWrite,
            };
            keyed.process(Remembered(Ttl::processing_time(ttl).refresh(refresh))).to(|_| ("out", ""))
        }
        Spec::Consecutive { n, r#where, after } => keyed
            .map_with_state(move |event: &Event, run: &mut Current<Vec<String>>, _, _| {
                // A predicate that can't be evaluated is found before the case is run.
                if !holds(&r#where, &event.value).unwrap() {
                    run.clear();
                    return None;
                }
                run.push(event.id.to_string());
                if run.len() < n {
                    return None;
                }
                let ids: Vec<Value> = run.iter().map(|id| serde_json::from_str(id).unwrap()).collect();
                match after {
                    After::Slide => drop(run.remove(0)),
                    After::Restart => run.clear(),
                }
                Some(json!({"key": event.key, "ids": ids}))
            })
            .to(|_| ("out", "")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    key: String,
    #[serde(default)]
    ts: i64,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    id: Value,
}

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    if case.error.is_some() {
        return Err("a process function has no specification that is refused".into());
    }
    let spec: Spec = read(&case.spec)?;
    if let Spec::Consecutive { r#where, .. } = &spec {
        holds(r#where, &Value::Null)?;
    }
    let mut test = Harness::new(move || build(spec.clone()));
    let mut out = Vec::new();
    for step in &case.steps {
        match step {
            Step::In(record) => {
                let In { key, ts, value, id } = read(record)?;
                test.record(&Event { key, value, id }, ts);
            }
            Step::Wm(to) => test.watermark(*to),
            Step::ProcTime(to) => test.processing_time(*to),
            Step::SnapshotRestore(_) => {
                test.restore();
            }
            Step::Expect(expected) => compare("expect", &std::mem::take(&mut out), expected, case.order)?,
            other => return Err(unknown(other)),
        }
        out.extend(test.emitted("out"));
        if let Some(effect) = test.rest().into_iter().find(|e| !matches!(e, Effect::Emit { .. })) {
            return Err(format!("unexpected effect {effect:?}"));
        }
        if restore {
            test.restore();
        }
    }
    compare("at the end", &out, case.at_the_end(), case.order)?;
    if let Some(expected) = &case.state_empty {
        same("state_empty", &test.state_is_empty(), expected)?;
    }
    let (stats, pending) = (test.job().stats(), test.job().pending());
    if !stats.balances(pending) || stats.violations > 0 {
        return Err(format!("invariants: {stats:?}, {pending} pending"));
    }
    Ok(())
}
