//! What version 1 wrote still loads. These lines never change: a build that writes something else adds lines.
//!
//! Each goes into a new operator, which then continues as the one that wrote it would have.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AggregatingState, Moment, ReducingState, Table, Ttl, decode};
use crate::aggregate::{Count, Distinct, DistinctCount, Moments, QuantileSketch, Sum};
use crate::anomaly::{Detector, Hours, Last, RateOfChange};
use crate::cep::{Detected, FieldValue, Fields, Pattern, field};
use crate::join::{Retention, Version};
use crate::params::NoParams;
use crate::stream::{Job, job};
use crate::task::{App, Application, Input, Parsed, Record, Source, SourceKind};
use crate::testing::Harness;
use crate::time::{EventTime, TimeDomain, Watermark};
use crate::watermark::Order;
use crate::window::{Aggregate, Trigger, WindowSpec};
use crate::{Effect, Effects};

type Entry<'a> = (&'a [u8], &'a [u8]);

/// Gives the first table of a job its entries, and starts it.
fn load<E: 'static>(test: &mut Harness<E>, entries: &[Entry<'_>]) {
    let mut first = true;
    test.job().tables(&mut |table| {
        if std::mem::take(&mut first) {
            entries.iter().for_each(|(key, value)| table.load(key, Some(value)).unwrap());
        }
    });
    test.restore();
}

/// Records per window.
fn windows(spec: WindowSpec, trigger: Trigger) -> Box<dyn Job<String>> {
    job::<String, NoParams>("windows", "Counts.")
        .source(|key: &String| Some(key))
        .key_by(|key| key)
        .window(move |_| spec)
        .trigger(trigger)
        .aggregate(Count)
        .map(|r, _, _| (r.window.start, r.window.end, r.value))
        .to(|_| ("out", ""))
}

#[test]
fn a_pane() {
    let mut test = Harness::new(|| windows(WindowSpec::tumbling(10), Trigger::Count { n: 3 }));
    // Pane of k, [0, 10): bounds as its name says, cleanup 9, 2 records, 2 since the last firing, no plan, count 2.
    load(&mut test, &[(&[1, 1, 1, b'k', 0, 20], &[1, 0, 18, 2, 2, 0, 1, 2])]);
    test.record(&"k".to_owned(), 5);
    assert_eq!(test.emitted("out"), [json!([0, 10, 3])]);
    test.watermark(9);
    assert!(test.state_is_empty());
}

#[test]
fn a_pane_with_a_plan() {
    let trigger = Trigger::ContinuousEventTime { interval: 4 };
    let mut test = Harness::new(move || windows(WindowSpec::tumbling(10), trigger));
    // As above, with its next firing planned at 8.
    load(&mut test, &[(&[1, 1, 1, b'k', 0, 20], &[1, 0, 18, 2, 0, 1, 16, 1, 2])]);
    test.watermark(7);
    assert_eq!(test.emitted("out"), [] as [Value; 0]);
    test.watermark(8);
    assert_eq!(test.emitted("out"), [json!([0, 10, 2])]);
}

#[test]
fn a_session_that_has_grown() {
    let mut test = Harness::new(|| windows(WindowSpec::session(5), Trigger::EventTime));
    // Made as [0, 5), now [0, 9).
    load(&mut test, &[(&[1, 1, 1, b'k', 0, 10], &[1, 1, 0, 18, 16, 3, 0, 0, 1, 3])]);
    test.watermark(7);
    assert_eq!(test.emitted("out"), [] as [Value; 0]);
    test.watermark(8);
    assert_eq!(test.emitted("out"), [json!([0, 9, 3])]);
    assert!(test.state_is_empty());
}

#[test]
fn a_slice() {
    let mut test = Harness::new(|| windows(WindowSpec::sliding(20, 10), Trigger::EventTime));
    // Slice of k in epoch 0 from 0 on: 5 records, count 5.
    load(&mut test, &[(&[1, 2, 0, 1, b'k', 0], &[1, 5, 5])]);
    test.watermark(19);
    assert_eq!(test.emitted("out"), [json!([-10, 10, 5]), json!([0, 20, 5])]);
    assert!(test.state_is_empty());
}

