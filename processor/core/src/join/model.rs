//! The joins against their definitions, over random records, orders, watermarks and restore points.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CoGroup, Interval, JoinType, JoinWindows, Joined};
use crate::params::NoParams;
use crate::state::Table;
use crate::stream::{Job, Keyed, Operator, job};
use crate::testing::Harness;
use crate::time::EventTime;
use crate::window::{Aggregate, WindowSpec};

#[derive(Debug, Clone, PartialEq)]
struct Event {
    left: bool,
    key: String,
    id: u64,
    at: i64,
}

type Row = (String, u64);

fn side(
    left: bool,
) -> Keyed<Event, NoParams, Row, impl Operator<NoParams, Event, Out = Row>, impl Fn(&Row) -> &str> {
    job::<Event, NoParams>("join", "Joins.")
        .source(|event: &Event| Some(event))
        .filter(move |event, _| event.left == left)
        .map(|event, _, _| (event.key.clone(), event.id))
        .key_by(|row: &Row| row.0.as_str())
}

fn pair(joined: &Joined<Row, Row>, at: EventTime) -> Value {
    json!([at.0, joined.left.as_ref().map(|l| l.1), joined.right.as_ref().map(|r| r.1)])
}

fn interval_job(interval: Interval, join: JoinType) -> Box<dyn Job<Event>> {
    side(true)
        .interval_join(side(false), move |_| interval, join)
        .map(|j, at, _| pair(j, at))
        .to(|_| ("out", ""))
}

fn window_job(windows: JoinWindows, join: Option<JoinType>) -> Box<dyn Job<Event>> {
    match join {
        Some(join) => {
            side(true).window_join(side(false), windows, join).map(|j, at, _| pair(j, at)).to(|_| ("out", ""))
        }
        None => side(true)
            .window_join(side(false), windows, CoGroup)
            .map(|g, at, _| {
                let ids = |rows: &[Row]| rows.iter().map(|row| row.1).collect::<Vec<_>>();
                json!([at.0, ids(&g.left), ids(&g.right)])
            })
            .to(|_| ("out", "")),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Record { left: bool, key: u8, at: i64 },
    Watermark(i64),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<bool>(), 0..2_u8, -40..80_i64).prop_map(|(left, key, at)| Step::Record { left, key, at }),
        2 => (1..25_i64).prop_map(Step::Watermark),
        1 => Just(Step::Restore),
    ]
}

fn join_type() -> impl Strategy<Value = JoinType> {
    use JoinType::{Anti, Full, Inner, Left, Right, Semi};
    prop::sample::select(vec![Inner, Left, Right, Full, Semi, Anti])
}

/// Sorted: the definition says which results there are, the tests beside say in which order.
fn sorted(mut values: Vec<Value>) -> Vec<String> {
    let mut texts: Vec<String> = values.drain(..).map(|v| v.to_string()).collect();
    texts.sort();
    texts
}

/// A record with what the definition knows of it.
struct Seen {
    event: Event,
    dropped: bool,
    matched: bool,
}

struct Run {
    test: Harness<Event>,
    watermark: i64,
    late: u64,
    records: u64,
}

impl Run {
    fn new(make: impl Fn() -> Box<dyn Job<Event>> + 'static) -> Self {
        let mut test = Harness::new(make);
        test.watermark(-30);
        Self { test, watermark: -30, late: 0, records: 0 }
    }

    fn check(&mut self, expected: Vec<Value>, held: u64) -> Result<(), TestCaseError> {
        prop_assert_eq!(sorted(self.test.emitted("out")), sorted(expected));
        let (stats, pending) = (self.test.job().stats(), self.test.job().pending());
        prop_assert_eq!(pending, held);
        prop_assert_eq!((stats.late, stats.records), (self.late, self.records * 2));
        prop_assert!(stats.balances(pending) && stats.violations == 0, "{:?} {}", stats, pending);
        prop_assert_eq!(self.test.state_is_empty(), held == 0);
        Ok(())
    }
}

