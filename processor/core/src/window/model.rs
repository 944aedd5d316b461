//! The window operator against a plain model of the definition, over random records, watermarks, lateness and restore
//! points; and under every trigger and live change against itself without restores.

use std::collections::BTreeMap;

use garde::Validate;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Aggregate, Trigger, WindowSpec};
use crate::stream::{Job, job};
use crate::testing::Harness;
use crate::time::EventTime;
use crate::time::TimeDomain;

type Event = (String, i64);

/// Parameters that change the windows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
struct Live {
    #[garde(skip)]
    #[schemars(skip)]
    spec: WindowSpec,
    #[garde(skip)]
    lateness: i64,
}

impl Default for Live {
    fn default() -> Self {
        Self { spec: WindowSpec::tumbling(10), lateness: 0 }
    }
}

/// Sum, number, and a sum of floats, which depends on the order of adding.
struct Sum;

impl Aggregate<Event> for Sum {
    type Acc = (i64, u64, f64);
    type Out = (i64, u64, f64);

    fn create(&self) -> Self::Acc {
        (0, 0, 0.0)
    }

    fn add(&self, acc: &mut Self::Acc, event: &Event, _: EventTime) {
        *acc = (acc.0 + event.1, acc.1 + 1, acc.2 + 0.1 * event.1 as f64);
    }

    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
        *acc = (acc.0 + other.0, acc.1 + other.1, acc.2 + other.2);
    }

    fn result(&self, acc: &Self::Acc) -> Self::Out {
        *acc
    }
}

/// How an operator is put together; the windows come from the parameters.
#[derive(Debug, Clone, Copy)]
struct Setup {
    time: TimeDomain,
    trigger: Option<Trigger>,
    purging: bool,
    collect: bool,
}

const PLAIN: Setup = Setup { time: TimeDomain::Event, trigger: None, purging: false, collect: false };

