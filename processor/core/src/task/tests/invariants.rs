//! Each invariant, broken: it is counted by its name, and the count outlives a restart.

use super::*;
use crate::aggregate::Count;
use crate::cep::{Json, Pattern};
use crate::invariant::Violation;
use crate::join::{JoinType, JoinWindows};
use crate::params::NoParams;
use crate::state::{decode, encode};
use crate::stream::{Scope, Stream, job};
use crate::task::stored::Meta;
use crate::testing::Harness;
use crate::time::TimeDomain;
use crate::transform::Identity;
use crate::window::WindowSpec;

/// What a job has counted.
fn counted(stats: &Stats) -> Vec<(&'static str, u64)> {
    let counted: Vec<_> = stats.by_name.iter().filter(|(_, times)| *times > 0).collect();
    assert_eq!(stats.violations, counted.iter().map(|(_, times)| times).sum::<u64>());
    counted
}

fn windows(slide: i64) -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("windows", "")
        .source(|event: &Event| Some(event))
        .key_by(|_| "all")
        .window(move |_| WindowSpec::sliding(10, slide))
        .aggregate(Count)
        .map(|result, _, _| result.value)
        .to(|_| ("out", ""))
}

fn repartitioned() -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("windows", "").source(|event: &Event| Some(event)).repartition(
        "again",
        |_| "all",
        |again: Stream<Event, NoParams, Event, Identity>| again.to(|_| ("out", "")),
    )
}

fn joined() -> Box<dyn Job<Event>> {
    let side =
        || job::<Event, NoParams>("joined", "").source(|event: &Event| Some(event)).key_by(|_: &Event| "all");
    side().window_join(side(), JoinWindows::tumbling(10).unwrap(), JoinType::Inner).to(|_| ("out", ""))
}

fn searched(pattern: fn() -> Pattern) -> Box<dyn Job<Json>> {
    job::<Json, NoParams>("searched", "")
        .source(|event: &Json| Some(event))
        .key_by(|_| "all")
        .pattern(move |_| pattern(), TimeDomain::Event)
        .to(|_| ("out", ""))
}

/// The entries of each table of a job that has had one record at 5.
type Entries = Vec<Vec<(Vec<u8>, Vec<u8>)>>;

fn one_record<E: 'static>(job: impl Fn() -> Box<dyn Job<E>> + 'static, event: &E) -> Entries {
    let (mut test, mut tables) = (Harness::new(job), Entries::new());
    test.record(event, 5);
    test.job().tables(&mut |table| {
        let mut entries = Vec::new();
        table.snapshot(&mut |key, value| entries.push((key.to_vec(), value.unwrap().to_vec())));
        tables.push(entries);
    });
    tables
}

/// A job with that state, started at one watermark and taken to another.
fn restored<E>(mut job: Box<dyn Job<E>>, tables: &Entries, from: i64, to: i64) -> Stats {
    let mut tables = tables.iter();
    job.tables(&mut |table| {
        let entries = tables.next().unwrap();
        entries.iter().for_each(|(key, value)| table.load(key, Some(value)).unwrap());
    });
    let mut effects = Effects::default();
    let mut at = |watermark: i64, act: &mut dyn FnMut(&mut Scope<'_>)| {
        let (watermark, effects) = (Watermark(watermark), &mut effects);
        act(&mut Scope { now: 0, watermark, max_seen: None, origin: None, effects });
    };
    at(from, &mut |scope| job.start(scope));
    at(to, &mut |scope| job.watermark(scope));
    job.stats()
}

#[test]
fn the_watermark_never_falls_before_a_repartition_topic_and_behind_it() {
    let mut test = Harness::new(|| windows(10));
    test.watermark(10);
    assert_eq!(counted(&test.job().stats()), []);
    test.watermark(9);
    assert_eq!(counted(&test.job().stats()), [("watermark_fell", 1)]);
    test.restore();
    assert_eq!(counted(&test.job().stats()), [("watermark_fell", 1)]);

    let mut test = Harness::new(repartitioned);
    let mut effects = Effects::default();
    for (watermark, fallen) in [(10, 0), (10, 0), (9, 1)] {
        let (watermark, effects) = (Watermark(watermark), &mut effects);
        let mut scope = Scope { now: 0, watermark, max_seen: None, origin: None, effects };
        test.job().second_stage().unwrap().watermark(&mut scope);
        assert_eq!(test.job().stats().by_name.of(Violation::WatermarkFell), fallen);
    }
}

