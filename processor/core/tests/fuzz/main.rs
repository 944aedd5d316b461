//! Fuzz targets as ordinary tests: any bytes that claim to be state or to come from a repartition topic, and any JSON that
//! claims to be parameters, are an error or are read; they never panic. (Those of the apps' topics: `apps/fuzz.rs` of the
//! processor.)
//!
//! Each runs over arbitrary bytes, and over those of a real state with a few of them changed, more of them, or cut
//! short. `PROPTEST_CASES=100000 cargo test --test fuzz` looks longer; not with `--release`, where overflows pass.
// All of this is test code.
#![allow(missing_docs, clippy::unwrap_used)]

mod jobs;

use std::collections::VecDeque;
use std::fmt::Debug;

use millrace_core::aggregate::{Distinct, DistinctCount, Moments, QuantileSketch, Quantiles, TopN, Variance};
use millrace_core::anomaly::{Ewma, EwmaState, Hours, Last, Mad, Sample, valid};
use millrace_core::cep::Pattern;
use millrace_core::params::merge;
use millrace_core::repartition::Message;
use millrace_core::state::{KeyedState, StateError, Table, decode, encode};
use millrace_core::stream::Scope;
use millrace_core::task::{App, Application, Input, Malformed, Parsed, Record, Source, SourceKind};
use millrace_core::testing::Harness;
use millrace_core::watermark::Order;
use millrace_core::window::{Aggregate, Schedule, WindowSpec};
use millrace_core::{Effects, EventTime, TimeWindow, Watermark};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;

use jobs::{JOBS, Reading, aggregated, key, readings, searching, value, windows};

/// What is done to bytes.
#[derive(Debug, Clone)]
enum Damage {
    Replaced(Vec<u8>),
    Changed(Vec<(Index, u8)>),
    Cut(Index),
    Longer(Vec<u8>),
}

impl Damage {
    fn to(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        match self {
            // Most arbitrary bytes fail at the version, so every second time they get the right one.
            Self::Replaced(by) if by.len() % 2 == 0 => bytes = [&[1], by.as_slice()].concat(),
            Self::Replaced(by) => bytes.clone_from(by),
            Self::Changed(changes) if !bytes.is_empty() => {
                for (at, to) in changes {
                    *at.get_mut(&mut bytes) = *to;
                }
            }
            Self::Changed(_) => {}
            Self::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Self::Longer(by) => bytes.extend_from_slice(by),
        }
        bytes
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..96).prop_map(Damage::Replaced),
        3 => prop::collection::vec((any::<Index>(), any::<u8>()), 1..5).prop_map(Damage::Changed),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..9).prop_map(Damage::Longer),
    ]
}

/// Reads damaged bytes of a value. What can be read can be written, and read again.
fn survives<T: Serialize + DeserializeOwned>(value: &T, damage: &Damage) -> Option<T> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    let damaged = damage.to(&bytes);
    let mut state = KeyedState::<T>::default();
    let result = state.load(b"key", Some(&damaged));
    assert_eq!(result.is_ok(), state.get(b"key").is_some());
    if damaged.first().is_some_and(|version| *version != 1) {
        assert!(matches!(result, Err(StateError::Version(_))));
    }
    let read: T = decode(&damaged).ok()?;
    encode(&read, &mut bytes);
    assert!(decode::<T>(&bytes).is_ok());
    Some(read)
}

fn at(watermark: i64, effects: &mut Effects) -> Scope<'_> {
    Scope { now: 0, watermark: Watermark(watermark), max_seen: Some(50_000), origin: None, effects }
}

const READINGS: &[Source] =
    &[Source { topic: "readings", kind: SourceKind::Stream(Order::bounded(0, None)) }];

fn app() -> App<Reading> {
    App {
        name: "fuzzed",
        sources: READINGS,
        partitions: 1,
        parse: |record: &Record<'_>| {
            let value: u8 = *record.value.and_then(<[u8]>::first).ok_or("no value")?;
            Ok(Parsed::new(("k".to_owned(), f64::from(value)), EventTime(record.offset * 1_000)))
        },
        jobs: || vec![windows()],
    }
}

