//! Fuzz target: whatever is in the topics of an app, its `parse` and its jobs do not panic, and every record is accounted for.
//!
//! Records are arbitrary bytes, or good ones with fields replaced, taken away, added or damaged as text. Repartition topics
//! get what first stages really write, damaged alike. `PROPTEST_CASES=100000 cargo test --release --lib apps::fuzz` looks
//! longer.

use millrace_core::task::{SourceKind, Task};
use millrace_core::{Application, Effect, Effects, Input, Record};
use millrace_wire::bench::Query;
use millrace_wire::topic;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::{ALL, bench};

/// Runs `check` for each app that there is.
fn each_app(check: impl Fn(&dyn Application)) {
    ALL.iter().for_each(|app| check(*app));
    Query::ALL.iter().for_each(|query| check(&bench::tests::app_of(*query)));
}

/// Good records of a topic, with every field.
fn good(topic: &str) -> Vec<Value> {
    let at = 1_717_200_000_000_i64;
    let place = json!({"lat": 48.8, "lon": 2.3});
    let card = json!({"timestamp": at, "transactionId": "t", "userId": "u", "amount": 9.5, "currency": "EUR",
        "merchantId": "m", "status": "approved", "riskScore": 0.25});
    match topic {
        topic::USER_EVENTS => ["login", "add_to_cart", "purchase"]
            .iter()
            .map(|kind| {
                json!({"timestamp": at, "userId": "u", "eventType": kind, "sessionId": "s", "page": "/", "duration": 5,
                    "userAgent": "x", "location": place})
            })
            .collect(),
        topic::TRANSACTIONS => {
            vec![card, json!({"account": 9999, "amount": 600, "timestamp": "1717200001", "type": "deposit"})]
        }
        topic::SYSTEM_METRICS => vec![json!({"timestamp": at, "host": "h", "cpu": 1, "memory": 2, "diskIo": 3,
            "netIn": 4, "netOut": 5, "errors": 0})],
        topic::USERS => {
            vec![json!({"userId": "u", "homeCountry": "FR", "homeLocation": place, "segment": "x"})]
        }
        topic::MERCHANTS => {
            vec![json!({"merchantId": "m", "name": "n", "category": "c", "country": "FR", "riskClass": "low"})]
        }
        topic::IOT_SENSORS => ["humidity", "temperature"]
            .iter()
            .map(|kind| {
                json!({"timestamp": "2024-06-01T00:00:00Z", "sensorId": "s", "deviceType": kind, "value": 85,
                    "unit": "%", "location": "cellar", "batteryLevel": 7})
            })
            .collect(),
        topic::SENSORS => vec![json!({"sensorId": "s", "location": "cellar", "calibration": 0.5})],
        topic::ORDERS => vec![json!({"orderId": "o", "customerId": "c", "amount": 1001, "category": "books",
            "timestamp": at, "items": [{"sku": 1}]})],
        // The source of the bench's apps in tests.
        "cards" => vec![card],
        // Repartition topics: what the first stages write comes from them.
        _ => vec![json!({"from": 0, "watermark": at, "idle": false})],
    }
}

/// Good records of an app, (source, value): those of its topics, and what its jobs write to its repartition topics.
fn corpus(app: &dyn Application) -> Vec<(usize, Value)> {
    let (mut task, mut effects) = (app.task(0).unwrap(), Effects::default());
    task.start();
    let mut corpus = Vec::new();
    for (source, of) in app.sources().iter().enumerate() {
        corpus.extend(good(of.topic).into_iter().map(|value| (source, value)));
    }
    for (source, value) in &corpus {
        step(&mut *task, *source, Some(b"k"), Some(value.to_string().as_bytes()), &mut effects);
    }
    task.flush(&mut effects);
    for effect in effects.iter() {
        let (topic, value) = match effect {
            Effect::Emit { topic, value, .. } | Effect::Marker { topic, value, .. } => (topic, value),
            Effect::Late { .. } => continue,
            Effect::Dead { reason } => panic!("{}: a good record is dead: {reason}", app.name()),
        };
        if let Some(source) = app.sources().iter().position(|source| source.topic == *topic) {
            corpus.push((source, serde_json::from_slice(effects.bytes(value)).unwrap()));
        }
    }
    corpus
}

fn step(task: &mut dyn Task, source: usize, key: Option<&[u8]>, value: Option<&[u8]>, effects: &mut Effects) {
    let offset = task.offsets().iter().map(|(_, next)| *next).max().unwrap_or(0);
    task.step(Input::Record(Record { source, offset, key, value }), effects).unwrap();
}

