//! Subject `join`: interval and window joins, through the API that jobs use.

use millrace_core::join::{CoGroup, Interval, InvalidJoin, JoinType, JoinWindows};
use millrace_core::params::NoParams;
use millrace_core::stream::{Job, job};
use millrace_core::testing::Harness;
use millrace_core::{Effect, EventTime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::case::{Case, Order, Retained, Step, compare, read, same, unknown};

struct Event {
    left: bool,
    key: String,
    value: Value,
}

/// What the job holds: key, and value as JSON text.
type Row = (String, String);

#[derive(Clone, Copy)]
enum Spec {
    Interval(Interval, JoinType),
    Window(JoinWindows, JoinType),
    CoGroup(JoinWindows),
}

/// As it is written.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Written {
    Interval {
        r#type: JoinType,
        lower: i64,
        upper: i64,
        #[serde(default = "inclusive")]
        lower_inclusive: bool,
        #[serde(default = "inclusive")]
        upper_inclusive: bool,
    },
    Window {
        r#type: Pairs,
        window: Window,
    },
}

fn inclusive() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pairs {
    Cogroup,
    #[serde(untagged)]
    Of(JoinType),
}

#[derive(Deserialize)]
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
}

impl Written {
    fn spec(self) -> Result<Spec, InvalidJoin> {
        match self {
            Self::Interval { r#type, lower, upper, lower_inclusive, upper_inclusive } => {
                let interval = Interval::with_bounds(lower, upper, lower_inclusive, upper_inclusive)?;
                Ok(Spec::Interval(interval, r#type))
            }
            Self::Window { r#type, window } => {
                let windows = match window {
                    Window::Tumbling { size, offset } => JoinWindows::tumbling(size)?.offset(offset)?,
                    Window::Sliding { size, slide, offset } => {
                        JoinWindows::sliding(size, slide)?.offset(offset)?
                    }
                };
                Ok(match r#type {
                    Pairs::Cogroup => Spec::CoGroup(windows),
                    Pairs::Of(join) => Spec::Window(windows, join),
                })
            }
        }
    }
}

fn build(spec: Spec) -> Box<dyn Job<Event>> {
    let side = |left: bool| {
        job::<Event, NoParams>("case", "A conformance case.")
            .source(|event: &Event| Some(event))
            .filter(move |event, _| event.left == left)
            .map(|event, _, _| (event.key.clone(), event.value.to_string()))
            .key_by(|row: &Row| &row.0)
    };
    let read = |row: &Row| serde_json::from_str::<Value>(&row.1).unwrap();
    let one = move |row: &Option<Row>| row.as_ref().map(read);
    let all = move |rows: &[Row]| rows.iter().map(read).collect::<Vec<_>>();
    let (left, right) = (side(true), side(false));
    let joined = move |r: &millrace_core::join::Joined<Row, Row>, at: EventTime| json!({"key": &*r.key, "left": one(&r.left), "right": one(&r.right), "ts": at.0});
    match spec {
        Spec::Interval(interval, join) => {
            left.interval_join(right, move |_| interval, join).map(move |r, at, _| joined(r, at)).to(|_| ("out", ""))
        }
        Spec::Window(windows, join) => {
            left.window_join(right, windows, join).map(move |r, at, _| joined(r, at)).to(|_| ("out", ""))
        }
        Spec::CoGroup(windows) => left
            .window_join(right, windows, CoGroup)
            .map(move |r, at, _| {
                json!({"key": &*r.key, "left": all(&r.left), "right": all(&r.right), "ts": at.0})
            })
            .to(|_| ("out", "")),
    }
}

/// `ts` is compared where given: takes it away from outputs where no expected one with the same rest has it.
fn comparable(out: &mut [Value], expected: &[Value]) {
    if expected.iter().all(|e| e.get("ts").is_none()) {
        out.iter_mut().filter_map(Value::as_object_mut).for_each(|o| {
            o.remove("ts");
        });
        return;
    }
    for result in out {
        let without = |v: &Value| {
            let mut v = v.clone();
            v.as_object_mut().map(|o| o.remove("ts"));
            v
        };
        let bare = without(result);
        if expected.contains(&bare) && !expected.contains(result) {
            *result = bare;
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    side: Side,
    key: String,
    ts: i64,
    #[serde(default)]
    value: Value,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Left,
    Right,
}

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    let spec = match (read::<Written>(&case.spec)?.spec(), &case.error) {
        (Ok(spec), None) => spec,
        (Err(_), Some(_)) => return Ok(()),
        (Ok(_), Some(_)) => return Err("the specification should have been refused".into()),
        (Err(error), None) => return Err(error.to_string()),
    };
    let mut test = Harness::new(move || build(spec));
    let (mut out, mut late) = (Vec::new(), Vec::new());
    let (mut left, mut right, mut watermark) = (i64::MIN, i64::MIN, i64::MIN);
    for step in &case.steps {
        match step {
            Step::In(record) => {
                let In { side, key, ts, value } = read(record)?;
                let event = Event { left: side == Side::Left, key, value };
                test.record(&event, ts);
                out.extend(test.emitted("out"));
                for effect in test.rest() {
                    match effect {
                        Effect::Late { .. } => {
                            let (key, value) = (&event.key, &event.value);
                            late.push(json!({"side": side, "key": key, "ts": ts, "value": value}));
                        }
                        other => return Err(format!("unexpected effect {other:?}")),
                    }
                }
            }
            Step::WmIn(wm) => {
                let side = match wm.input.as_str() {
                    "left" => &mut left,
                    "right" => &mut right,
                    other => return Err(format!("no input {other}")),
                };
                *side = wm.ts.max(*side);
                if left.min(right) > watermark {
                    watermark = left.min(right);
                    test.watermark(watermark);
                }
            }
            Step::SnapshotRestore(_) => {
                test.restore();
            }
            Step::Expect(expected) => {
                let mut seen = std::mem::take(&mut out);
                comparable(&mut seen, expected);
                compare("expect", &seen, expected, case.order)?;
            }
            Step::StateEmpty(expected) => same("state_empty", &test.state_is_empty(), expected)?,
            Step::Retained(expected) => {
                let mut held = Vec::new();
                test.job().tables(&mut |table| held.push(table.len()));
                same("retained", &Retained { left: held[0], right: held[1] }, expected)?;
            }
            other => return Err(unknown(other)),
        }
        out.extend(test.emitted("out"));
        if restore {
            test.restore();
        }
    }
    comparable(&mut out, case.at_the_end());
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
