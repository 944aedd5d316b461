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

use crate::case::{Case, Order, Step, compare, read, same, unknown};

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
struct Fold(Function);

impl Fold {
    fn part(&self, event: &Event) -> Value {
        let value = event.value();
        self.0.of.as_ref().map_or_else(|| value.clone(), |of| value[of].clone())
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
        match self.0.r#fn {
            Folding::Count => json!(values.len()),
            Folding::Sum => json!(sum),
            Folding::Avg => json!(sum / numbers.len() as f64),
            Folding::Min => json!(numbers.iter().copied().fold(f64::INFINITY, f64::min)),
            Folding::Max => json!(numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            Folding::List => json!(values),
        }
    }
}

/// What the case asks for.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    window: Window,
    #[serde(with = "Time")]
    time: TimeDomain,
    aggregate: Function,
    #[serde(default)]
    allowed_lateness: i64,
    trigger: Option<Firing>,
    #[serde(default)]
    purging: bool,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Window {
    Tumbling {
        size: i64,
        #[serde(default)]
        offset: i64,
    },
    Sliding {
        size: i64,
        slide: i64,
        #[serde(default)]
        offset: i64,
    },
    Session {
        gap: i64,
    },
    SessionDynamic {
        gap_field: String,
    },
    Global {},
}

#[derive(Deserialize)]
#[serde(remote = "TimeDomain", rename_all = "snake_case")]
enum Time {
    Event,
    Processing,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Firing {
    EventTime {},
    ProcessingTime {},
    ContinuousEventTime { interval: i64 },
    ContinuousProcessingTime { interval: i64 },
    Count { n: i64 },
    EndOfStream {},
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    r#fn: Folding,
    of: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Folding {
    Count,
    Sum,
    Min,
    Max,
    Avg,
    List,
}

impl Window {
    fn spec(&self) -> WindowSpec {
        match *self {
            Self::Tumbling { size, offset } => WindowSpec::Tumbling { size, offset },
            Self::Sliding { size, slide, offset } => WindowSpec::Sliding { size, slide, offset },
            Self::Session { gap } => WindowSpec::session(gap),
            Self::SessionDynamic { .. } => WindowSpec::SessionDynamic,
            Self::Global {} => WindowSpec::Global,
        }
    }
}

impl Firing {
    fn trigger(&self) -> Trigger {
        match *self {
            Self::EventTime {} => Trigger::EventTime,
            Self::ProcessingTime {} => Trigger::ProcessingTime,
            Self::ContinuousEventTime { interval } => Trigger::ContinuousEventTime { interval },
            Self::ContinuousProcessingTime { interval } => Trigger::ContinuousProcessingTime { interval },
            Self::Count { n } => Trigger::Count { n: u64::try_from(n).unwrap_or(0) },
            Self::EndOfStream {} => Trigger::EndOfStream,
        }
    }
}

impl Spec {
    fn validate(&self) -> Result<(), InvalidWindow> {
        self.window.spec().validate()?;
        self.trigger.as_ref().map(|firing| firing.trigger().validate()).transpose()?;
        Ok(())
    }

    fn build(self) -> Box<dyn Job<Event>> {
        let keyed = job::<Event, NoParams>("case", "A conformance case.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.key);
        if let Window::SessionDynamic { gap_field } = self.window.clone() {
            let gap = move |event: &Event, _: &NoParams| event.value()[&gap_field].as_i64().unwrap_or(0);
            return finish(keyed.session_window(gap), self);
        }
        let window = self.window.spec();
        finish(keyed.window(move |_| window), self)
    }
}

fn finish<Op, K, S, L, G>(
    mut windows: Windows<Event, NoParams, Event, Op, K, S, L, G>,
    spec: Spec,
) -> Box<dyn Job<Event>>
where
    Op: Operator<NoParams, Event, Out = Event> + 'static,
    K: Fn(&Event) -> &str + 'static,
    S: Fn(&NoParams) -> WindowSpec + 'static,
    L: Fn(&NoParams) -> i64 + 'static,
    G: Fn(&Event, &NoParams) -> i64 + 'static,
{
    windows = windows.time(spec.time);
    if let Some(firing) = spec.trigger {
        windows = windows.trigger(firing.trigger());
    }
    if spec.purging {
        windows = windows.purging();
    }
    let windows = windows.allowed_lateness(move |_| spec.allowed_lateness);
    let fold = Fold(spec.aggregate);
    if fold.0.r#fn == Folding::List {
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
    if at.0 != window.last() {
        // No case expects that.
        return json!({"record_time": at.0, "of_window": window.last()});
    }
    if *window == TimeWindow::GLOBAL {
        json!({"key": &**key, "value": value})
    } else {
        json!({"key": &**key, "start": window.start, "end": window.end, "value": value})
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
}

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    let spec: Spec = read(&case.spec)?;
    match (spec.validate(), &case.error) {
        (Ok(()), None) => {}
        (Err(_), Some(_)) => return Ok(()),
        (Ok(()), Some(_)) => return Err("the specification should have been refused".into()),
        (Err(error), None) => return Err(error.to_string()),
    }
    let mut test = Harness::new(move || spec.clone().build());
    let (mut out, mut late) = (Vec::new(), Vec::new());
    for step in &case.steps {
        match step {
            Step::In(record) => {
                let In { key, ts, value } = read(record)?;
                test.record(&Event { key: key.clone(), value: value.to_string() }, ts);
                out.extend(test.emitted("out"));
                for effect in test.rest() {
                    match effect {
                        Effect::Late { .. } => late.push(json!({"key": key, "ts": ts, "value": value})),
                        other => return Err(format!("unexpected effect {other:?}")),
                    }
                }
            }
            Step::Wm(to) => test.watermark(*to),
            Step::ProcTime(to) => test.processing_time(*to),
            Step::SnapshotRestore(_) => {
                test.restore();
            }
            Step::Expect(expected) => compare("expect", &std::mem::take(&mut out), expected, case.order)?,
            Step::StateEmpty(expected) => same("state_empty", &test.state_is_empty(), expected)?,
            other => return Err(unknown(other)),
        }
        out.extend(test.emitted("out"));
        if restore {
            test.restore();
        }
    }
    compare("at the end", &out, case.at_the_end(), case.order)?;
    compare("late", &late, case.late.as_deref().unwrap_or_default(), Order::Any)?;
    if let Some(expected) = &case.state_empty {
        same("state_empty", &test.state_is_empty(), expected)?;
    }
    let (stats, pending) = (test.job().stats(), test.job().pending());
    if !stats.balances(pending) || stats.violations > 0 {
        return Err(format!("invariants: {stats:?}, {pending} pending"));
    }
    Ok(())
}
