//! Records per second of sliding windows and sessions.

use divan::Bencher;
use millrace_core::aggregate::{Avg, Count};
use millrace_core::params::NoParams;
use millrace_core::stream::job;
use millrace_core::window::WindowSpec;

use crate::driver::{Event, KEYS, Reading, many_rounds, round_ms, rounds, rounds_apart};

fn value(reading: &Reading) -> f64 {
    reading.value
}

/// What overlap costs, by (keys, windows that a record is in; 1 is tumbling). From one result to the next come 8 rounds: 52
/// records of each of 10 000 keys. With a million keys it is one round, a record of each.
#[divan::bench(
    args = [(1, 1), (1, 5), (1, 60), (10_000, 1), (10_000, 5), (10_000, 60), (1_000_000, 1), (1_000_000, 5), (1_000_000, 60)],
    sample_size = 1, sample_count = 5
)]
fn overlap(bencher: Bencher<'_, '_>, by: (usize, u16)) {
    let (keys, overlap) = by;
    let rounds: u16 = if keys > 10_000 { 1 } else { 8 };
    let slide = round_ms(keys) * i64::from(rounds);
    let size = slide * i64::from(overlap);
    let job = job::<Event, NoParams>("overlap", "Readings of overlapping windows.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .window(move |_| WindowSpec::sliding(size, slide))
        .aggregate((Count, Avg(value)))
        .map(|result, _, _| (result.window.start, result.value))
        .to(|_| ("overlap", ""));
    many_rounds(bencher, keys, rounds.into(), usize::from(overlap * rounds), job);
}

/// Each record is in four windows; each round fires four for every key.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 5)]
fn sliding_window(bencher: Bencher<'_, '_>, keys: usize) {
    let (size, slide) = (round_ms(keys), round_ms(keys) / 4);
    let job = job::<Event, NoParams>("sliding", "Readings of a round, every quarter of it.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .window(move |_| WindowSpec::sliding(size, slide))
        .aggregate((Count, Avg(value)))
        .map(|result, _, _| (result.window.start, result.value))
        .to(|_| ("sliding", ""));
    rounds(bencher, keys, job);
}

/// Each round is one session of every key, ended by the pause before the next.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 5)]
fn session_window(bencher: Bencher<'_, '_>, keys: usize) {
    let gap = round_ms(keys);
    let job = job::<Event, NoParams>("sessions", "Readings until a pause.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .window(move |_| WindowSpec::session(gap))
        .aggregate((Count, Avg(value)))
        .map(|result, _, _| (result.window.start, result.value))
        .to(|_| ("sessions", ""));
    rounds_apart(bencher, keys, 2 * gap, job);
}
