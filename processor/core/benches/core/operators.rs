//! Records per second of an operator with its source and sink. One function each.

use divan::Bencher;
use millrace_core::EventTime;
use millrace_core::aggregate::{Avg, Count, DistinctCount, Max, Quantiles, StdDev};
use millrace_core::anomaly::{Detector, Ewma, Mad, Seasonal};
use millrace_core::params::NoParams;
use millrace_core::stream::job;
use millrace_core::window::WindowSpec;

use crate::driver::{Event, KEYS, Reading, Sensor, round_ms, rounds};

fn value(reading: &Reading) -> f64 {
    reading.value
}

/// One in four readings is mapped and written as JSON.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 20)]
fn filter_map(bencher: Bencher<'_, '_>, keys: usize) {
    let job = job::<Event, NoParams>("hot", "Readings above a limit, in °F.")
        .source(Event::reading)
        .filter(|reading, _| reading.value > 27.2)
        .map(|reading, at, _| (at.0, reading.value * 1.8 + 32.0))
        .to(|_| ("hot", "all"));
    rounds(bencher, keys, job);
}

/// Every reading is looked up; one in four is written as JSON.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 20)]
fn enrich(bencher: Bencher<'_, '_>, keys: usize) {
    let job = job::<Event, NoParams>("sites", "Readings above the limit of their sensor.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .enrich::<_, Sensor, _>(|event: &Event| match event {
            Event::Sensor(name, sensor) => Some((&**name, Some(sensor))),
            Event::Reading(_) => None,
        })
        .filter(|enriched, _| {
            enriched.reference.as_ref().is_some_and(|sensor| enriched.record.value > sensor.limit + 2.2)
        })
        .map(|enriched, _, _| enriched.record.value)
        .to(|_| ("sites", ""));
    rounds(bencher, keys, job);
}

/// Each round fills, fires and forgets one window for every key.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 10)]
fn tumbling_window(bencher: Bencher<'_, '_>, keys: usize) {
    let size = round_ms(keys);
    let job = job::<Event, NoParams>("windows", "Readings of a round.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .window(move |_| WindowSpec::tumbling(size))
        .aggregate((Count, Avg(value), Max(value), StdDev::sample(value)))
        .map(|result, _, _| (result.window.start, result.value))
        .to(|_| ("windows", ""));
    rounds(bencher, keys, job);
}

/// The same with the sketches.
#[divan::bench(args = [1, 10_000], sample_size = 1, sample_count = 10)]
fn tumbling_window_of_sketches(bencher: Bencher<'_, '_>, keys: usize) {
    let size = round_ms(keys);
    let (Ok(quantiles), Ok(distinct)) = (
        Quantiles::new(value, 0.01, &[0.5, 0.99]),
        DistinctCount::new(12, |reading: &Reading| reading.sensor.as_bytes()),
    ) else {
        return;
    };
    let job = job::<Event, NoParams>("sketches", "Readings of a round.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .window(move |_| WindowSpec::tumbling(size))
        .aggregate((quantiles, distinct))
        .map(|result, _, _| (result.window.start, result.value.1))
        .to(|_| ("sketches", ""));
    rounds(bencher, keys, job);
}

/// A detector alone, of one key.
fn detector<D: Detector>(bencher: Bencher<'_, '_>, detector: &D) {
    let mut state = D::State::default();
    let mut at = 0;
    bencher.counter(divan::counter::ItemsCount::new(1_u32)).bench_local(|| {
        at += 1_000;
        let value = 20.0 + f64::from(u8::try_from(at / 1_000 % 97).unwrap_or(0)) / 10.0;
        detector.observe(&mut state, divan::black_box(value), EventTime(at))
    });
}

/// One value.
#[divan::bench]
fn detector_ewma(bencher: Bencher<'_, '_>) {
    detector::<Ewma>(bencher, &Ewma::default());
}

/// One value, at a sample of so many.
#[divan::bench(args = [60, 1_000])]
fn detector_mad(bencher: Bencher<'_, '_>, size: usize) {
    detector::<Mad>(bencher, &Mad { size, ..Mad::default() });
}

/// One value.
#[divan::bench]
fn detector_seasonal(bencher: Bencher<'_, '_>) {
    detector::<Seasonal>(bencher, &Seasonal::default());
}
