//! A task that is restored goes on as if nothing had been: also with partitions that were silent, and with marks.

use proptest::prelude::*;

use super::*;
use crate::aggregate::Count;
use crate::params::NoParams;
use crate::process::{Current, ProcessContext, ProcessFunction, Timer};
use crate::stream::job;
use crate::time::TimeDomain;
use crate::window::WindowSpec;

/// Counts records, and says how many there have been 5 ms of event time and 7 ms of processing time behind one.
struct Counting;

impl ProcessFunction<NoParams, Event> for Counting {
    type State = u32;
    type Out = (TimeDomain, i64, u32);

    fn record(
        &mut self,
        _: &Event,
        at: EventTime,
        count: &mut Current<u32>,
        ctx: &mut ProcessContext<'_, '_, NoParams, Self::Out>,
    ) {
        **count += 1;
        ctx.register_timer(TimeDomain::Event, at.0 + 5);
        ctx.register_timer(TimeDomain::Processing, ctx.now() + 7);
    }

    fn timer(
        &mut self,
        timer: Timer,
        count: &mut Current<u32>,
        ctx: &mut ProcessContext<'_, '_, NoParams, Self::Out>,
    ) {
        ctx.collect((timer.domain, timer.time, **count));
    }
}

fn windows() -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("windows", "")
        .source(|event: &Event| Some(event))
        .key_by(|_| "all")
        .window(|_| WindowSpec::tumbling(10))
        .aggregate(Count)
        .map(|result, _, _| (result.window.start, result.value))
        .to(|_| ("windows", ""))
}

fn counting() -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("counting", "")
        .source(|event: &Event| Some(event))
        .key_by(|_| "all")
        .process(Counting)
        .to(|_| ("counting", ""))
}

const APP: App<Event> = App { jobs: || vec![windows(), counting()], ..ORDERED };

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Source, ms after the record before, whether it is marked.
    Record(usize, i64, bool),
    /// So many ms of processing time.
    Tick(i64),
}

/// Everything that is seen from outside. Where it is marked, the task is replaced by one that has only its state, if
/// `restored`; the clock is what a task is told first, and the other is told so too.
fn run(steps: &[(Step, bool)], restored: bool) -> Vec<String> {
    let (mut running, mut state) = (task(APP, &State::default()), State::default());
    let (mut seen, mut offsets, mut at, mut now) = (Vec::new(), [0, 0], 0, 0);
    for (step, replace) in steps {
        let mut effects = Effects::default();
        match *step {
            Step::Record(source, after, marked) => {
                at += after;
                let mark = marked.then_some(at - 2);
                let value = serde_json::to_string(&(at, mark)).unwrap();
                running.step(record(source, offsets[source], &value), &mut effects).unwrap();
                offsets[source] += 1;
            }
            Step::Tick(ms) => {
                now += ms;
                running.step(Input::ProcessingTime(now), &mut effects).unwrap();
            }
        }
        if *replace {
            commit(&mut *running, &mut state);
            if restored {
                running = task(APP, &state);
            }
            running.step(Input::ProcessingTime(now), &mut effects).unwrap();
        }
        seen.extend(told(&effects));
        seen.push(format!("{:?} {:?} {:?}", running.watermark(), running.offsets(), running.jobs()));
        for job in running.jobs() {
            assert!(job.stats.balances(job.pending) && job.stats.violations == 0, "{:?}", job.stats);
        }
    }
    seen
}

fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let step = prop_oneof![
        3 => (0..2_usize, -3..8_i64, any::<bool>()).prop_map(|(s, after, mark)| Step::Record(s, after, mark)),
        2 => (0..12_i64).prop_map(Step::Tick),
    ];
    prop::collection::vec((step, any::<bool>()), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_split_into_restore_points_gives_the_same(steps in steps()) {
        prop_assert_eq!(run(&steps, false), run(&steps, true));
    }
}

/// Up to a record of both streams, and the first silent for too long.
fn idle() -> State {
    let (mut running, mut state, mut effects) =
        (task(APP, &State::default()), State::default(), Effects::default());
    running.step(record(0, 0, "[5, null]"), &mut effects).unwrap();
    for now in [0, 11] {
        running.step(record(1, now, "[20, 20]"), &mut effects).unwrap();
        running.step(Input::ProcessingTime(now), &mut effects).unwrap();
    }
    assert_eq!(running.watermark(), Watermark(20), "the first is not waited for");
    commit(&mut *running, &mut state);
    state
}

#[test]
fn a_silent_partition_is_not_waited_for_after_a_restore_either() {
    let mut state = idle();
    let risen = |state: &State| {
        let (mut running, mut effects) = (task(APP, state), Effects::default());
        // A night later: the time in between is no silence of the second.
        running.step(Input::ProcessingTime(40_000_000), &mut effects).unwrap();
        running.step(record(1, 12, "[30, 30]"), &mut effects).unwrap();
        assert!(!running.is_idle());
        running.watermark()
    };
    assert_eq!(risen(&state), Watermark(30));
    // An older build has not written that entry: every partition that has had a record is waited for.
    let mut silences = Vec::new();
    crate::state::encode(&("", 3_u16, &[] as &[u8]), &mut silences);
    state.remove(&silences).unwrap();
    assert_eq!(risen(&state), Watermark(20));
}

#[test]
fn old_bytes_still_load() {
    // Written by version 1. These lines never change: what is new has its own entry, and adds lines.
    let own = |table: u8| vec![1, 0, table, 0];
    let meta = vec![1, 2, 1, b'a', 1, 2, 1, 10, 1, b'b', 1, 24, 1, 40, 1, 40, 3, 27, 0, 0];
    let standings = vec![1, 2, 1, b'a', 0, 1, 22, 1, b'b', 1, 40, 1, 0];
    let mut state = State::from([(own(0), meta)]);
    let plain = task(APP, &state);
    assert_eq!((plain.offsets(), plain.watermark()), (vec![("a", 1), ("b", 12)], Watermark(20)));
    state.insert(own(3), standings);
    let mut written = State::default();
    task(APP, &state).snapshot(&mut |key, value| {
        written.insert(key.to_vec(), value.unwrap().to_vec());
    });
    assert_eq!(written.get(&own(3)), state.get(&own(3)));
}
