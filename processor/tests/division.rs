//! Every app with more partitions on the way: what comes of it is what comes of it with as many as before.
//!
//! The apps read what the generators make. Records of a key lie in its partition, also in the topics between stages.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use millrace_core::task::{Division, SourceKind, divide};
use millrace_core::{Application, Effect, Effects, Input, Record, Task};
use millrace_processor::apps;
use millrace_producers::iot_sensors::IotSensors;
use millrace_producers::orders::Orders;
use millrace_producers::transactions::Transactions;
use millrace_producers::user_events::UserEvents;
use millrace_producers::{Generator, Record as Made};
use millrace_wire::{Timestamp, partition, topic};
use serde_json::{Value, json};

/// As many as every app has at its first start.
const FROM: i32 = topic::PARTITIONS;
const TO: i32 = 3 * FROM;
/// The first event, epoch ms.
const START: i64 = 1_790_000_000_000;
/// Between two events of a stream, ms: two hours of events, so that windows close, sessions end and patterns time out.
const STEP: i64 = 600;
const EVENTS: usize = 12_000;
/// Events of a stream that are read at once: fewer ms than the streams may be out of order.
const BATCH: usize = 8;

/// They aggregate in their first stage: how many records their second stage gets depends on how many tasks there are.
const COMBINED: [&str; 3] = ["spend-trend", "traffic", "hourly-sales"];

/// Key and value.
type Entry = (Vec<u8>, Vec<u8>);

/// What lies in the topics that apps read, by topic; one event of each stream for each moment.
fn input() -> BTreeMap<&'static str, Vec<Entry>> {
    let generators: [Box<dyn Generator>; 4] = [
        Box::new(UserEvents::new(7, 300)),
        Box::new(Transactions::new(7, 300, 100)),
        Box::new(IotSensors::new(7, 40)),
        Box::new(Orders::new(7, 200)),
    ];
    let mut topics: BTreeMap<&'static str, Vec<Entry>> = BTreeMap::new();
    let moments = || (0..).map(|n| START + n * STEP).take(EVENTS);
    for mut generator in generators {
        for reference in generator.reference() {
            let entry = (reference.record.key, reference.record.value);
            topics.entry(reference.topic).or_default().push(entry);
        }
        let mut made = Made::default();
        for at in moments() {
            generator.next(Timestamp(at), &mut made).unwrap();
            topics.entry(generator.stream()).or_default().push((made.key.clone(), made.value.clone()));
        }
    }
    let metrics = moments().zip(0..).map(|(at, n): (i64, u32)| {
        let host = format!("host-{}", n % 25);
        let cpu = if n % 400 < 25 { 99 } else { n % 40 };
        let value = json!({"timestamp": at, "host": host, "cpu": cpu, "memory": 2, "diskIo": 3, "netIn": 4, "netOut": 5, "errors": 0});
        (host.into_bytes(), value.to_string().into_bytes())
    });
    topics.insert(topic::SYSTEM_METRICS, metrics.collect());
    for (topic, entries) in &mut topics {
        // Long after the last one, in every partition: every window closes.
        let of =
            |place| (0..).map(|n| format!("last-{n}")).find(|key| partition(key.as_bytes(), TO) == place);
        entries.extend((0..TO).filter_map(|place| last(topic, &of(place)?)));
    }
    topics
}

/// The last event of a stream.
fn last(topic: &str, key: &str) -> Option<Entry> {
    let at = START + EVENTS as i64 * STEP + 2 * 3_600_000;
    let value = match topic {
        topic::USER_EVENTS => {
            json!({"timestamp": at, "userId": key, "eventType": "page_view", "sessionId": key, "page": "/",
            "duration": 5, "userAgent": "x", "location": {"lat": 48.8, "lon": 2.3}})
        }
        topic::TRANSACTIONS => {
            json!({"timestamp": at, "transactionId": key, "userId": key, "amount": 9.5, "currency": "EUR",
            "merchantId": "m", "status": "approved", "riskScore": 0.25})
        }
        topic::SYSTEM_METRICS => {
            json!({"timestamp": at, "host": key, "cpu": 1, "memory": 2, "diskIo": 3, "netIn": 4,
            "netOut": 5, "errors": 0})
        }
        topic::IOT_SENSORS => {
            json!({"timestamp": Timestamp(at).to_iso(), "sensorId": key, "deviceType": "humidity",
            "value": 50, "unit": "%", "location": "cellar", "batteryLevel": 70})
        }
        topic::ORDERS => {
            json!({"orderId": key, "customerId": key, "amount": 1, "category": "last", "timestamp": at, "items": []})
        }
        _ => return None,
    };
    Some((key.as_bytes().to_vec(), value.to_string().into_bytes()))
}