proptest! {
    #[test]
    fn plain_state(damage in damage()) {
        survives(&7_u64, &damage);
        survives(&(5_u32, "text".to_owned(), Some(-1_i64), vec![1.5_f64; 3]), &damage);
        survives(&TimeWindow { start: -5, end: 300 }, &damage);
        survives(&Schedule::new(WindowSpec::tumbling(60), 5), &damage);
    }

    #[test]
    fn detectors(damage in damage()) {
        survives(&EwmaState::default(), &damage);
        survives(&Moments::default(), &damage);
        survives(&Hours::default(), &damage);
        survives(&Last::default(), &damage);
        if let Some(sample) = survives(&Sample::from(VecDeque::from([1.0, 5.0, 2.0])), &damage) {
            let _ = (sample.median(), sample.mad());
        }
    }

    #[test]
    fn aggregates(damage in damage()) {
        survives(&aggregated(&Variance::population(value)), &damage);
        survives(&aggregated(&TopN::new(3, key, value)), &damage);
        let quantiles = Quantiles::new(value, 0.02, &[0.5]).unwrap();
        // A sketch that was read can be used.
        if let Some(mut sketch) = survives::<QuantileSketch>(&aggregated(&quantiles), &damage) {
            sketch.merge(&aggregated(&quantiles));
            quantiles.result(&sketch);
        }
        for lg_k in [4, 12] {
            survives::<Distinct>(&aggregated(&DistinctCount::new(lg_k, key).unwrap()), &damage);
        }
    }

    #[test]
    fn operators(
        which in 0..JOBS.len(), damage_key in damage(), damage_value in damage(),
        table in any::<Index>(), entry in any::<Index>(),
    ) {
        let build = JOBS[which];
        let mut test = Harness::new(build);
        for (reading, i) in readings().iter().zip(0_i64..) {
            test.reference(reading);
            test.record(reading, i * 1_000);
        }
        let mut tables = Vec::new();
        test.job().tables(&mut |table| {
            let mut entries = Vec::new();
            table.snapshot(&mut |key, value| entries.push((key.to_vec(), value.unwrap().to_vec())));
            entries.sort();
            tables.push(entries);
        });
        let held: Vec<usize> = (0..tables.len()).filter(|table| !tables[*table].is_empty()).collect();
        let damaged = held[table.index(held.len())];
        let (key, value) = &tables[damaged][entry.index(tables[damaged].len())];
        let (bad_key, bad_value) = (damage_key.to(key), damage_value.to(value));
        for (key, value) in [(&bad_key, value), (key, &bad_value), (&bad_key, &bad_value)] {
            let mut job = build();
            let mut number = 0;
            job.tables(&mut |table| {
                for (key, value) in &tables[number] {
                    table.load(key, Some(value)).unwrap();
                }
                if number == damaged {
                    let before = table.len();
                    // Refused, or one entry more at most.
                    if table.load(key, Some(value)).is_err() {
                        assert!(table.len() <= before);
                    }
                    assert!(table.len() <= before + 1);
                }
                number += 1;
            });
            // What was read can be used: time goes to its end.
            let mut effects = Effects::default();
            job.start(&mut at(20_000, &mut effects));
            job.reference(&("k1".to_owned(), 2.0));
            job.record(&("k1".to_owned(), 1.0), EventTime(41_000), &mut at(20_000, &mut effects));
            job.processing_time(&mut Scope { now: 1_000, ..at(20_000, &mut effects) });
            job.watermark(&mut at(i64::MAX, &mut effects));
            number = 0;
            job.tables(&mut |table| {
                if number == damaged {
                    let _ = table.load(key, None);
                }
                number += 1;
            });
        }
    }

    #[test]
    fn pattern_compiler(text in pattern_text(), damage in damage()) {
        let bytes = damage.to(text.as_bytes());
        for bytes in [text.as_bytes(), &bytes] {
            // A pattern that compiles finds something or nothing in any letters; the others say what is wrong.
            let Ok(pattern) = serde_json::from_slice::<Pattern>(bytes) else { continue };
            match pattern.validate() {
                // Every error but those of the whole pattern names a stage, or the group that begins with it.
                Err(error) => {
                    let text = error.to_string();
                    prop_assert!(text.contains("stage") || text.contains("pattern"), "{}", text);
                }
                Ok(()) => {
                    let mut test = Harness::new(move || searching(pattern.clone()));
                    for (reading, i) in readings().iter().zip(0_i64..) {
                        test.record(reading, i * 1_000);
                        test.watermark(i * 1_000);
                    }
                    test.watermark(i64::MAX);
                }
            }
        }
    }

    #[test]
    fn task(damage_key in damage(), damage_value in damage(), which in any::<Index>()) {
        let (app, mut effects) = (app(), Effects::default());
        let mut task = app.task(0).unwrap();
        task.start();
        for offset in 0..15 {
            let record = Record { source: 0, offset, key: None, value: Some(&[7]) };
            task.step(Input::Record(record), &mut effects).unwrap();
        }
        let mut entries = Vec::new();
        task.snapshot(&mut |key, value| entries.push((key.to_vec(), value.unwrap().to_vec())));
        entries.sort();
        let (key, value) = &entries[which.index(entries.len())];
        let mut other = app.task(0).unwrap();
        let _ = other.load(&damage_key.to(key), Some(value));
        let _ = other.load(key, Some(&damage_value.to(value)));
        let _ = other.load(&damage_key.to(key), None);
    }

    #[test]
    fn repartition_messages(which in 0..3_usize, damage in damage()) {
        let good = [
            r#"{"at":5,"origin":["orders",3,7],"record":{"key":"books","value":[1,2.5]},"idle":false}"#,
            r#"{"at":-9223372036854775808,"record":"x","idle":false}"#,
            r#"{"from":2,"watermark":9223372036854775807,"idle":true}"#,
        ][which];
        let read = Message::read(good.as_bytes()).unwrap();
        prop_assert_eq!(matches!(read, Message::Progress { .. }), which == 2);
        let bytes = damage.to(good.as_bytes());
        match Message::read(&bytes) {
            Ok(Message::Record { record, .. }) => {
                // What a second stage is given is one JSON value.
                prop_assert!(serde_json::from_str::<serde_json::Value>(record).is_ok());
            }
            Ok(Message::Progress { .. }) => {}
            Err(Malformed(reason)) => prop_assert!(reason.contains("repartition topic")),
        }
    }

    #[test]
    fn parameters(text in json(), damage in damage()) {
        let bytes = damage.to(text.as_bytes());
        for bytes in [text.as_bytes(), &bytes] {
            let Ok(serde_json::Value::Object(values)) = serde_json::from_slice(bytes) else { continue };
            let Ok(params) = merge::<Watch>(&values) else { continue };
            prop_assert!(params.size > 0 && valid(&params.outlier, &()).is_ok());
            // What is in force is what was asked for, and the same when it is read again.
            let serde_json::Value::Object(written) = serde_json::to_value(&params).unwrap() else { unreachable!() };
            prop_assert!(values.keys().all(|name| written.contains_key(name)));
            let again = merge::<Watch>(&written);
            prop_assert_eq!(again.map(|again| serde_json::to_value(again).unwrap()), Ok(written.into()));
        }
    }
}

