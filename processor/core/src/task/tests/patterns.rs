//! The patterns of an app at work, wherever they stand in their jobs.

use super::*;
use crate::cep::{Counts, Json, Limits, Pattern, field};
use crate::join::{Interval, JoinType, JoinWindows};
use crate::params::NoParams;
use crate::stream::{Stream, job};
use crate::time::TimeDomain;
use crate::transform::Identity;

/// `first` is 1, and then something that never comes.
fn found<E: 'static, Op: crate::stream::Operator<NoParams, E, Out = Json>>(
    name: &'static str,
    stream: Stream<E, NoParams, Json, Op>,
) -> Stream<E, NoParams, i64, impl crate::stream::Operator<NoParams, E, Out = i64>> {
    let limits = Limits { partial_matches: 2, ..Limits::default() };
    let pattern = move |_: &NoParams| {
        Pattern::begin(name)
            .where_(field("first").eq(1.0))
            .followed_by("never")
            .where_(field("first").gt(1e9))
    };
    stream.key_by(|_| "all").pattern_within(pattern, TimeDomain::Processing, limits).map(|_, at, _| at.0)
}

fn source() -> Stream<Json, NoParams, Json, impl crate::stream::Operator<NoParams, Json, Out = Json>> {
    job::<Json, NoParams>("joined", "").source(|event: &Json| Some(event))
}

fn branches() -> Box<dyn Job<Json>> {
    let other = found("other", job::<Json, NoParams>("branches", "").source(|event: &Json| Some(event)));
    job::<Json, NoParams>("branches", "")
        .source(|event: &Json| Some(event))
        .split(
            |_, _| true,
            |yes: Stream<Json, NoParams, Json, Identity>| found("yes", yes),
            |no: Stream<Json, NoParams, Json, Identity>| found("no", no),
        )
        .union(other)
        .to(|_| ("out", ""))
}

fn joined() -> Box<dyn Job<Json>> {
    found("left", source())
        .key_by(|_| "all")
        .interval_join(
            found("right", source()).key_by(|_| "all"),
            |_| Interval::new(0, 1).unwrap(),
            JoinType::Inner,
        )
        .map(|_, _, _| 0_i64)
        .key_by(|_| "all")
        .window_join(
            found("window", source()).key_by(|_| "all"),
            JoinWindows::tumbling(10).unwrap(),
            JoinType::Inner,
        )
        .map(|_, _, _| Json::default())
        .repartition("again", |_| "all", |again| found("again", again).to(|_| ("out", "")))
}

const APP: App<Json> = App {
    name: "patterns",
    sources: &[
        Source { topic: "events", kind: SourceKind::Stream(Order::bounded(0, None)) },
        Source { topic: "again", kind: SourceKind::Repartition },
    ],
    partitions: 1,
    parse: |record| {
        let event = serde_json::from_slice(record.value.unwrap_or_default()).map_err(|e| e.to_string())?;
        Ok(Parsed::new(event, EventTime(record.offset)))
    },
    jobs: || vec![branches(), joined()],
};

/// Job, first stage, partial matches there, dropped ones.
fn seen(task: &dyn Task) -> Vec<(&'static str, String, u64, u64)> {
    let mut seen = Vec::new();
    task.patterns(&mut |job, pattern| {
        let graph = pattern.graph().unwrap();
        assert_eq!((graph.states.len(), graph.transitions.len(), pattern.live.len()), (3, 2, 3));
        let Counts { dropped, refused: 0, replaced: 0 } = pattern.counts else {
            panic!("{:?}", pattern.counts)
        };
        seen.push((job, graph.states[1].label.clone(), pattern.live[1], dropped));
    });
    seen
}

#[test]
fn every_pattern_of_every_job_shows_its_states_and_what_is_in_them() {
    let mut state = State::default();
    let mut running = task(APP, &state);
    let expected = |live, dropped| {
        let name = |job, stage: &str, (live, dropped)| (job, stage.to_owned(), live, dropped);
        vec![
            name("branches", "yes", (live, dropped)),
            name("branches", "no", (0, 0)),
            name("branches", "other", (live, dropped)),
            name("joined", "left", (live, dropped)),
            name("joined", "right", (live, dropped)),
            name("joined", "window", (live, dropped)),
            name("joined", "again", (0, 0)),
        ]
    };
    assert_eq!(seen(&*running), expected(0, 0));
    let mut effects = Effects::default();
    for offset in 0..3 {
        running.step(record(0, offset, r#"{"first": 1}"#), &mut effects).unwrap();
    }
    assert_eq!(seen(&*running), expected(2, 1));
    commit(&mut *running, &mut state);
    assert_eq!(seen(&*task(APP, &state)), expected(2, 1));
}
