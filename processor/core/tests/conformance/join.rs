//! Subject `join`: interval and window joins, through the API that jobs use.

use millrace_core::join::{CoGroup, Interval, InvalidJoin, JoinType, JoinWindows};
use millrace_core::params::NoParams;
use millrace_core::stream::{Job, job};
use millrace_core::testing::Harness;
use millrace_core::{Effect, EventTime};
use serde_json::{Value, json};

use crate::case::{Case, Order, compare};

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

fn parse(spec: &Value) -> Result<Spec, Result<InvalidJoin, String>> {
    let number = |v: &Value, field: &str| v.get(field).and_then(Value::as_i64).unwrap_or(0);
    let flag = |field: &str| spec[field].as_bool().unwrap_or(true);
    let join = || serde_json::from_value::<JoinType>(spec["type"].clone()).map_err(|e| Err(e.to_string()));
    if spec["op"] == "interval" {
        let (lower, upper) = (number(spec, "lower"), number(spec, "upper"));
        let interval = Interval::with_bounds(lower, upper, flag("lower_inclusive"), flag("upper_inclusive"));
        return Ok(Spec::Interval(interval.map_err(Ok)?, join()?));
    }
    let window = &spec["window"];
    let size = number(window, "size");
    let windows = match window["type"].as_str().unwrap_or_default() {
        "tumbling" => JoinWindows::tumbling(size),
        "sliding" => JoinWindows::sliding(size, number(window, "slide")),
        other => return Err(Err(format!("{other} windows"))),
    };
    let windows = windows.and_then(|w| w.offset(number(window, "offset"))).map_err(Ok)?;
    Ok(if spec["type"] == "cogroup" { Spec::CoGroup(windows) } else { Spec::Window(windows, join()?) })
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

pub fn run(case: &Case, restore: bool) -> Result<(), String> {
    let spec = match (parse(&case.spec), &case.error) {
        (Ok(spec), None) => spec,
        (Err(Ok(_)), Some(_)) => return Ok(()),
        (Ok(_), Some(_)) => return Err("the specification should have been refused".into()),
        (Err(Ok(error)), None) => return Err(error.to_string()),
        (Err(Err(what)), _) => return Err(format!("join: no kind {what}")),
    };
    let mut test = Harness::new(move || build(spec));
    let (mut out, mut late) = (Vec::new(), Vec::new());
    let (mut left, mut right, mut watermark) = (i64::MIN, i64::MIN, i64::MIN);
    for step in &case.steps {
        let (kind, value) = step.iter().next().ok_or("an empty step")?;
        match kind.as_str() {
            "in" => {
                let event = Event {
                    left: value["side"] == "left",
                    key: value["key"].as_str().ok_or("no key")?.to_owned(),
                    value: value["value"].clone(),
                };
                let ts = value["ts"].as_i64().ok_or("no ts")?;
                test.record(&event, ts);
                out.extend(test.emitted("out"));
                for effect in test.rest() {
                    match effect {
                        Effect::Late { .. } => late.push(
                            json!({"side": value["side"], "key": event.key, "ts": ts, "value": event.value}),
                        ),
                        other => return Err(format!("unexpected effect {other:?}")),
                    }
                }
            }
            "wm_in" => {
                let ts = value["ts"].as_i64().ok_or("no ts")?;
                let side = if value["input"] == "left" { &mut left } else { &mut right };
                *side = ts.max(*side);
                if left.min(right) > watermark {
                    watermark = left.min(right);
                    test.watermark(watermark);
                }
            }
            "snapshot_restore" => {
                test.restore();
            }
            "expect" => {
                let (mut seen, expected) =
                    (std::mem::take(&mut out), value.as_array().ok_or("expect is no list")?);
                comparable(&mut seen, expected);
                compare("expect", &seen, expected, case.order)?;
            }
            "state_empty" => {
                let empty = [json!(test.state_is_empty())];
                compare("state_empty", &empty, std::slice::from_ref(value), case.order)?;
            }
            "retained" => {
                let mut held = Vec::new();
                test.job().tables(&mut |table| held.push(table.len()));
                let held = json!({"left": held[0], "right": held[1]});
                compare("retained", &[held], std::slice::from_ref(value), case.order)?;
            }
            other => return Err(format!("unknown step {other}")),
        }
        out.extend(test.emitted("out"));
        if restore {
            test.restore();
        }
    }
    let expected = case.expect.as_deref().unwrap_or_default();
    comparable(&mut out, expected);
    compare("at the end", &out, expected, case.order)?;
    compare("late", &late, case.late.as_deref().unwrap_or_default(), Order::Any)?;
    if let Some(empty) = case.state_empty {
        compare("state_empty", &[json!(test.state_is_empty())], &[json!(empty)], case.order)?;
    }
    let (stats, pending) = (test.job().stats(), test.job().pending());
    if !stats.balances(pending) || stats.violations > 0 {
        return Err(format!("invariants: {stats:?}, {pending} pending"));
    }
    Ok(())
}
