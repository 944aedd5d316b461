//! Bytes per second of state that is written at a commit, written whole, and read back: one open window a key.

use std::cell::RefCell;

use divan::Bencher;
use divan::counter::BytesCount;
use millrace_core::aggregate::{Avg, Count, Max, StdDev};
use millrace_core::params::NoParams;
use millrace_core::stream::{Job, job};
use millrace_core::window::WindowSpec;

use crate::driver::{Driver, Event, KEYS, Reading};

fn windows() -> Box<dyn Job<Event>> {
    let value = |reading: &Reading| reading.value;
    job::<Event, NoParams>("windows", "Readings that no window closes.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .window(|_| WindowSpec::tumbling(i64::MAX / 2))
        .aggregate((Count, Avg(value), Max(value), StdDev::sample(value)))
        .map(|result, _, _| result.value)
        .to(|_| ("windows", ""))
}

/// Changes of every key.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 10)]
fn commit(bencher: Bencher<'_, '_>, keys: usize) {
    let mut driver = Driver::new(windows(), keys);
    driver.round();
    let bytes = driver.commit();
    let driver = RefCell::new(driver);
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| driver.borrow_mut().round())
        .bench_local_values(|()| driver.borrow_mut().commit());
}

/// Every entry.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 20)]
fn snapshot(bencher: Bencher<'_, '_>, keys: usize) {
    let mut driver = Driver::new(windows(), keys);
    driver.round();
    let bytes = driver.snapshot();
    bencher.counter(BytesCount::new(bytes)).bench_local(move || driver.snapshot());
}

/// Every entry into an empty job, and the start with its timers.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 10)]
fn restore(bencher: Bencher<'_, '_>, keys: usize) {
    let mut driver = Driver::new(windows(), keys);
    driver.round();
    let bytes = driver.snapshot();
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    driver.job().tables(&mut |table| {
        table.snapshot(&mut |key, value| entries.push((key.to_vec(), value.unwrap_or_default().to_vec())));
    });
    bencher.counter(BytesCount::new(bytes)).with_inputs(|| Driver::empty(windows())).bench_values(
        |mut driver| {
            driver.job().tables(&mut |table| {
                for (key, value) in &entries {
                    assert!(table.load(key, Some(value)).is_ok());
                }
            });
            driver.start();
            driver
        },
    );
}