/// A result without what says where its evidence lies and when it was found, which are other places and times, and with numbers
/// as far as they do not depend on the order of addition.
/// `None`: not the last word on its window, but of when the partial results of tasks came.
fn comparable(topic: &str, value: &[u8]) -> Option<String> {
    let mut value: Value = serde_json::from_slice(value).unwrap();
    let fields = value.as_object_mut().unwrap();
    if fields.get("final") == Some(&json!(false)) {
        return None;
    }
    for field in ["id", "evidence", "timestamp"] {
        fields.remove(field);
    }
    // Of all customers: their orders come in another order.
    let same: Option<&[&str]> = match topic {
        topic::CATEGORY_STATS => Some(&["category", "count"]),
        topic::MILESTONES => Some(&["category", "milestone"]),
        _ => None,
    };
    if let Some(same) = same {
        fields.retain(|field, _| same.contains(&field.as_str()));
    }
    for number in fields.values_mut().filter(|value| value.is_f64()) {
        *number = json!(format!("{:.6}", number.as_f64().unwrap()));
    }
    Some(value.to_string())
}

/// An app's tasks, and what Kafka holds of them.
struct Run {
    app: &'static dyn Application,
    of: i32,
    logs: BTreeMap<(&'static str, i32), Vec<Entry>>,
    states: BTreeMap<i32, BTreeMap<Vec<u8>, Vec<u8>>>,
    tasks: BTreeMap<i32, Box<dyn Task>>,
    now: i64,
    /// Topic, key and value.
    results: Vec<(&'static str, String, String)>,
    late: usize,
}

impl Run {
    fn new(app: &'static dyn Application) -> Self {
        let (logs, states, results) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let tasks = (0..FROM).map(|partition| {
            let mut task = app.task(partition).unwrap();
            task.start();
            (partition, task)
        });
        Self { app, of: FROM, logs, states, tasks: tasks.collect(), now: START, results, late: 0 }
    }

    fn write(&mut self, topic: &'static str, (key, value): Entry) {
        let to = partition(&key, self.of);
        self.logs.entry((topic, to)).or_default().push((key, value));
    }

    /// Tasks read everything there is and commit, until there is nothing more to read.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.now += 1_000;
            for partition in 0..self.of {
                self.work(partition);
            }
        }
    }

    fn work(&mut self, partition: i32) {
        let (task, mut effects) = (self.tasks.get_mut(&partition).unwrap(), Effects::default());
        for (source, of) in self.app.sources().iter().enumerate() {
            let read = task.offsets().iter().find(|(t, _)| *t == of.topic).map_or(0, |(_, next)| *next);
            let log = self.logs.get(&(of.topic, partition)).map_or(&[][..], Vec::as_slice);
            for (offset, (key, value)) in log.iter().enumerate().skip(usize::try_from(read).unwrap()) {
                let key = (!key.is_empty()).then_some(key.as_slice());
                let record =
                    Record { source, offset: i64::try_from(offset).unwrap(), key, value: Some(value) };
                task.step(Input::Record(record), &mut effects).unwrap();
            }
        }
        task.step(Input::ProcessingTime(self.now), &mut effects).unwrap();
        task.flush(&mut effects);
        let state = self.states.entry(partition).or_default();
        task.changes(&mut |key, value| match value {
            Some(value) => drop(state.insert(key.to_vec(), value.to_vec())),
            None => drop(state.remove(key)),
        });
        for effect in effects.iter() {
            match effect {
                Effect::Emit { topic, key, value } => {
                    let (key, value) = (effects.bytes(key), effects.bytes(value));
                    let sources = self.app.sources();
                    if sources.iter().any(|s| s.topic == *topic && s.kind == SourceKind::Repartition) {
                        self.write(topic, (key.to_vec(), value.to_vec()));
                    } else {
                        let key = String::from_utf8_lossy(key).into_owned();
                        self.results.extend(comparable(topic, value).map(|value| (*topic, key, value)));
                    }
                }
                Effect::Marker { topic, partition, value } => {
                    let entry = (Vec::new(), effects.bytes(value).to_vec());
                    self.logs.entry((topic, *partition)).or_default().push(entry);
                }
                Effect::Late { .. } => self.late += 1,
                Effect::Dead { reason } => panic!("{reason}"),
            }
        }
    }

    /// As `millrace rescale` does it: everything is read, also what is between the stages.
    fn divide(&mut self) {
        let before = std::mem::take(&mut self.states);
        for share in Division::new(FROM, TO).unwrap().shares() {
            let entries = before[&share.of()].iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
            let mut task = divide(self.app, share, partition, entries).unwrap();
            let mut state = BTreeMap::new();
            task.snapshot(&mut |key, value| drop(state.insert(key.to_vec(), value.unwrap().to_vec())));
            // The others go on from their state, as after a restart.
            let mut again = self.app.task(share.partition).unwrap();
            for (key, value) in &state {
                assert!(again.load(key, Some(value)).unwrap());
            }
            again.start();
            again.resume(&[]);
            self.tasks.insert(share.partition, again);
            self.states.insert(share.partition, state);
        }
        self.of = TO;
    }

