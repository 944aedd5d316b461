//! Three tasks that repartition to each other, killed and restored between commits, against sums over the whole input.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Merge, Message};
use crate::aggregate::{Count, Sum};
use crate::params::NoParams;
use crate::stream::{Job, job};
use crate::task::{App, Application, Input, Parsed, Record, Source, SourceKind, Task};
use crate::watermark::Order;
use crate::window::{WindowSpec, Windowed};
use crate::{Effect, Effects, EventTime};

const TASKS: i32 = 3;
const SIZE: i64 = 10;

/// (time, colour, value)
type Event = (i64, u8, u32);
/// Key and value of a record.
type Entry = (Option<Vec<u8>>, Vec<u8>);
type Sums = BTreeMap<(i64, String), (u64, f64)>;

fn value(event: &Event) -> f64 {
    f64::from(event.2)
}

fn write(result: &Windowed<(u64, f64)>) -> (i64, String, (u64, f64)) {
    (result.window.start, result.key.to_string(), result.value)
}

fn plain() -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("plain", "Per colour.")
        .source(|event: &Event| Some(event))
        .map(|event, _, _| (format!("colour-{}", event.1), event.2))
        .repartition(
            "plain.repartition",
            |(colour, _)| colour,
            |records| {
                records
                    .key_by(|(colour, _)| colour)
                    .window(|_| WindowSpec::tumbling(SIZE))
                    .aggregate((Count, Sum(|(_, value): &(String, u32)| f64::from(*value))))
                    .map(|result, _, _| write(result))
                    .to(|_| ("plain", ""))
            },
        )
}

fn combined() -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("combined", "Of all.")
        .source(|event: &Event| Some(event))
        .combine(SIZE / 2, |_| "all", (Count, Sum(value)))
        .repartition(
            "combined.repartition",
            |partial| &partial.key,
            |partials| {
                partials
                    .key_by(|partial| &partial.key)
                    .window(|_| WindowSpec::tumbling(SIZE))
                    .aggregate(Merge::<_, Event>::new((Count, Sum(value))))
                    .map(|result, _, _| write(result))
                    .to(|_| ("combined", ""))
            },
        )
}

const APP: App<Event> = App {
    name: "colours",
    sources: &[
        Source { topic: "events", kind: SourceKind::Stream(Order::bounded(3, Some(60_000))) },
        Source { topic: "plain.repartition", kind: SourceKind::Repartition },
        Source { topic: "combined.repartition", kind: SourceKind::Repartition },
    ],
    partitions: TASKS,
    parse: |record| {
        let event: Event =
            serde_json::from_slice(record.value.unwrap_or_default()).map_err(|e| e.to_string())?;
        Ok(Parsed::new(event, EventTime(event.0)))
    },
    jobs: || vec![plain(), combined()],
};

/// Topics with their partitions, offsets committed and state: what Kafka holds.
#[derive(Default)]
struct Cluster {
    logs: BTreeMap<(&'static str, i32), Vec<Entry>>,
    changelogs: BTreeMap<i32, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    tasks: BTreeMap<i32, Box<dyn Task>>,
    open: BTreeMap<i32, Effects>,
    now: i64,
}

impl Cluster {
    fn start(&mut self, partition: i32) {
        let mut task = APP.task(partition).unwrap();
        for (key, value) in self.changelogs.entry(partition).or_default() {
            assert!(task.load(key, value.as_deref()).unwrap());
        }
        task.start();
        let next = task.offsets().iter().find(|(topic, _)| *topic == "events").map_or(0, |(_, next)| *next);
        let end = self.logs.get(&("events", partition)).map_or(0, Vec::len);
        task.resume(if next < end as i64 { &["events"] } else { &[] });
        self.tasks.insert(partition, task);
        self.open.insert(partition, Effects::default());
    }

    /// Gives a task the next record of one of its sources. Returns whether there was one.
    fn read(&mut self, partition: i32, source: usize) -> bool {
        let (task, effects) =
            (self.tasks.get_mut(&partition).unwrap(), self.open.get_mut(&partition).unwrap());
        let topic = APP.sources[source].topic;
        let next = task.offsets().iter().find(|(t, _)| *t == topic).map_or(0, |(_, offset)| *offset);
        let log = self.logs.get(&(topic, partition)).and_then(|log| log.get(next as usize));
        let Some((key, value)) = log else { return false };
        let record = Record { source, offset: next, key: key.as_deref(), value: Some(value) };
        task.step(Input::Record(record), effects).unwrap();
        true
    }