#[test]
fn a_window_gives_nothing_after_it_was_closed() {
    for slide in [5, 10] {
        let entries = one_record(move || windows(slide), &(5, None));
        assert_eq!(counted(&restored(windows(slide), &entries, 4, 50)), [], "{slide}");
        // The state is older than the watermark.
        let stats = restored(windows(slide), &entries, 40, 50);
        assert_eq!(stats.by_name.of(Violation::OutputForClosedWindow), stats.emitted, "{slide}");
    }
    let entries = one_record(|| windows(10), &(5, None));
    assert_eq!(counted(&restored(windows(10), &entries, 40, 50)), [("output_for_closed_window", 1)]);
}

#[test]
fn a_join_and_a_pattern_hold_nothing_for_a_time_that_is_over() {
    let of_join = one_record(joined, &(5, None));
    let pattern = || Pattern::begin("first").followed_by("second").within(10);
    let of_pattern = one_record(move || searched(pattern), &Json::default());
    for (from, expected) in [(4, vec![]), (40, vec![("state_left_behind", 1)])] {
        assert_eq!(counted(&restored(joined(), &of_join, from, 50)), expected, "join from {from}");
        assert_eq!(
            counted(&restored(searched(pattern), &of_pattern, from, 50)),
            expected,
            "pattern from {from}"
        );
    }
}

#[test]
fn a_slice_belongs_to_a_specification() {
    let mut entries = one_record(|| windows(5), &(5, None));
    for (key, _) in entries[0].iter_mut().filter(|(key, _)| key[1] == 2) {
        key[2] = 7;
    }
    let stats = restored(windows(5), &entries, 4, 50);
    assert!(stats.by_name.of(Violation::TimerWithoutWindow) > 0, "{stats:?}");
}

#[test]
fn a_pattern_in_force_can_be_compiled() {
    let mut test = Harness::new(|| searched(|| Pattern::begin("first").not_followed_by("never")));
    assert_eq!(counted(&test.job().stats()), [("invalid_pattern", 1)]);
}

const APP: App<Event> = App {
    sources: &[
        Source { topic: "a", kind: SourceKind::Stream(Order::bounded(3, None)) },
        Source { topic: "again", kind: SourceKind::Repartition },
    ],
    jobs: || vec![repartitioned()],
    ..ORDERED
};

#[test]
fn what_can_not_be_read_in_a_repartition_topic_is_dead_and_the_count_outlives_a_restart() {
    let (mut running, mut state, mut effects) =
        (task(APP, &State::default()), State::default(), Effects::default());
    running.step(record(1, 0, "?"), &mut effects).unwrap();
    running.step(record(1, 1, r#"{"at": 1, "record": [1, 2]}"#), &mut effects).unwrap();
    let seen = |task: &dyn Task| {
        let stats = task.jobs().first().unwrap().stats;
        assert!(stats.balances(0), "{stats:?}");
        (stats.records, stats.dead, stats.done, counted(&stats))
    };
    let expected = (2, 1, 1, vec![("foreign_record", 1)]);
    assert_eq!(seen(&*running), expected);
    commit(&mut *running, &mut state);
    assert_eq!(seen(&*task(APP, &state)), expected);
    // Its own entry may be read before and after the others.
    let mut other = APP.task(0).unwrap();
    for (key, value) in state.iter().rev() {
        assert!(other.load(key, Some(value)).unwrap());
    }
    other.start();
    assert_eq!(seen(&*other), expected);
}

#[test]
fn every_record_is_in_one_place() {
    let (mut running, mut state) = (task(APP, &State::default()), State::default());
    running.step(record(0, 0, "[1, null]"), &mut Effects::default()).unwrap();
    commit(&mut *running, &mut state);
    assert_eq!(counted(&running.jobs().first().unwrap().stats), []);
    let mut own = Vec::new();
    encode(&("", 0_u16, &[] as &[u8]), &mut own);
    let mut meta: Meta = decode(&state[&own]).unwrap();
    meta.jobs[0].stats.records += 1;
    let mut lost = Vec::new();
    encode(&meta, &mut lost);
    state.insert(own, lost);
    let mut running = task(APP, &state);
    running.step(record(0, 1, "[2, null]"), &mut Effects::default()).unwrap();
    commit(&mut *running, &mut state);
    assert_eq!(counted(&running.jobs().first().unwrap().stats), [("records_do_not_balance", 1)]);
}
