//! Subject `window`, through the API that jobs use. A `list` is computed by a process function, so that both kinds of
//! window functions are run.

use millrace_core::params::NoParams;
use millrace_core::stream::{Job, Operator, job};
use millrace_core::testing::Harness;
use millrace_core::time::TimeDomain;
use millrace_core::window::{Aggregate, InvalidWindow, Trigger, WindowSpec, Windowed, Windows};
use millrace_core::{Effect, EventTime, TimeWindow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::case::{Case, compare};

#[derive(Clone, Serialize, Deserialize)]
struct Event {
    key: String,
    /// JSON as text: state is kept in a format that knows types only from the reader.
    value: String,
}

impl Event {
    fn value(&self) -> Value {
        serde_json::from_str(&self.value).unwrap()
    }
}

/// Keeps the values as JSON text and computes at the end: plain, and different from what the engine's jobs do.
struct Fold {
    function: String,
    of: Option<String>,
}

impl Fold {
    fn part(&self, event: &Event) -> Value {
        let value = event.value();
        self.of.as_ref().map_or_else(|| value.clone(), |of| value[of].clone())
    }
}

impl Aggregate<Event> for Fold {
    type Acc = Vec<String>;
    type Out = Value;

    fn create(&self) -> Vec<String> {
        Vec::new()
    }

    fn add(&self, acc: &mut Vec<String>, event: &Event, _: EventTime) {
        acc.push(self.part(event).to_string());
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

/// What the case asks for.
#[derive(Clone)]
struct Spec {
    window: WindowSpec,
    gap_field: Option<String>,
    time: TimeDomain,
    trigger: Option<Trigger>,
    purging: bool,
    lateness: i64,
    function: String,
    of: Option<String>,
}

impl Spec {
    fn read(spec: &Value) -> Result<Self, String> {
        let (window, aggregate) = (&spec["window"], &spec["aggregate"]);
        let number = |v: &Value, field: &str| v.get(field).and_then(Value::as_i64).unwrap_or(0);
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let (size, offset) = (number(window, "size"), number(window, "offset"));
        Ok(Self {
            window: match window["type"].as_str() {
                Some("tumbling") => WindowSpec::Tumbling { size, offset },
                Some("sliding") => WindowSpec::Sliding { size, slide: number(window, "slide"), offset },
                Some("session") => WindowSpec::session(number(window, "gap")),
                Some("session_dynamic") => WindowSpec::SessionDynamic,
                Some("global") => WindowSpec::Global,
                other => return Err(format!("unknown window {other:?}")),
            },
            gap_field: text(&window["gap_field"]),
            time: match spec["time"].as_str() {
                Some("event") => TimeDomain::Event,
                Some("processing") => TimeDomain::Processing,
                other => return Err(format!("unknown time {other:?}")),
            },
            trigger: spec
                .get("trigger")
                .map(|t| trigger(t, number(t, "interval"), number(t, "n")))
                .transpose()?,
            purging: spec.get("purging") == Some(&json!(true)),
            lateness: number(spec, "allowed_lateness"),
            function: text(&aggregate["fn"]).ok_or("no fn")?,
            of: text(&aggregate["of"]),
        })
    }

    fn validate(&self) -> Result<(), InvalidWindow> {
        self.window.validate()?;
        self.trigger.map(Trigger::validate).transpose()?;
        Ok(())
    }

    fn build(self) -> Box<dyn Job<Event>> {
        let Self { window, gap_field, time, trigger, purging, lateness, function, of } = self;
        let keyed = job::<Event, NoParams>("case", "A conformance case.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.key);
        let fold = Fold { function, of };
        match gap_field {
            Some(field) => {
                let gap = move |event: &Event, _: &NoParams| event.value()[&field].as_i64().unwrap_or(0);
                finish(keyed.session_window(gap), time, trigger, purging, lateness, fold)
            }
            None => finish(keyed.window(move |_| window), time, trigger, purging, lateness, fold),
        }
    }
}

fn trigger(value: &Value, interval: i64, n: i64) -> Result<Trigger, String> {
    Ok(match value["type"].as_str() {
        Some("event_time") => Trigger::EventTime,
        Some("processing_time") => Trigger::ProcessingTime,
        Some("continuous_event_time") => Trigger::ContinuousEventTime { interval },
        Some("continuous_processing_time") => Trigger::ContinuousProcessingTime { interval },
        Some("count") => Trigger::Count { n: u64::try_from(n).unwrap_or(0) },
        Some("end_of_stream") => Trigger::EndOfStream,
        other => return Err(format!("unknown trigger {other:?}")),
    })
}

fn finish<Op, K, S, L, G>(
    mut windows: Windows<Event, NoParams, Event, Op, K, S, L, G>,
    time: TimeDomain,
    trigger: Option<Trigger>,
    purging: bool,
    lateness: i64,
    fold: Fold,
) -> Box<dyn Job<Event>>
where
    Op: Operator<NoParams, Event, Out = Event> + 'static,
    K: Fn(&Event) -> &str + 'static,
    S: Fn(&NoParams) -> WindowSpec + 'static,
    L: Fn(&NoParams) -> i64 + 'static,
    G: Fn(&Event, &NoParams) -> i64 + 'static,
{
    windows = windows.time(time);
    if let Some(trigger) = trigger {
        windows = windows.trigger(trigger);
    }
    if purging {
        windows = windows.purging();
    }
    let windows = windows.allowed_lateness(move |_| lateness);
    if fold.function == "list" {
        let all = move |window: &Windowed<&[Event]>, _: &NoParams| {
            json!(window.value.iter().map(|event| fold.part(event)).collect::<Vec<_>>())
        };
        windows.process(all).map(|r, at, _| output(r, at)).to(|_| ("out", ""))
    } else {
        windows.aggregate(fold).map(|r, at, _| output(r, at)).to(|_| ("out", ""))
    }
}

fn output(result: &Windowed<Value>, at: EventTime) -> Value {
    let Windowed { key, window, value } = result;
    assert_eq!(at.0, window.last(), "record time of an output");
    if *window == TimeWindow::GLOBAL {
        json!({"key": &**key, "value": value})
    } else {
        json!({"key": &**key, "start": window.start, "end": window.end, "value": value})
    }
}

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    let spec = Spec::read(&case.spec)?;
    match (spec.validate(), &case.error) {
        (Ok(()), None) => {}
        (Err(_), Some(_)) => return Ok(()),
        (Ok(()), Some(_)) => return Err("the specification should have been refused".into()),
        (Err(error), None) => return Err(error.to_string()),
    }
    let mut test = Harness::new(move || spec.clone().build());
    let (mut out, mut late) = (Vec::new(), Vec::new());
    for step in &case.steps {
        let (kind, value) = step.iter().next().ok_or("an empty step")?;
        match kind.as_str() {
            "in" => {
                let event = Event {
                    key: value["key"].as_str().unwrap_or_default().to_owned(),
                    value: value["value"].to_string(),
                };
                let ts = value.get("ts").and_then(Value::as_i64).unwrap_or(0);
                test.record(&event, ts);
                out.extend(test.emitted("out"));
                for effect in test.rest() {
                    match effect {
                        Effect::Late { .. } => {
                            late.push(json!({"key": event.key, "ts": ts, "value": event.value()}));
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
    Ok(())
}