    fn tick(&mut self, partition: i32, ms: i64) {
        self.now += ms;
        let effects = self.open.get_mut(&partition).unwrap();
        self.tasks.get_mut(&partition).unwrap().step(Input::ProcessingTime(self.now), effects).unwrap();
    }

    fn commit(&mut self, partition: i32) {
        let (task, mut effects) =
            (self.tasks.get_mut(&partition).unwrap(), self.open.remove(&partition).unwrap());
        task.flush(&mut effects);
        let changelog = self.changelogs.get_mut(&partition).unwrap();
        task.changes(&mut |key, value| {
            changelog.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        });
        for effect in effects.iter() {
            match effect {
                Effect::Emit { topic, key, value } => {
                    let key = effects.bytes(key).to_vec();
                    let to = key.iter().map(|byte| i32::from(*byte)).sum::<i32>() % TASKS;
                    let value = effects.bytes(value).to_vec();
                    self.logs.entry((topic, to)).or_default().push((Some(key), value));
                }
                Effect::Marker { topic, partition, value } => {
                    self.logs
                        .entry((topic, *partition))
                        .or_default()
                        .push((None, effects.bytes(value).to_vec()));
                }
                other => panic!("{other:?}"),
            }
        }
        self.open.insert(partition, Effects::default());
    }

    /// What was written to a result topic. No window twice.
    fn results(&self, topic: &str) -> Sums {
        let mut sums = Sums::new();
        for (_, value) in self.logs.iter().filter(|((t, _), _)| *t == topic).flat_map(|(_, log)| log) {
            let (start, key, sum) = serde_json::from_slice(value).unwrap();
            assert_eq!(sums.insert((start, key), sum), None, "{topic}");
        }
        sums
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_order_of_steps_every_window_sees_every_record_once(
        events in prop::collection::vec((0..4_i64, 0..3_u8, 0..9_u32, 0..TASKS), 0..80),
        steps in prop::collection::vec((0..TASKS, 0..12_u8), 0..400),
    ) {
        let mut cluster = Cluster::default();
        let (mut clock, mut plain, mut combined) = (0, Sums::new(), Sums::new());
        let add = |sums: &mut Sums, key: (i64, String), value: u32| {
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + 1, sum.1 + f64::from(value));
        };
        // Far enough behind the last that the watermark passes every window.
        let last = (0..TASKS).map(|partition| (1_000, 9, 0, partition));
        for (step, colour, value, partition) in events.into_iter().chain(last) {
            // Up to 3 out of order.
            clock += step;
            let at = clock - i64::from(value % 4);
            let event = serde_json::to_vec(&(at, colour, value)).unwrap();
            cluster.logs.entry(("events", partition)).or_default().push((None, event));
            let start = at - at.rem_euclid(SIZE);
            if colour < 9 {
                add(&mut plain, (start, format!("colour-{colour}")), value);
                add(&mut combined, (start, "all".to_owned()), value);
            }
        }
        for partition in 0..TASKS {
            cluster.start(partition);
        }
        for (partition, step) in steps {
            match step {
                0..=2 => { cluster.read(partition, 0); }
                3..=5 => { cluster.read(partition, 1); }
                6..=8 => { cluster.read(partition, 2); }
                9 => cluster.tick(partition, 100),
                10 => cluster.commit(partition),
                // Killed: what was not committed has not happened.
                _ => cluster.start(partition),
            }
        }
        for _ in 0..3 {
            for partition in 0..TASKS {
                for source in 0..APP.sources.len() {
                    while cluster.read(partition, source) {}
                }
                cluster.tick(partition, 1_000);
                cluster.commit(partition);
            }
        }
        prop_assert_eq!(cluster.results("plain"), plain);
        prop_assert_eq!(cluster.results("combined"), combined);
        for task in cluster.tasks.values() {
            for job in task.jobs() {
                prop_assert!(job.stats.balances(job.pending) && job.stats.violations == 0, "{:?}", job.stats);
            }
        }
    }
}

impl Cluster {
    /// An event of value 1.
    fn event(&mut self, partition: i32, at: i64) {
        self.logs.entry(("events", partition)).or_default().push((None, format!("[{at},0,1]").into_bytes()));
    }

    /// Tasks read everything there is, twice each, `ms` pass, and they commit.
    fn settle(&mut self, tasks: impl IntoIterator<Item = i32, IntoIter: Clone>, ms: i64) {
        let tasks = tasks.into_iter();
        for partition in tasks.clone().chain(tasks) {
            while (0..3).any(|source| self.read(partition, source)) {}
            self.tick(partition, ms);
            self.commit(partition);
        }
    }