#[test]
fn a_schedule() {
    let mut test = Harness::new(|| windows(WindowSpec::tumbling(7), Trigger::EventTime));
    // Epoch 0: tumbling by 10, no lateness, up to 60. Epoch 1: sliding 20 by 10, lateness 5, from 60 on.
    let schedule = [1, 2, 0, 0, 20, 0, 0, 0, 1, 120, 1, 1, 40, 20, 0, 10, 1, 120, 0];
    load(&mut test, &[(&[1, 0], &schedule)]);
    test.record(&"k".to_owned(), 55);
    test.record(&"k".to_owned(), 65);
    test.watermark(79);
    assert_eq!(test.emitted("out"), [json!([50, 60, 1]), json!([60, 80, 1])]);
    test.record(&"k".to_owned(), 66); // within its lateness
    assert_eq!(test.emitted("out"), [json!([60, 80, 2])]);
}

#[test]
fn every_kind_of_window() {
    for (bytes, spec) in [
        (&[1, 0, 20, 2][..], WindowSpec::Tumbling { size: 10, offset: 1 }),
        (&[1, 1, 20, 10, 0], WindowSpec::sliding(10, 5)),
        (&[1, 2, 60], WindowSpec::session(30)),
        (&[1, 3], WindowSpec::SessionDynamic),
        (&[1, 4], WindowSpec::Global),
    ] {
        assert_eq!(decode(bytes), Ok(spec));
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Letter(String);

impl Fields for Letter {
    fn field(&self, _: &str) -> FieldValue<'_> {
        FieldValue::Text(&self.0)
    }
}

fn pattern() -> Box<dyn Job<Letter>> {
    let pattern = Pattern::begin("a")
        .where_(field("letter").eq("a"))
        .one_or_more()
        .followed_by("b")
        .where_(field("letter").eq("b"))
        .within(100);
    job::<Letter, NoParams>("pattern", "Some a, then b.")
        .source(|letter: &Letter| Some(letter))
        .key_by(|_| "k")
        .pattern(move |_| pattern.clone(), TimeDomain::Event)
        .map(|found, _, _| match found {
            Detected::Match { stages, .. } => stages.iter().map(|(_, events)| events.len()).sum::<usize>(),
            Detected::TimedOut { .. } => 0,
        })
        .to(|_| ("out", ""))
}

/// As it was written.
const PATTERN: &str = concat!(
    r#"{"pattern":[{"stage":"a","where":{"op":"eq","left":{"field":"letter"},"#,
    r#""right":{"const":"a"}},"quantifier":{"times":{"min":1},"optional":false,"greedy":false,"#,
    r#""inner":"relaxed"}},{"stage":"b","where":{"op":"eq","left":{"field":"letter"},"#,
    r#""right":{"const":"b"}},"contiguity":"followed_by","quantifier":{"optional":false,"#,
    r#""greedy":false,"inner":"relaxed"}}],"within":100,"after_match":{"strategy":"no_skip"}}"#,
);

#[test]
fn a_key_and_the_figures_of_a_pattern() {
    let mut test = Harness::new(pattern);
    // The pattern, 402 bytes; 5 partial matches dropped, 6 events refused, 7 partial matches replaced.
    let meta = [&[1, 0x92, 3][..], PATTERN.as_bytes(), &[5, 6, 7]].concat();
    // Of the events a at 10, a at 20, b at 30 the first two are behind the watermark: b waits, and there are three
    // partial matches.
    let waiting = &[1, 60, 1, 1, b'b'];
    let events = &[2, 1, 1, b'a', 1, 1, 1, 1, b'a', 2, 2, 0, 2];
    let taken = &[3, 1, 0, 0, 0, 2, 1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 0, 3];
    let runs = &[3, 1, 0, 1, 2, 0, 1, 20, 1, 1, 1, 3, 1, 1, 20, 1, 2, 1, 3, 1, 2, 40, 0, 2];
    let key = [&[1][..], waiting, events, taken, runs].concat();
    load(&mut test, &[(&[1, 0], &meta), (&[1, 1, 1, b'k'], &key)]);
    let mut figures = Vec::new();
    test.job().tables(&mut |table| {
        table.snapshot(&mut |key, value| {
            if key == [1, 0] {
                figures = value.unwrap().to_vec();
            }
        });
    });
    assert_eq!(figures[figures.len() - 3..], [5, 6, 7]);
    test.watermark(30);
    let mut found: Vec<_> = test.emitted("out").iter().filter_map(Value::as_u64).collect();
    found.sort_unstable();
    assert_eq!(found, [2, 2, 3], "a at 10 and b, both a and b, a at 20 and b");
}

/// Numbers of a stream, added up in the second stage in windows of 10.
fn totals() -> Box<dyn Job<u32>> {
    job::<u32, NoParams>("totals", "Sums.").source(|n: &u32| Some(n)).repartition(
        "numbers.repartition",
        |_| "k",
        |numbers| {
            numbers
                .key_by(|_| "k")
                .window(|_| WindowSpec::tumbling(10))
                .aggregate(Sum(|n: &u32| f64::from(*n)))
                .map(|r, _, _| r.value)
                .to(|_| ("out", ""))
        },
    )
}

const APP: App<u32> = App {
    name: "old",
    sources: &[
        Source { topic: "numbers", kind: SourceKind::Stream(Order::bounded(2, None)) },
        Source { topic: "numbers.repartition", kind: SourceKind::Repartition },
    ],
    partitions: 2,
    parse: |record| {
        let n = *record.value.and_then(<[u8]>::first).ok_or("no number")?;
        Ok(Parsed::new(n.into(), EventTime(record.offset)))
    },
    jobs: || vec![totals()],
};

#[test]
fn what_a_task_knows_besides_its_jobs() {
    let mut task = APP.task(0).unwrap();
    let meta = [
        &[1, 2][..],
        &[7],
        b"numbers",
        &[1, 16, 1, 14], // next offset 8, latest event time 7
        &[19],
        b"numbers.repartition",
        &[1, 6, 1, 6],
        &[1, 8],    // watermark 4
        &[8, 9, 1], // 8 records, 9 bytes, one malformed
        &[1, 6],
        b"totals",
        &[10, 2], // parameters of version 5: {}
        b"{}",
        &[7, 1, 0, 6, 6, 0], // 7 records: one filtered, none late, 6 done; 6 results, no violation
    ]
    .concat();
    // Channel 0 is at 9, channel 1 at 3; both active and aligned; 3 was the last minimum.
    let valves = [&[1, 1, 19][..], b"numbers.repartition", &[2, 18, 0, 1, 6, 0, 1, 6, 0]].concat();
    let windowed = [&[1, 1, 6][..], b"totals", &[4, 2]].concat();
    for (table, value) in [(0, meta), (1, valves), (2, windowed)] {
        assert_eq!(task.load(&[1, 0, table, 0], Some(&value)), Ok(true));
    }
    task.start();
    assert_eq!(task.offsets(), [("numbers", 8), ("numbers.repartition", 3)]);
    assert_eq!(task.watermark(), Watermark(4));
    let totals = task.totals();
    assert_eq!((totals.records, totals.bytes, totals.dead), (8, 9, 1));
    let [status] = &task.jobs()[..] else { panic!("one job") };
    assert_eq!(status.params_version, 5);
    let stats = status.stats;
    assert_eq!((stats.records, stats.filtered, stats.late, stats.done, stats.emitted), (7, 1, 0, 6, 6));
    assert_eq!((stats.windowed, stats.tardy, stats.violations), (4, 2, 0));

    // The valve knows that channel 0 is at 9: the window ends when channel 1 is, too.
    let mut effects = Effects::default();
    for (offset, value) in
        [(3, r#"{"at":5,"record":40,"idle":false}"#), (4, r#"{"from":1,"watermark":9,"idle":false}"#)]
    {
        let record = Record { source: 1, offset, key: None, value: Some(value.as_bytes()) };
        task.step(Input::Record(record), &mut effects).unwrap();
    }
    let emitted: Vec<_> = effects.iter().filter(|e| matches!(e, Effect::Emit { topic: "out", .. })).collect();
    assert_eq!(emitted.len(), 1, "{effects:?}");
}

#[test]
fn sketches() {
    // Accuracy 0.01, two zeros, three values in bin 5, one of the negative ones in bin -1.
    let bytes = [&[1][..], &0.01_f64.to_le_bytes(), &[2, 1, 10, 3, 1, 1, 1]].concat();
    let sketch: QuantileSketch = decode(&bytes).unwrap();
    assert_eq!(sketch.count(), 6);
    let gamma = 1.01_f64 / 0.99;
    let top = sketch.quantile(1.0).unwrap();
    assert!((top / (2.0 * gamma.powi(5) / (gamma + 1.0)) - 1.0).abs() < 1e-12, "{top}");
    assert!(sketch.quantile(0.0).unwrap() < 0.0);

    // Of three texts, as `datasketches` writes it.
    let bytes = [1, 20, 2, 1, 7, 4, 3, 8, 3, 8, 47, 130, 59, 4, 10, 255, 128, 4, 111, 25, 220, 6];
    let mut acc: Distinct = decode(&bytes).unwrap();
    let count = DistinctCount::new(4, |n: &String| n.as_str()).unwrap();
    count.add(&mut acc, &"b".to_owned(), EventTime(0));
    assert_eq!(count.result(&acc), 3, "b was among them");
    count.add(&mut acc, &"d".to_owned(), EventTime(0));
    assert_eq!(count.result(&acc), 4);
}

#[test]
fn detectors() {
    // 2 values, mean 3, squared deviations 8.
    let moments = [&[2][..], &3.0_f64.to_le_bytes(), &8.0_f64.to_le_bytes()].concat();
    let read: Moments = decode(&[&[1][..], &moments].concat()).unwrap();
    assert_eq!((read.count(), read.mean(), read.variance()), (2, Some(3.0), Some(4.0)));

    let nothing = [&[0][..], &[0; 16]].concat();
    let hours = [&[1][..], &moments, &nothing.repeat(22), &moments].concat();
    let read: Hours = decode(&hours).unwrap();
    let seen = [0, 1, 22, 23].map(|hour| read.at(EventTime(hour * 3_600_000)).count());
    assert_eq!(seen, [2, 0, 0, 2]);

    // One value, 10.0, at 1 s.
    let last = [&[1, 1][..], &10.0_f64.to_le_bytes(), &[0xd0, 0x0f]].concat();
    let mut read: Last = decode(&last).unwrap();
    let score = RateOfChange::default().observe(&mut read, 16.0, EventTime(3_000)).unwrap();
    assert_eq!((score.expected, score.score.abs()), (10.0, 3.0), "6 in 2 s");
}

#[test]
fn folded_state() {
    let moment = Moment::processing(50);
    let ttl = Some(Ttl::processing_time(100));
    // 7, last accessed at 20.
    let mut largest = ReducingState::new(|a: &u32, b: &u32| *a.max(b), ttl);
    largest.load(b"k", Some(&[1, 7, 40])).unwrap();
    assert_eq!(largest.get("k", Moment::processing(120)), None);
    largest.add("k", 5, moment);
    assert_eq!(largest.get("k", moment), Some(&7));

    let mut count = AggregatingState::new(Count, ttl);
    count.load(b"k", Some(&[1, 7, 40])).unwrap();
    count.add("k", &"x", moment);
    assert_eq!(count.get::<&str>("k", moment), Some(8));
}

#[test]
fn versions_of_a_table() {
    let mut test = Harness::new(|| {
        job::<i64, NoParams>("trades", "Trades with the rate of their time.")
            .source(|trade: &i64| Some(trade))
            .key_by(|_| "k")
            .temporal_join(Retention::new(3, 100).unwrap(), |_: &i64| None::<Version<'_, u32>>)
            .map(|trade, _, _| trade.reference)
            .to(|_| ("out", ""))
    });
    // From 10 on 7, from 20 on nothing.
    let versions: [Entry<'_>; 2] = [(&[1, 1, b'k', 20], &[1, 1, 7]), (&[1, 1, b'k', 40], &[1, 0])];
    load(&mut test, &versions);
    for (at, expected) in [(9, json!(null)), (10, json!(7)), (19, json!(7)), (20, json!(null))] {
        test.record(&at, at);
        assert_eq!(test.emitted("out"), [expected], "at {at}");
    }
}
