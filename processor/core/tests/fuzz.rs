//! Fuzz targets as ordinary tests: any bytes that claim to be state, and any JSON that claims to be parameters, are an
//! error or are read; they never panic.
//!
//! Each runs over arbitrary bytes, and over those of a real state with a few of them changed, more of them, or cut
//! short. `PROPTEST_CASES=100000 cargo test --release --test fuzz` looks longer.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::fmt::Debug;

use millrace_core::aggregate::{
    Avg, Count, Distinct, DistinctCount, Moments, QuantileSketch, Quantiles, TopN, Variance,
};
use millrace_core::anomaly::{Ewma, EwmaState, Hours, Last, Mad, Sample, valid};
use millrace_core::params::{NoParams, merge};
use millrace_core::state::{KeyedState, StateError, Table, decode, encode};
use millrace_core::stream::{Job, Scope, job};
use millrace_core::task::{App, Application, Input, Parsed, Record, Source, SourceKind};
use millrace_core::testing::Harness;
use millrace_core::watermark::BoundedOutOfOrderness;
use millrace_core::window::{Aggregate, Schedule, WindowSpec};
use millrace_core::{Effects, EventTime, TimeWindow, Watermark};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Serialize;
use serde::de::DeserializeOwned;

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

type Reading = (String, f64);

fn value(reading: &Reading) -> f64 {
    reading.1
}

fn key(reading: &Reading) -> &str {
    &reading.0
}

fn readings() -> Vec<Reading> {
    (0..40).map(|i| (format!("k{}", i % 7), f64::from(i) * 1.5 - 20.0)).collect()
}

fn aggregated<A: Aggregate<Reading>>(aggregate: &A) -> A::Acc {
    let mut acc = aggregate.create();
    readings().iter().for_each(|reading| aggregate.add(&mut acc, reading, EventTime(0)));
    acc
}

fn windows() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("windows", "Readings of ten seconds.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .window(|_| WindowSpec::tumbling(10_000))
        .allowed_lateness(|_| 5_000)
        .aggregate((Count, Avg(value)))
        .map(|result, _, _| result.value)
        .to(|_| ("out", ""))
}

fn at(watermark: i64, effects: &mut Effects) -> Scope<'_> {
    Scope { now: 0, watermark: Watermark(watermark), max_seen: Some(50_000), origin: None, effects }
}

fn app() -> App<Reading> {
    App {
        name: "fuzzed",
        sources: &[Source { topic: "readings", kind: SourceKind::Stream }],
        parse: |record: &Record<'_>| {
            let value: u8 = *record.value.and_then(<[u8]>::first).ok_or("no value")?;
            Ok(Parsed { event: ("k".to_owned(), f64::from(value)), at: EventTime(record.offset * 1_000) })
        },
        order: BoundedOutOfOrderness { max_out_of_orderness: 0, idle_timeout: None },
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
    fn window_operator(damage_key in damage(), damage_value in damage(), which in any::<Index>()) {
        let mut test = Harness::new(windows);
        readings().iter().zip(0_i64..).for_each(|(reading, i)| test.record(reading, i * 1_000));
        let mut entries = Vec::new();
        test.job().tables(&mut |table| {
            table.snapshot(&mut |key, value| entries.push((key.to_vec(), value.unwrap().to_vec())));
        });
        entries.sort();
        let (key, value) = &entries[which.index(entries.len())];
        let (bad_key, bad_value) = (damage_key.to(key), damage_value.to(value));
        for (key, value) in [(&bad_key, value), (key, &bad_value), (&bad_key, &bad_value)] {
            let mut job = windows();
            job.tables(&mut |table| {
                for (key, value) in &entries {
                    table.load(key, Some(value)).unwrap();
                }
                let before = table.len();
                // Refused, or one entry more at most.
                if table.load(key, Some(value)).is_err() {
                    assert!(table.len() <= before);
                }
                assert!(table.len() <= before + 1);
            });
            // What was read can be used: every window fires and is forgotten.
            let mut effects = Effects::default();
            job.start(&mut at(20_000, &mut effects));
            job.record(&("k1".to_owned(), 1.0), EventTime(41_000), &mut at(20_000, &mut effects));
            job.watermark(&mut at(i64::MAX, &mut effects));
            job.tables(&mut |table| {
                let _ = table.load(key, None);
            });
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
    fn parameters(text in json(), damage in damage()) {
        let bytes = damage.to(text.as_bytes());
        for bytes in [text.as_bytes(), &bytes] {
            if let Ok(serde_json::Value::Object(values)) = serde_json::from_slice(bytes) {
                let read = merge::<Watch>(&values);
                prop_assert_eq!(merge::<Watch>(&values).is_ok(), read.is_ok());
                if let Ok(params) = read {
                    prop_assert!(params.size > 0 && valid(&params.outlier, &()).is_ok());
                }
            }
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