fn interval_model(lower: i64, upper: i64, join: JoinType, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let interval = Interval::new(lower, upper).unwrap();
    let mut run = Run::new(move || interval_job(interval, join));
    let mut seen: Vec<Seen> = Vec::new();
    for step in steps {
        let mut expected = Vec::new();
        match step {
            Step::Record { left, key, at } => {
                let event = Event { left, key: format!("k{key}"), id: run.records, at };
                run.records += 1;
                run.test.record(&event, at);
                if at < run.watermark {
                    run.late += 1;
                } else {
                    let mut matched = false;
                    for other in seen.iter_mut().filter(|o| !o.dropped && o.event.left != left) {
                        let (l, r) = if left { (&event, &other.event) } else { (&other.event, &event) };
                        if l.key != r.key || r.at - l.at < lower || r.at - l.at > upper {
                            continue;
                        }
                        let left_was_matched = if left { matched } else { other.matched };
                        let result = json!([l.at.max(r.at), l.id, r.id]);
                        match join {
                            JoinType::Anti => {}
                            JoinType::Semi if left_was_matched => {}
                            JoinType::Semi => expected.push(json!([result[0], l.id, null])),
                            _ => expected.push(result),
                        }
                        (matched, other.matched) = (true, true);
                    }
                    // Which partner gives a semi join its time is a matter of order: the earliest one does.
                    if join == JoinType::Semi && left && matched {
                        let partners =
                            seen.iter().filter(|o| !o.dropped && !o.event.left && o.event.key == event.key);
                        let first = partners
                            .map(|o| o.event.at)
                            .filter(|t| (lower..=upper).contains(&(t - at)))
                            .min();
                        expected = vec![json!([at.max(first.unwrap()), event.id, null])];
                    }
                    seen.push(Seen { event, dropped: false, matched });
                }
            }
            Step::Watermark(by) => {
                run.watermark += by;
                run.test.watermark(run.watermark);
                for record in seen.iter_mut().filter(|record| !record.dropped) {
                    let Event { left, id, at, .. } = record.event;
                    let reach = if left { upper } else { -lower };
                    record.dropped = run.watermark >= at + reach.max(0);
                    if record.dropped && !record.matched {
                        match (left, join) {
                            (true, JoinType::Left | JoinType::Full | JoinType::Anti) => {
                                expected.push(json!([at, id, null]));
                            }
                            (false, JoinType::Right | JoinType::Full) => expected.push(json!([at, null, id])),
                            _ => {}
                        }
                    }
                }
            }
            Step::Restore => {
                run.test.restore();
            }
        }
        run.check(expected, seen.iter().filter(|record| !record.dropped).count() as u64)?;
    }
    Ok(())
}