fn sums(setup: Setup) -> Box<dyn Job<Event>> {
    let mut windows = job::<Event, Live>("sums", "Sums.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.0)
        .window(|live| live.spec)
        .allowed_lateness(|live| live.lateness)
        .time(setup.time);
    if let Some(trigger) = setup.trigger {
        windows = windows.trigger(trigger);
    }
    if setup.purging {
        windows = windows.purging();
    }
    if setup.collect {
        let all = |w: &super::Windowed<&[Event]>, _: &Live| {
            w.value.iter().fold((0, 0, 0.0), |(sum, count, float), event| {
                (sum + event.1, count + 1, float + 0.1 * event.1 as f64)
            })
        };
        windows.process(all).map(|r, _, _| (r.key.to_string(), r.window, r.value)).to(|_| ("out", ""))
    } else {
        windows.aggregate(Sum).map(|r, _, _| (r.key.to_string(), r.window, r.value)).to(|_| ("out", ""))
    }
}

/// A job under test, and its changelog as a store would have it.
struct Test {
    harness: Harness<Event>,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Test {
    fn new(setup: Setup, spec: WindowSpec, lateness: i64) -> Self {
        let mut harness = Harness::new(move || sums(setup));
        harness.params(1, &json!({"spec": spec, "lateness": lateness})).unwrap();
        Self { harness, store: BTreeMap::new() }
    }

    /// Everything since the last call: what was emitted, and whether what is said of the state is true.
    fn settle(&mut self) -> Vec<Value> {
        let (store, mut snapshot) = (&mut self.store, BTreeMap::new());
        self.harness.job().tables(&mut |table| {
            table.changes(&mut |key, value| {
                match value {
                    Some(value) => store.insert(key.to_vec(), value.to_vec()),
                    None => store.remove(key),
                };
            });
            table.snapshot(&mut |key, value| {
                snapshot.insert(key.to_vec(), value.unwrap_or_default().to_vec());
            });
        });
        // The schedule of the start is told with its first change: until then it follows from the parameters.
        snapshot.retain(|key, _| store.contains_key(key) || key.get(1) != Some(&0));
        assert_eq!(*store, snapshot, "changelog against snapshot");
        let (stats, pending) = (self.harness.job().stats(), self.harness.job().pending());
        assert!(stats.balances(pending) && stats.violations == 0, "{stats:?}, {pending} pending");
        self.harness.emitted("out")
    }
}

impl Test {
    fn settle_without_floats(&mut self) -> Vec<Value> {
        let mut results = self.settle();
        for result in &mut results {
            result[2].as_array_mut().unwrap().pop();
        }
        results
    }
}

#[derive(Debug, Clone)]
enum Step {
    Record { key: u8, at: i64, value: i64 },
    Watermark(i64),
    Clock(i64),
    Change(WindowSpec, i64),
    Restore,
}

fn record() -> impl Strategy<Value = Step> {
    (0..3_u8, -120..200_i64, -9..9_i64).prop_map(|(key, at, value)| Step::Record { key, at, value })
}

fn aligned() -> impl Strategy<Value = WindowSpec> {
    prop_oneof![
        (1..60_i64, -59..59_i64).prop_map(|(size, o)| WindowSpec::Tumbling { size, offset: o % size }),
        (1..60_i64, 1..40_i64, -59..59_i64).prop_map(|(size, slide, o)| WindowSpec::Sliding {
            size,
            slide,
            offset: o % slide
        }),
    ]
}

fn any_spec() -> impl Strategy<Value = WindowSpec> {
    prop_oneof![4 => aligned(), 2 => (1..40_i64).prop_map(WindowSpec::session), 1 => Just(WindowSpec::Global)]
}

fn trigger() -> impl Strategy<Value = Option<Trigger>> {
    prop_oneof![
        Just(None),
        Just(Some(Trigger::EventTime)),
        Just(Some(Trigger::ProcessingTime)),
        Just(Some(Trigger::EndOfStream)),
        (1..30_i64).prop_map(|interval| Some(Trigger::ContinuousEventTime { interval })),
        (1..30_i64).prop_map(|interval| Some(Trigger::ContinuousProcessingTime { interval })),
        (1..5_u64).prop_map(|n| Some(Trigger::Count { n })),
    ]
}

/// What the definition says, word for word: every window is a list of records.
struct Model {
    spec: WindowSpec,
    lateness: i64,
    watermark: i64,
    /// By key, start and end.
    windows: BTreeMap<(String, i64, i64), Vec<(u64, i64)>>,
    records: u64,
    late: u64,
    filtered: u64,
}

impl Model {
    fn assign(&self, key: &str, t: i64) -> Vec<(i64, i64)> {
        match self.spec {
            WindowSpec::Tumbling { size, offset } => {
                let start = t - (t - offset).rem_euclid(size);
                vec![(start, start + size)]
            }
            WindowSpec::Sliding { size, slide, offset } => (t - size + 1..=t)
                .filter(|start| (start - offset).rem_euclid(slide) == 0)
                .map(|start| (start, start + size))
                .collect(),
            WindowSpec::Session { gap } => {
                let mut cover = (t, t + gap);
                loop {
                    let before = cover;
                    for (other, start, end) in self.windows.keys() {
                        if other == key && *start <= cover.1 && cover.0 <= *end {
                            cover = (cover.0.min(*start), cover.1.max(*end));
                        }
                    }
                    if before == cover {
                        return vec![cover];
                    }
                }
            }
            WindowSpec::SessionDynamic | WindowSpec::Global => unreachable!(),
        }
    }

    fn result((key, start, end): &(String, i64, i64), records: &[(u64, i64)]) -> Value {
        let sum: i64 = records.iter().map(|(_, value)| value).sum();
        json!([key, {"start": start, "end": end}, [sum, records.len()]])
    }

    fn record(&mut self, key: &str, t: i64, value: i64) -> Vec<Value> {
        let windows = self.assign(key, t);
        let open: Vec<_> =
            windows.into_iter().filter(|(_, end)| end - 1 + self.lateness > self.watermark).collect();
        self.records += 1;
        match (open.is_empty(), t + self.lateness <= self.watermark) {
            (true, true) => self.late += 1,
            (true, false) => self.filtered += 1,
            (false, _) => {}
        }
        let mut out = Vec::new();
        for (start, end) in open {
            let mut records = Vec::new();
            if matches!(self.spec, WindowSpec::Session { .. }) {
                self.windows.retain(|(other, s, e), values| {
                    let inside = other == key && *s >= start && *e <= end;
                    if inside {
                        records.append(values);
                    }
                    !inside
                });
            } else {
                records = self.windows.remove(&(key.to_owned(), start, end)).unwrap_or_default();
            }
            records.push((self.records, value));
            let place = (key.to_owned(), start, end);
            if end - 1 <= self.watermark {
                out.push(Self::result(&place, &records));
            }
            self.windows.insert(place, records);
        }
        out
    }

    fn advance(&mut self, to: i64) -> Vec<Value> {
        let mut due: Vec<_> = self
            .windows
            .iter()
            .filter(|((.., end), _)| (self.watermark + 1..=to).contains(&(end - 1)))
            .collect();
        due.sort_by_key(|((key, start, end), _)| (*end, key, *start));
        let out = due.into_iter().map(|(place, records)| Self::result(place, records)).collect();
        self.watermark = to;
        let lateness = self.lateness;
        self.windows.retain(|(.., end), _| *end - 1 + lateness > to);
        out
    }

    fn pending(&self) -> u64 {
        let mut open: Vec<u64> = self.windows.values().flatten().map(|(number, _)| *number).collect();
        open.sort_unstable();
        open.dedup();
        open.len() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn windows_are_what_the_definition_says(
        spec in prop_oneof![3 => aligned(), 2 => (1..40_i64).prop_map(WindowSpec::session)],
        lateness in prop_oneof![Just(0_i64), 0..50_i64],
        collect: bool,
        steps in prop::collection::vec(prop_oneof![
            6 => record(), 2 => (0..40_i64).prop_map(Step::Watermark), 1 => Just(Step::Restore)
        ], 1..80)
    ) {
        let mut test = Test::new(Setup { collect, ..PLAIN }, spec, lateness);
        let mut model = Model {
            spec, lateness, watermark: -150, windows: BTreeMap::new(), records: 0, late: 0, filtered: 0
        };
        test.harness.watermark(model.watermark);
        for step in steps {
            let expected = match step {
                Step::Record { key, at, value } => {
                    let key = format!("k{key}");
                    test.harness.record(&(key.clone(), value), at);
                    model.record(&key, at, value)
                }
                Step::Watermark(by) => {
                    let to = model.watermark + by;
                    test.harness.watermark(to);
                    model.advance(to)
                }
                _ => {
                    test.harness.restore();
                    Vec::new()
                }
            };
            prop_assert_eq!(test.settle_without_floats(), expected);
            let (stats, pending) = (test.harness.job().stats(), test.harness.job().pending());
            prop_assert_eq!(pending, model.pending());
            prop_assert_eq!((stats.late, stats.filtered), (model.late, model.filtered));
        }
        let end = model.watermark + 1_000;
        test.harness.watermark(end);
        prop_assert_eq!(test.settle_without_floats(), model.advance(end));
        prop_assert!(test.harness.state_is_empty());
    }

    /// To the last bit of a float, under every trigger and live change.
    #[test]
    fn any_restore_points_give_the_same_output(
        spec in any_spec(),
        lateness in 0..30_i64,
        (time, trigger, purging, collect) in (
            prop_oneof![3 => Just(TimeDomain::Event), 1 => Just(TimeDomain::Processing)],
            prop_oneof![1 => Just(None), 1 => trigger()],
            any::<bool>(),
            any::<bool>(),
        ),
        steps in prop::collection::vec(prop_oneof![
            12 => record(),
            3 => (0..40_i64).prop_map(Step::Watermark),
            3 => (0..40_i64).prop_map(Step::Clock),
            1 => (any_spec(), 0..30_i64).prop_map(|(spec, lateness)| Step::Change(spec, lateness)),
            4 => Just(Step::Restore),
        ], 1..80)
    ) {
        let setup = Setup { time, trigger, purging, collect };
        let mut tests = [Test::new(setup, spec, lateness), Test::new(setup, spec, lateness)];
        let (mut watermark, mut now, mut version) = (-150, 0, 1);
        for step in steps {
            let mut outputs = Vec::new();
            for (index, test) in tests.iter_mut().enumerate() {
                match &step {
                    Step::Record { key, at, value } => test.harness.record(&(format!("k{key}"), *value), *at),
                    Step::Watermark(by) => test.harness.watermark(watermark + by),
                    Step::Clock(by) => test.harness.processing_time(now + by),
                    Step::Change(spec, lateness) => {
                        let change = json!({"spec": spec, "lateness": lateness});
                        test.harness.params(version + 1, &change).unwrap();
                    }
                    Step::Restore if index == 1 => {
                        test.harness.restore();
                    }
                    Step::Restore => {}
                }
                outputs.push((test.settle(), test.harness.job().stats(), test.harness.job().pending()));
            }
            match step {
                Step::Watermark(by) => watermark += by,
                Step::Clock(by) => now += by,
                Step::Change(..) => version += 1,
                _ => {}
            }
            prop_assert_eq!(&outputs[0], &outputs[1]);
        }
    }
}