    /// What has become of the records of all tasks, by job: records, filtered, late, done, pending, emitted.
    fn fates(&self) -> BTreeMap<&'static str, [u64; 6]> {
        let mut fates: BTreeMap<_, [u64; 6]> = BTreeMap::new();
        for job in self.tasks.values().flat_map(|task| task.jobs()) {
            assert!(job.stats.balances(job.pending), "{}: {:?}", job.name, job.stats);
            assert_eq!(job.stats.violations, 0, "{}: {:?}", job.name, job.stats);
            let stats = job.stats;
            let counted = [stats.records, stats.filtered, stats.late, stats.done, job.pending, stats.emitted];
            let sum = fates.entry(job.name).or_default();
            sum.iter_mut().zip(counted).for_each(|(sum, count)| *sum += count);
        }
        fates
    }
}

fn run(
    app: &'static dyn Application,
    topics: &BTreeMap<&'static str, Vec<Entry>>,
    divided_at: Option<usize>,
) -> Run {
    let mut run = Run::new(app);
    let of_kind = |is_stream| {
        let sources = app.sources().iter().filter(move |source| source.kind.is_stream() == is_stream);
        sources.filter_map(|source| Some((source.topic, topics.get(source.topic)?)))
    };
    for (topic, entries) in of_kind(false) {
        entries.iter().for_each(|entry| run.write(topic, entry.clone()));
    }
    run.settle();
    for from in (0..EVENTS).step_by(BATCH) {
        if divided_at.is_some_and(|at| (from..from + BATCH).contains(&at)) {
            run.divide();
        }
        for (topic, entries) in of_kind(true) {
            entries[from..EVENTS.min(from + BATCH)].iter().for_each(|entry| run.write(topic, entry.clone()));
        }
        run.settle();
    }
    for (topic, entries) in of_kind(true) {
        entries[EVENTS..].iter().for_each(|entry| run.write(topic, entry.clone()));
    }
    run.settle();
    run.settle();
    run
}

#[test]
fn an_app_with_three_times_the_partitions_gives_the_same_results() {
    let topics = input();
    for &app in apps::ALL {
        let (whole, divided) = (run(app, &topics, None), run(app, &topics, Some(EVENTS / 2)));
        assert_eq!((whole.late, divided.late), (0, 0), "{}", app.name());
        assert!(
            whole.fates().values().all(|fates| fates[0] > fates[1]),
            "a job saw nothing: {:?}",
            whole.fates()
        );
        let (mut of_whole, mut of_divided) = (whole.results.clone(), divided.results.clone());
        of_whole.sort();
        of_divided.sort();
        let count = of_whole.len();
        let only_in = |these: &[_], others: &[_]| {
            let others: BTreeSet<_> = others.iter().collect();
            these.iter().filter(|result| !others.contains(result)).take(5).cloned().collect::<Vec<_>>()
        };
        assert!(
            of_whole == of_divided,
            "{}: {count} and {} results; only in one: {:?}; only in the other: {:?}",
            app.name(),
            of_divided.len(),
            only_in(&of_whole, &of_divided),
            only_in(&of_divided, &of_whole)
        );
        let (mut of_whole, mut of_divided) = (whole.fates(), divided.fates());
        for job in COMBINED {
            assert_eq!(of_whole.remove(job).is_some(), of_divided.remove(job).is_some());
        }
        assert_eq!(of_whole, of_divided, "{}", app.name());
    }
}

#[test]
fn only_a_multiple_can_be_made() {
    for (from, to) in [(6, 6), (6, 3), (6, 8), (6, 0), (6, -6), (0, 6)] {
        assert!(Division::new(from, to).is_err(), "{from} to {to}");
    }
    let refused = Division::new(6, 8).unwrap_err().to_string();
    assert!(refused.contains("a multiple of 6"), "{refused}");
    assert_eq!(Division::new(6, 12).unwrap().shares().count(), 12);
}

#[test]
fn a_key_that_another_rule_has_put_somewhere_stays_there() {
    let key = b"account-9999";
    let ruled = partition(key, FROM);
    let other = (ruled + 1) % FROM;
    let shares: Vec<_> = Division::new(FROM, TO).unwrap().shares().collect();
    let task_of = |partition_had: i32| {
        let share = shares.iter().find(|share| share.of() == partition_had).unwrap();
        share.task_of(key, partition)
    };
    assert_eq!((task_of(ruled), task_of(other)), (partition(key, TO), other));
}