fn window_model(
    (size, slide, offset): (i64, i64, i64),
    join: Option<JoinType>,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let windows = JoinWindows::sliding(size, slide).unwrap().offset(offset).unwrap();
    let mut run = Run::new(move || window_job(windows, join));
    let starts = |at: i64| (at - size + 1..=at).filter(move |start| (start - offset).rem_euclid(slide) == 0);
    let mut seen: Vec<Seen> = Vec::new();
    for step in steps {
        let mut expected = Vec::new();
        match step {
            Step::Record { left, key, at } => {
                let event = Event { left, key: format!("k{key}"), id: run.records, at };
                run.records += 1;
                run.test.record(&event, at);
                if starts(at).any(|start| start + size - 1 > run.watermark) {
                    seen.push(Seen { event, dropped: false, matched: false });
                } else if starts(at).next().is_some() || at <= run.watermark {
                    run.late += 1;
                }
            }
            Step::Watermark(by) => {
                let before = run.watermark;
                run.watermark += by;
                run.test.watermark(run.watermark);
                for start in before - size + 2..=run.watermark - size + 1 {
                    if (start - offset).rem_euclid(slide) != 0 {
                        continue;
                    }
                    for key in ["k0", "k1"] {
                        let of = |left: bool| {
                            let mut rows: Vec<&Event> = seen
                                .iter()
                                .map(|s| &s.event)
                                .filter(|e| {
                                    e.left == left && e.key == key && starts(e.at).any(|s| s == start)
                                })
                                .collect();
                            rows.sort_by_key(|e| (e.at, e.id));
                            rows.iter().map(|e| e.id).collect::<Vec<_>>()
                        };
                        let (ls, rs, ts) = (of(true), of(false), start + size - 1);
                        let pairs = || ls.iter().flat_map(|l| rs.iter().map(move |r| json!([ts, l, r])));
                        let lefts = || ls.iter().map(|l| json!([ts, l, null]));
                        let rights = || rs.iter().map(|r| json!([ts, null, r]));
                        match join {
                            None if ls.is_empty() && rs.is_empty() => {}
                            None => expected.push(json!([ts, ls, rs])),
                            Some(JoinType::Semi) if !rs.is_empty() => expected.extend(lefts()),
                            Some(JoinType::Anti) if rs.is_empty() => expected.extend(lefts()),
                            Some(JoinType::Semi | JoinType::Anti) => {}
                            Some(join) => {
                                expected.extend(pairs());
                                if rs.is_empty() && matches!(join, JoinType::Left | JoinType::Full) {
                                    expected.extend(lefts());
                                }
                                if ls.is_empty() && matches!(join, JoinType::Right | JoinType::Full) {
                                    expected.extend(rights());
                                }
                            }
                        }
                    }
                }
                for record in &mut seen {
                    record.dropped = starts(record.event.at).all(|start| start + size - 1 <= run.watermark);
                }
                seen.retain(|record| !record.dropped);
            }
            Step::Restore => {
                run.test.restore();
            }
        }
        run.check(expected, seen.len() as u64)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn interval_joins_are_what_the_definition_says(
        lower in -20..20_i64, span in 0..25_i64, join in join_type(), steps in prop::collection::vec(step(), 1..80)
    ) {
        interval_model(lower, lower + span, join, steps)?;
    }

    #[test]
    fn window_joins_are_what_the_definition_says(
        size in 1..30_i64, slide in 1..30_i64, offset in -29..29_i64,
        join in prop::option::weighted(0.8, join_type()), steps in prop::collection::vec(step(), 1..80)
    ) {
        window_model((size, slide, offset % slide), join, steps)?;
    }
}

#[test]
fn results_come_in_the_order_of_time_and_key() {
    let interval = Interval::new(-5, 5).unwrap();
    let mut test = Harness::new(move || interval_job(interval, JoinType::Full));
    for (id, (left, key, at)) in
        [(true, "b", 3), (false, "a", 3), (true, "a", 20), (true, "b", 1)].into_iter().enumerate()
    {
        test.record(&Event { left, key: key.to_owned(), id: id as u64, at }, at);
    }
    test.watermark(30);
    assert_eq!(
        test.emitted("out"),
        [json!([1, 3, null]), json!([3, null, 1]), json!([3, 0, null]), json!([20, 2, null])]
    );
}

#[test]
fn times_at_the_ends_of_the_range_are_right() {
    let interval = Interval::new(i64::MIN, i64::MAX).unwrap();
    let mut test = Harness::new(move || interval_job(interval, JoinType::Full));
    for (id, (left, at)) in
        [(true, i64::MIN), (false, i64::MAX), (false, i64::MIN), (true, 0)].into_iter().enumerate()
    {
        test.record(&Event { left, key: "k".to_owned(), id: id as u64, at }, at);
    }
    // MAX is more than MAX later than MIN.
    assert_eq!(test.emitted("out").len(), 3);
    test.watermark(i64::MAX);
    assert_eq!((test.emitted("out"), test.state_is_empty()), (vec![], true));
    assert!(Interval::with_bounds(0, 1, false, false).is_err());
    assert!(JoinWindows::tumbling(0).is_err() && JoinWindows::tumbling(3).unwrap().offset(-3).is_err());
    let windows = JoinWindows::tumbling(1).unwrap();
    let mut test = Harness::new(move || window_job(windows, Some(JoinType::Full)));
    for at in [i64::MIN + 1, i64::MAX] {
        test.record(&Event { left: true, key: "k".to_owned(), id: 0, at }, at);
    }
    test.watermark(i64::MAX);
    assert_eq!((test.emitted("out").len(), test.state_is_empty()), (2, true));
}

/// Live parameters of the next test.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema, garde::Validate)]
#[serde(default)]
struct Within {
    #[garde(skip)]
    ms: i64,
}

#[test]
fn a_new_interval_holds_for_what_is_held_too_also_after_a_restore() {
    fn live() -> Box<dyn Job<Event>> {
        let side = |left| {
            job::<Event, Within>("join", "Joins.")
                .source(|event: &Event| Some(event))
                .filter(move |event, _| event.left == left)
                .map(|event, _, _| (event.key.clone(), event.id))
                .key_by(|row: &Row| row.0.as_str())
        };
        side(true)
            .interval_join(side(false), |params| Interval::within(params.ms), JoinType::Full)
            .map(|j, at, _| pair(j, at))
            .to(|_| ("out", ""))
    }
    let run = |restore: bool| {
        let mut test = Harness::new(live);
        let (mut version, mut out) = (0, Vec::new());
        let mut within = |test: &mut Harness<Event>, ms: i64| {
            version += 1;
            test.params(version, &json!({"ms": ms})).unwrap();
            if restore {
                test.restore();
            }
        };
        let record = |test: &mut Harness<Event>, left, id, at| {
            test.record(&Event { left, key: "k".to_owned(), id, at }, at);
        };
        within(&mut test, 10);
        record(&mut test, true, 1, 0);
        within(&mut test, 100);
        test.watermark(50);
        record(&mut test, false, 2, 100);
        out.extend(test.emitted("out"));
        record(&mut test, true, 3, 101);
        within(&mut test, 20);
        test.watermark(121);
        out.extend(test.emitted("out"));
        record(&mut test, false, 4, 130);
        test.watermark(1_000);
        out.extend(test.emitted("out"));
        assert!(test.state_is_empty());
        out
    };
    // 1 and 2 are within 100; 3 waits for 20 only, and 4 is not within that.
    let expected = [json!([100, 1, 2]), json!([101, 3, null]), json!([130, null, 4])];
    assert_eq!(run(false), expected);
    assert_eq!(run(true), expected);
}

#[test]
fn old_bytes_still_load() {
    // Written by version 1. These lines never change: a new version adds lines.
    let mut buffer = super::buffer::Buffer::<Row>::default();
    buffer.records.load(&[1, 1, b'k', 40, 3], Some(&[1, 1, b'k', 7, 1, 0])).unwrap();
    buffer.start();
    assert_eq!(
        (buffer.pending(), buffer.first("k"), buffer.values("k", ..)),
        (1, Some(20), vec![&("k".to_owned(), 7)])
    );
}

#[test]
fn what_comes_out_of_windows_is_joined_before_the_watermark_that_fired_them() {
    struct Count;
    impl Aggregate<Row> for Count {
        type Acc = u64;
        type Out = u64;

        fn create(&self) -> u64 {
            0
        }

        fn add(&self, acc: &mut u64, _: &Row, _: EventTime) {
            *acc += 1;
        }

        fn merge(&self, acc: &mut u64, other: &u64) {
            *acc += other;
        }

        fn result(&self, acc: &u64) -> u64 {
            *acc
        }
    }
    let mut test = Harness::new(|| {
        side(true)
            .window(|_| WindowSpec::tumbling(10))
            .aggregate(Count)
            .map(|r, _, _| (r.key.to_string(), r.value))
            .key_by(|row: &Row| row.0.as_str())
            .interval_join(side(false), |_| Interval::new(-10, 10).unwrap(), JoinType::Full)
            .map(|j, at, _| pair(j, at))
            .to(|_| ("out", ""))
    });
    for (id, (left, at)) in
        [(true, 1), (true, 2), (false, 5), (true, 15), (false, 40)].into_iter().enumerate()
    {
        test.record(&Event { left, key: "k".to_owned(), id: id as u64, at }, at);
    }
    test.watermark(35);
    assert_eq!(test.emitted("out"), [json!([9, 2, 2]), json!([19, 1, null])]);
    let (stats, pending) = (test.job().stats(), test.job().pending());
    assert_eq!((stats.balances(pending), stats.late, pending), (true, 0, 1));
}