    /// All tasks are idle, and know that of each other.
    fn idle() -> Self {
        let mut cluster = Self::default();
        for partition in 0..TASKS {
            cluster.start(partition);
            cluster.tick(partition, 1);
            cluster.event(partition, 0);
        }
        cluster.settle(0..TASKS, 1);
        cluster.settle(0..TASKS, 61_000);
        cluster.settle(0..TASKS, 1);
        assert!(cluster.tasks.values().all(|task| task.is_idle()));
        cluster
    }
}

#[test]
fn a_task_that_is_idle_holds_nobody_up() {
    let mut cluster = Cluster::default();
    for partition in 0..TASKS {
        cluster.start(partition);
        cluster.tick(partition, 1);
    }
    cluster.event(1, 5);
    cluster.event(1, 100);
    cluster.settle(0..TASKS, 1_000);
    assert!(cluster.results("combined").is_empty(), "the others may still send");
    cluster.settle(0..TASKS, 61_000);
    cluster.settle(0..TASKS, 1);
    assert_eq!(cluster.results("combined")[&(0, "all".to_owned())], (1, 1.0));
}

#[test]
fn a_task_that_was_idle_is_waited_for_when_all_come_back_one_after_the_other() {
    for at_least_idle in [0, 1, 2] {
        let mut cluster = Cluster::idle();
        for partition in 0..TASKS {
            cluster.event(partition, 25);
        }
        // They are away, and these events come meanwhile. Two are back before the third.
        let back = (0..TASKS).filter(|partition| *partition != at_least_idle);
        back.clone().for_each(|partition| cluster.start(partition));
        back.clone().for_each(|partition| cluster.event(partition, 100));
        for _ in 0..3 {
            cluster.settle(back.clone(), 1_000);
        }
        let window = (20, "all".to_owned());
        assert_eq!(cluster.results("combined").get(&window), None, "the third may have records");
        cluster.start(at_least_idle);
        cluster.event(at_least_idle, 100);
        cluster.settle(0..TASKS, 1_000);
        cluster.settle(0..TASKS, 1_000);
        assert_eq!(cluster.results("combined").get(&window), Some(&(3, 3.0)));
    }
}

#[test]
fn tasks_that_are_still_idle_say_so_to_one_that_comes_back() {
    let mut cluster = Cluster::idle();
    cluster.event(1, 25);
    cluster.event(1, 100);
    // Task 2 takes the key of all records.
    for partition in [1, 2] {
        cluster.start(partition);
    }
    cluster.settle(0..TASKS, 1);
    cluster.settle(0..TASKS, 1_000);
    assert_eq!(cluster.results("combined").get(&(20, "all".to_owned())), Some(&(1, 1.0)));
}

#[test]
fn the_first_records_of_a_task_that_was_idle_are_committed_with_the_word_that_it_is_not() {
    let mut cluster = Cluster::idle();
    for partition in 0..TASKS {
        cluster.event(partition, 25);
        cluster.event(partition, 26);
    }
    // A part of its records, and then somebody else's watermark passes the rest.
    cluster.read(0, 0);
    cluster.commit(0);
    for partition in [1, 2] {
        cluster.event(partition, 100);
    }
    cluster.settle(1..TASKS, 1_000);
    cluster.settle(1..TASKS, 1_000);
    cluster.event(0, 100);
    cluster.settle(0..TASKS, 1_000);
    cluster.settle(0..TASKS, 1_000);
    assert_eq!(cluster.results("combined").get(&(20, "all".to_owned())), Some(&(6, 6.0)));
}

#[test]
fn what_others_write_to_the_topic_is_dead_and_counted() {
    let mut task = APP.task(0).unwrap();
    task.start();
    let mut effects = Effects::default();
    let alien: [&[u8]; 4] = [b"?", b"{}", br#"{"at":1,"record":[7]}"#, br#"{"from":77,"watermark":5}"#];
    for (offset, value) in alien.into_iter().enumerate() {
        let record = Record { source: 1, offset: offset as i64, key: None, value: Some(value) };
        task.step(Input::Record(record), &mut effects).unwrap();
    }
    let dead = effects.iter().filter(|effect| matches!(effect, Effect::Dead { .. })).count();
    // A marker of a task that there is not changes nothing.
    assert_eq!(
        (dead, task.jobs()[0].stats.violations, task.offsets()),
        (3, 3, vec![("plain.repartition", 4)])
    );
    assert!(Message::read(br#"{"from":1}"#).is_ok(), "a task that has not seen anything");
}