/// Parameters of every kind.
#[derive(Debug, Clone, Serialize, serde::Deserialize, schemars::JsonSchema, garde::Validate)]
#[serde(default, deny_unknown_fields)]
struct Watch {
    #[garde(range(min = 1, max = 100))]
    size: u16,
    #[garde(length(max = 5))]
    names: Vec<String>,
    #[garde(custom(valid))]
    outlier: Mad,
    #[garde(inner(custom(valid)))]
    level: Option<Ewma>,
}

impl Default for Watch {
    fn default() -> Self {
        Self { size: 10, names: Vec::new(), outlier: Mad::default(), level: None }
    }
}

fn json() -> impl Strategy<Value = String> {
    let number =
        prop_oneof![any::<i64>().prop_map(|n| n.to_string()), any::<f64>().prop_map(|x| format!("{x:?}"))];
    let scalar = prop_oneof![
        number,
        Just("null".to_owned()),
        Just("1e999".to_owned()),
        Just("50".to_owned()),
        Just("{}".to_owned()),
        Just("[\"a\"]".to_owned()),
        Just("{\"size\": 2}".to_owned()),
        Just("{\"alpha\": 0.5, \"threshold\": -1}".to_owned()),
    ];
    let name = prop_oneof![Just("size"), Just("names"), Just("outlier"), Just("level"), Just("other")];
    prop::collection::vec((name, scalar), 0..5).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", fields.join(", "))
    })
}

/// Patterns as people would write them, and as they should not.
fn pattern_text() -> impl Strategy<Value = String> {
    let condition = prop_oneof![
        3 => Just(r#"{"op": "gt", "left": {"field": "value"}, "right": {"const": 3}}"#),
        3 => Just(r#"{"op": "lt", "left": {"field": "value"}, "right": {"const": 9}}"#),
        1 => Just(r#"{"op": "eq", "left": {"field": "absent"}, "right": {"const": "x"}}"#),
        1 => Just(r#"{"op": "none"}"#),
    ];
    let more = prop_oneof![
        4 => Just(""),
        1 => Just(r#", "quantifier": {"times": {"min": 2, "max": 2}}"#),
        1 => Just(r#", "quantifier": {"times": {"min": 1, "max": 3}, "greedy": true}"#),
        1 => Just(r#", "quantifier": {"times": {"min": 0}, "inner": "any"}"#),
        1 => Just(r#", "quantifier": {"times": {"min": 1}, "inner": "strict"}"#),
        1 => Just(r#", "quantifier": {"times": {"min": 3, "max": 2}}"#),
        1 => Just(r#", "quantifier": {"optional": true}"#),
        1 => Just(r#", "quantifier": {"times": {"min": 4000000000}}"#),
    ];
    let contiguity = prop_oneof![
        Just("next"),
        Just("followed_by"),
        Just("followed_by_any"),
        Just("not_next"),
        Just("not_followed_by"),
    ];
    let element =
        (any::<u16>(), condition, more, contiguity).prop_map(|(stage, condition, more, contiguity)| {
            // Few names meet twice.
            let stage = stage % 50;
            format!(r#"{{"stage": "s{stage}", "contiguity": "{contiguity}", "where": {condition}{more}}}"#)
        });
    let within = prop_oneof![4 => Just(""), 4 => Just(r#", "within": 5000"#), 1 => Just(r#", "within": -1"#)];
    (prop::collection::vec(element, 0..6), within).prop_map(|(elements, within)| {
        let first = elements.first().map(|e| {
            let at = e.find(r#" "contiguity""#).unwrap();
            let end = e[at..].find(',').unwrap() + at + 1;
            format!("{}{}", &e[..at], &e[end..])
        });
        let elements: Vec<_> = first.into_iter().chain(elements.into_iter().skip(1)).collect();
        format!(r#"{{"pattern": [{}]{within}}}"#, elements.join(", "))
    })
}
