//! Drives a job with typed events from memory, the way a task does: a record, then the watermark that follows from it.

use std::cell::RefCell;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use millrace_core::stream::{Job, Origin, Scope};
use millrace_core::{Effects, EventTime, Watermark};
use serde::{Deserialize, Serialize};

/// Keys of the state.
pub const KEYS: [usize; 3] = [1, 10_000, 1_000_000];
/// The watermark follows the newest record by so much, ms.
const BEHIND: i64 = 1_000;
/// Effects are handed over and cleared after so many records.
const POLL: usize = 500;

/// What the jobs read.
pub enum Event {
    /// Of the stream.
    Reading(Reading),
    /// Of the reference topic.
    Sensor(Arc<str>, Sensor),
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Whose.
    pub sensor: Arc<str>,
    /// In °C.
    pub value: f64,
}

/// Reference data of a sensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sensor {
    /// Where it is.
    pub site: String,
    /// Its limit.
    pub limit: f64,
}

impl Event {
    /// For `source`.
    pub fn reading(&self) -> Option<&Reading> {
        match self {
            Self::Reading(reading) => Some(reading),
            Self::Sensor(..) => None,
        }
    }
}

/// A job and its events. A round is each event once, 1 ms apart: at least one for each key.
pub struct Driver {
    job: Box<dyn Job<Event>>,
    readings: Vec<Event>,
    effects: Effects,
    clock: i64,
    /// Before each round, ms.
    pause: i64,
}

/// Records of a round: at least 65 536.
pub fn round(keys: usize) -> usize {
    keys.max(1 << 16)
}

/// The same in ms of event time, for windows that each see a round.
pub fn round_ms(keys: usize) -> i64 {
    i64::try_from(round(keys)).unwrap_or(i64::MAX)
}

impl Driver {
    /// Makes the events and gives the job its reference data.
    pub fn new(job: Box<dyn Job<Event>>, keys: usize) -> Self {
        let names: Vec<Arc<str>> = (0..keys).map(|key| Arc::from(format!("sensor-{key:07}"))).collect();
        // A prime step, so that the keys do not come in the order in which they lie in memory.
        let scattered = (0..round(keys)).filter_map(|i| names.get(i.wrapping_mul(7_919) % keys));
        let value = |i: u32| 20.0 + f64::from(i % 97) / 10.0;
        let readings =
            scattered.zip(0..).map(|(sensor, i)| Reading { sensor: sensor.clone(), value: value(i) });
        let sensor = |name: &Arc<str>| Sensor { site: format!("site of {name}"), limit: 25.0 };
        let mut driver = Self { readings: readings.map(Event::Reading).collect(), ..Self::empty(job) };
        driver.start();
        for name in &names {
            driver.job.reference(&Event::Sensor(name.clone(), sensor(name)));
        }
        driver
    }

    /// Without events and not started.
    pub fn empty(job: Box<dyn Job<Event>>) -> Self {
        Self { job, readings: Vec::new(), effects: Effects::default(), clock: 0, pause: 0 }
    }

    /// The state is loaded.
    pub fn start(&mut self) {
        let mut scope = scope(self.clock, None, &mut self.effects);
        self.job.start(&mut scope);
    }

    /// A round.
    pub fn round(&mut self) {
        self.clock += self.pause;
        for (i, event) in self.readings.iter().enumerate() {
            self.clock += 1;
            let origin = Some(Origin { topic: "readings", partition: 0, offset: self.clock });
            self.job.record(
                event,
                EventTime(self.clock),
                &mut scope(self.clock - 1, origin, &mut self.effects),
            );
            self.job.watermark(&mut scope(self.clock, None, &mut self.effects));
            if i % POLL == 0 {
                divan::black_box(&self.effects);
                self.effects.clear();
            }
        }
        self.effects.clear();
    }

    /// What a commit takes: every change. Returns its bytes.
    pub fn commit(&mut self) -> usize {
        let mut bytes = 0;
        self.job.tables(&mut |table| {
            table.changes(&mut |key, value| {
                bytes += divan::black_box(key).len() + divan::black_box(value).map_or(0, <[u8]>::len);
            });
        });
        bytes
    }

    /// What a snapshot takes: every entry. Returns its bytes.
    pub fn snapshot(&mut self) -> usize {
        let mut bytes = 0;
        self.job.tables(&mut |table| {
            table.snapshot(&mut |key, value| {
                bytes += divan::black_box(key).len() + divan::black_box(value).map_or(0, <[u8]>::len);
            });
        });
        bytes
    }

    /// The job.
    pub fn job(&mut self) -> &mut dyn Job<Event> {
        &mut *self.job
    }
}

fn scope(clock: i64, origin: Option<Origin>, effects: &mut Effects) -> Scope<'_> {
    Scope { now: clock, watermark: Watermark(clock - BEHIND), max_seen: Some(clock), origin, effects }
}

/// Measures rounds of a job in its steady state; the commits between them are not measured.
pub fn rounds(bencher: Bencher<'_, '_>, keys: usize, job: Box<dyn Job<Event>>) {
    measure(bencher, keys, 1, 1, Driver::new(job, keys));
}

/// The same with a pause before each round, ms of event time.
pub fn rounds_apart(bencher: Bencher<'_, '_>, keys: usize, pause: i64, job: Box<dyn Job<Event>>) {
    measure(bencher, keys, 1, 1, Driver { pause, ..Driver::new(job, keys) });
}

/// Measures so many rounds at once, after so many others.
pub fn many_rounds(
    bencher: Bencher<'_, '_>,
    keys: usize,
    rounds: usize,
    before: usize,
    job: Box<dyn Job<Event>>,
) {
    measure(bencher, keys, rounds, before, Driver::new(job, keys));
}

fn measure(bencher: Bencher<'_, '_>, keys: usize, rounds: usize, before: usize, driver: Driver) {
    let driver = RefCell::new(driver);
    for _ in 0..before {
        driver.borrow_mut().round();
        driver.borrow_mut().commit();
    }
    bencher
        .counter(ItemsCount::new(round(keys) * rounds))
        .with_inputs(|| driver.borrow_mut().commit())
        .bench_local_values(|_| (0..rounds).for_each(|_| driver.borrow_mut().round()));
}
