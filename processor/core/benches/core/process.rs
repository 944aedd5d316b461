//! Records per second of process functions and joins.

use divan::Bencher;
use millrace_core::EventTime;
use millrace_core::anomaly::{Detector, Ewma, EwmaState};
use millrace_core::join::{Interval, JoinType, JoinWindows};
use millrace_core::params::NoParams;
use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
use millrace_core::stream::job;
use millrace_core::time::TimeDomain;

use crate::driver::{Event, KEYS, Reading, round_ms, rounds};

/// A detector with the state of each key.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 10)]
fn anomalies(bencher: Bencher<'_, '_>, keys: usize) {
    let job = job::<Event, NoParams>("anomalies", "Readings that are not what was expected.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .map_with_state(|reading, state: &mut Current<EwmaState>, at, _| {
            Ewma::default().observe(state, reading.value, at).ok().filter(|score| score.anomalous)
        })
        .to(|_| ("anomalies", ""));
    rounds(bencher, keys, job);
}

/// Every record replaces the timer of its key; none ever fires.
struct Silence(i64);

impl<P> ProcessFunction<P, Reading> for Silence {
    type State = Option<i64>;
    type Out = i64;

    fn record(
        &mut self,
        _: &Reading,
        at: EventTime,
        deadline: &mut Current<Option<i64>>,
        ctx: &mut ProcessContext<'_, '_, P, i64>,
    ) {
        if let Some(old) = deadline.replace(at.0 + self.0) {
            ctx.delete_timer(TimeDomain::Event, old);
        }
        ctx.register_timer(TimeDomain::Event, at.0 + self.0);
    }

    fn timer(
        &mut self,
        timer: Timer,
        deadline: &mut Current<Option<i64>>,
        ctx: &mut ProcessContext<'_, '_, P, i64>,
    ) {
        **deadline = None;
        ctx.collect(timer.time);
    }
}

/// State and a timer of each key.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 10)]
fn timers(bencher: Bencher<'_, '_>, keys: usize) {
    let job = job::<Event, NoParams>("silent", "Sensors that are silent.")
        .source(Event::reading)
        .key_by(|reading| &reading.sensor)
        .process(Silence(2 * round_ms(keys)))
        .to(|_| ("silent", ""));
    rounds(bencher, keys, job);
}

/// Each record is held, on one side, until the next two of its key are past.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 5)]
fn interval_join(bencher: Bencher<'_, '_>, keys: usize) {
    let near = i64::try_from(keys).unwrap_or(i64::MAX);
    let Ok(interval) = Interval::new(-near, near) else { return };
    let side = || job::<Event, NoParams>("pairs", "Low readings with high ones.").source(Event::reading);
    let low = side().filter(|reading, _| reading.value < 24.8).key_by(|reading| &reading.sensor);
    let high = side().filter(|reading, _| reading.value >= 24.8).key_by(|reading| &reading.sensor);
    let job = low
        .interval_join(high, move |_| interval, JoinType::Inner)
        .map(|pair, _, _| (pair.left.as_ref().map(|l| l.value), pair.right.as_ref().map(|r| r.value)))
        .to(|_| ("pairs", ""));
    rounds(bencher, keys, job);
}

/// Tumbling windows in which each key has four records, of both sides.
#[divan::bench(args = KEYS, sample_size = 1, sample_count = 5)]
fn window_join(bencher: Bencher<'_, '_>, keys: usize) {
    let size = i64::try_from(4 * keys).unwrap_or(i64::MAX);
    let Ok(windows) = JoinWindows::tumbling(size) else { return };
    let side = || job::<Event, NoParams>("pairs", "Low readings with high ones.").source(Event::reading);
    let low = side().filter(|reading, _| reading.value < 24.8).key_by(|reading| &reading.sensor);
    let high = side().filter(|reading, _| reading.value >= 24.8).key_by(|reading| &reading.sensor);
    let job = low
        .window_join(high, windows, JoinType::Inner)
        .map(|pair, _, _| (pair.left.as_ref().map(|l| l.value), pair.right.as_ref().map(|r| r.value)))
        .to(|_| ("pairs", ""));
    rounds(bencher, keys, job);
}