/// What is done to a good record.
#[derive(Debug, Clone)]
enum Mutation {
    None,
    Replaced(Index, Value),
    Absent(Index),
    Added(String, Value),
    Text(Index, u8),
    Cut(Index),
    Bytes(Vec<u8>),
    Tombstone,
}

impl Mutation {
    fn to(&self, record: &Value) -> Option<Vec<u8>> {
        let mut fields = record.as_object().cloned().unwrap_or_default();
        let name = |fields: &Map<String, Value>, at: &Index| {
            fields.keys().nth(at.index(fields.len().max(1))).cloned().unwrap_or_default()
        };
        match self {
            Self::None => {}
            Self::Replaced(at, value) => {
                let name = name(&fields, at);
                fields.insert(name, value.clone());
            }
            Self::Absent(at) => {
                let name = name(&fields, at);
                fields.remove(&name);
            }
            Self::Added(name, value) => {
                fields.insert(name.clone(), value.clone());
            }
            Self::Text(at, to) => {
                let mut bytes = record.to_string().into_bytes();
                *at.get_mut(&mut bytes) = *to;
                return Some(bytes);
            }
            Self::Cut(at) => {
                let mut bytes = record.to_string().into_bytes();
                bytes.truncate(at.index(bytes.len()));
                return Some(bytes);
            }
            Self::Bytes(bytes) => return Some(bytes.clone()),
            Self::Tombstone => return None,
        }
        Some(Value::Object(fields).to_string().into_bytes())
    }
}

/// Values at the ends of what there is, and of other types.
fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (1_717_200_000_000..1_717_290_000_000_i64).prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        2 => any::<f64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        2 => ".{0,12}".prop_map(Value::from),
        1 => prop::sample::select(vec![
            Value::Null, json!(true), json!({}), json!([]), json!(""), json!(0), json!(-0.0), json!(1e308),
            json!(i64::MIN), json!(i64::MAX), json!("9223372036854775807"), json!("0001-01-01T00:00:00Z"),
            json!("9999-12-31T23:59:59.999Z"), json!({"lat": 90, "lon": 180}), json!("purchase"), json!("vibration"),
        ]),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        2 => Just(Mutation::None),
        6 => (any::<Index>(), scalar()).prop_map(|(at, value)| Mutation::Replaced(at, value)),
        1 => any::<Index>().prop_map(Mutation::Absent),
        1 => (".{0,8}", scalar()).prop_map(|(name, value)| Mutation::Added(name, value)),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(at, to)| Mutation::Text(at, to)),
        1 => any::<Index>().prop_map(Mutation::Cut),
        2 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Mutation::Bytes),
        1 => Just(Mutation::Tombstone),
    ]
}

/// Otherwise the target would only see records that are refused.
#[test]
fn good_records_are_not_dead() {
    each_app(|app| {
        let corpus = corpus(app);
        for (source, of) in app.sources().iter().enumerate() {
            assert!(corpus.iter().any(|(from, _)| *from == source), "{} of {}", of.topic, app.name());
        }
        let (mut task, mut effects) = (app.task(0).unwrap(), Effects::default());
        task.start();
        for (source, value) in corpus {
            step(&mut *task, source, Some(b"k"), Some(value.to_string().as_bytes()), &mut effects);
        }
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Dead { .. })), "{}", app.name());
    });
}

proptest! {
    #[test]
    fn no_record_makes_an_app_panic(
        records in prop::collection::vec((any::<Index>(), mutation(), prop::option::of(any::<[u8; 2]>())), 1..20),
    ) {
        each_app(|app| {
            let corpus = corpus(app);
            let (mut task, mut effects) = (app.task(0).unwrap(), Effects::default());
            task.start();
            let (mut now, mut streams, mut foreign) = (0, 0, 0);
            for (which, mutation, key) in &records {
                let (source, record) = which.get(&corpus);
                let value = mutation.to(record);
                step(&mut *task, *source, key.as_ref().map(<[u8; 2]>::as_slice), value.as_deref(), &mut effects);
                match app.sources()[*source].kind {
                    SourceKind::Reference => {}
                    // What nobody but the app should write there is a violation, and only that.
                    SourceKind::Repartition => foreign += u64::from(!matches!(mutation, Mutation::None)),
                    _ => streams += 1,
                }
                now += 700;
                task.step(Input::ProcessingTime(now), &mut effects).unwrap();
                task.flush(&mut effects);
                task.changes(&mut |_, _| {});
            }
            assert_eq!(task.totals().records, streams, "{}", app.name());
            for job in task.jobs() {
                assert!(
                    job.stats.balances(job.pending) && job.stats.violations <= foreign,
                    "{}.{}: {:?}, {} pending",
                    app.name(),
                    job.name,
                    job.stats,
                    job.pending
                );
            }
        });
    }
}
