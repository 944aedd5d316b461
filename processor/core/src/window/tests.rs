//! What jobs with windows do, by example: the rest of the definition is in the conformance cases.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Aggregate, Trigger, WindowSpec};
use crate::params::NoParams;
use crate::stream::{Job, job};
use crate::testing::Harness;
use crate::time::EventTime;
use crate::time::TimeDomain;

type Event = (String, i64);

struct Count;

impl Aggregate<Event> for Count {
    type Acc = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }

    fn add(&self, acc: &mut u64, _: &Event, _: EventTime) {
        *acc += 1;
    }

    fn merge(&self, acc: &mut u64, other: &u64) {
        *acc += other;
    }

    fn result(&self, acc: &u64) -> u64 {
        *acc
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default)]
struct Live {
    #[garde(skip)]
    size: i64,
    #[garde(skip)]
    slide: i64,
    #[garde(skip)]
    gap: i64,
}

/// Tumbling by 10 or `size`, sliding by `slide`, or sessions.
fn live() -> Box<dyn Job<Event>> {
    job::<Event, Live>("live", "Counts.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.0)
        .window(|live| match (live.slide, live.gap) {
            (0, 0) => WindowSpec::tumbling(if live.size == 0 { 10 } else { live.size }),
            (0, gap) => WindowSpec::session(gap),
            (slide, _) => WindowSpec::sliding(20, slide),
        })
        .aggregate(Count)
        .map(|r, _, _| (r.window.start, r.window.end, r.value))
        .to(|_| ("out", ""))
}

fn windows(test: &mut Harness<Event>) -> Vec<Value> {
    test.emitted("out")
}

fn event() -> Event {
    ("k".to_owned(), 1)
}

#[test]
fn tumbling_windows_become_sliding_ones_and_then_sessions() {
    let mut test = Harness::new(live);
    test.record(&event(), 13);
    test.params(1, &json!({"slide": 5})).unwrap();
    test.restore();
    test.record(&event(), 14); // before the border at 15: the open window only
    test.record(&event(), 16); // [10, 20), and [15, 35)
    test.record(&event(), 22); // [15, 35), [20, 40)
    test.params(2, &json!({"gap": 4})).unwrap();
    test.restore();
    test.record(&event(), 23); // the sliding windows that are open, and a session
    test.record(&event(), 26);
    test.watermark(100);
    assert_eq!(
        windows(&mut test),
        [json!([10, 20, 3]), json!([23, 30, 2]), json!([15, 35, 4]), json!([20, 40, 3])]
    );
    assert!(test.state_is_empty());
    let stats = test.job().stats();
    assert_eq!((stats.records, stats.done, stats.late), (6, 6, 0));
}

#[test]
fn a_change_of_the_gap_does_not_touch_open_sessions() {
    let mut test = Harness::new(live);
    test.params(1, &json!({"gap": 10})).unwrap();
    test.record(&event(), 100);
    test.params(2, &json!({"gap": 3})).unwrap();
    test.record(&event(), 95); // before the border at 101: still the old gap
    test.record(&event(), 102); // a session of its own
    test.record(&event(), 104);
    test.watermark(200);
    assert_eq!(windows(&mut test), [json!([102, 107, 2]), json!([95, 110, 2])]);
}

#[test]
fn a_gap_that_records_bring_follows_the_parameters_record_by_record() {
    let mut test = Harness::new(|| {
        job::<Event, Live>("live", "Counts.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .session_window(|event, live| event.1 * live.gap)
            .aggregate(Count)
            .map(|r, _, _| (r.window.start, r.window.end, r.value))
            .to(|_| ("out", ""))
    });
    test.params(1, &json!({"gap": 10})).unwrap();
    test.record(&event(), 100);
    test.record(&event(), 300);
    test.params(2, &json!({"gap": 3})).unwrap();
    test.restore();
    test.record(&event(), 105); // [105, 108) is within [100, 110), which it does not make shorter
    test.record(&event(), 309); // [309, 312) makes [300, 310) longer, by the new gap
    test.watermark(1_000);
    assert_eq!(windows(&mut test), [json!([100, 110, 2]), json!([300, 312, 2])]);
    assert!(test.state_is_empty());
}

#[test]
fn smaller_windows_give_their_first_result_between_one_and_two_sizes_after_the_latest_event() {
    const BOUND: i64 = 5_000;
    for latest in (300_000..=310_000).step_by(1_000) {
        let mut test = Harness::new(live);
        test.params(1, &json!({"size": 300_000})).unwrap();
        test.record(&event(), latest);
        test.params(2, &json!({"size": 10_000})).unwrap();
        // The event whose watermark brings the first result of a new window.
        let brings = (latest + 1_000..).step_by(1_000).find(|&at| {
            test.record(&event(), at);
            test.watermark(at - BOUND - 1);
            windows(&mut test)
                .iter()
                .any(|window| window[1].as_i64() == window[0].as_i64().map(|start| start + 10_000))
        });
        let after = brings.unwrap() - latest - BOUND;
        assert_eq!(after, 20_000 - latest % 10_000, "after {latest}");
    }
}

#[test]
fn sliding_windows_of_two_kinds_overlap_around_the_border() {
    let mut test = Harness::new(live);
    test.params(1, &json!({"slide": 5})).unwrap();
    test.record(&event(), 12);
    test.params(2, &json!({"slide": 10})).unwrap();
    test.record(&event(), 21);
    test.restore();
    test.watermark(1_000);
    // Old windows start at -5, 0, 5, 10 and, before the border at 20, at 15; the new one at 20.
    let expected: Vec<Value> = [(-5, 1), (0, 1), (5, 2), (10, 2), (15, 1), (20, 1)]
        .iter()
        .map(|(start, count)| json!([start, start + 20, count]))
        .collect();
    assert_eq!(windows(&mut test), expected);
    assert!(test.state_is_empty());
    test.watermark(2_000);
    assert!(test.job().stats().balances(0));
}

fn job_with(spec: WindowSpec, time: TimeDomain, trigger: Trigger, purging: bool) -> Box<dyn Job<Event>> {
    let windows = job::<Event, NoParams>("job", "Counts.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.0)
        .window(move |_| spec)
        .time(time)
        .trigger(trigger);
    let windows = if purging { windows.purging() } else { windows };
    windows.aggregate(Count).map(|r, _, _| (r.window.start, r.window.end, r.value)).to(|_| ("out", ""))
}

#[test]
fn a_record_of_a_sliding_window_is_held_once() {
    let mut test = Harness::new(|| {
        job_with(WindowSpec::sliding(60_000, 1_000), TimeDomain::Event, Trigger::EventTime, false)
    });
    for at in 0..1_000 {
        test.record(&event(), at * 60);
    }
    let mut entries = 0;
    test.job().tables(&mut |table| entries += table.len());
    assert_eq!((entries, test.job().pending()), (60, 1_000));
    test.watermark(59_999);
    assert_eq!(windows(&mut test).last(), Some(&json!([0, 60_000, 1_000])));
    test.watermark(118_999);
    assert_eq!(windows(&mut test).last(), Some(&json!([59_000, 119_000, 16])));
    assert!(test.state_is_empty());
}

#[test]
fn a_slide_that_does_not_divide_the_size_makes_two_slices() {
    let mut test =
        Harness::new(|| job_with(WindowSpec::sliding(12, 5), TimeDomain::Event, Trigger::EventTime, false));
    for at in 0..5 {
        test.record(&event(), at);
    }
    let mut entries = 0;
    test.job().tables(&mut |table| entries += table.len());
    assert_eq!(entries, 2, "[0, 2) and [2, 5)");
    test.watermark(100);
    assert_eq!(windows(&mut test), [json!([-10, 2, 2]), json!([-5, 7, 5]), json!([0, 12, 5])]);
}

#[test]
fn a_late_record_joins_two_sessions_that_have_not_been_forgotten() {
    let mut test = Harness::new(|| {
        job::<Event, NoParams>("job", "Counts.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .window(|_| WindowSpec::session(10))
            .allowed_lateness(|_| 100)
            .aggregate(Count)
            .map(|r, _, _| (r.window.start, r.window.end, r.value))
            .to(|_| ("out", ""))
    });
    test.record(&event(), 0);
    test.record(&event(), 15);
    test.watermark(50);
    assert_eq!(windows(&mut test), [json!([0, 10, 1]), json!([15, 25, 1])]);
    test.restore();
    test.record(&event(), 8);
    assert_eq!(windows(&mut test), [json!([0, 25, 3])]);
    test.watermark(124);
    assert!(test.state_is_empty());
    assert_eq!(test.job().stats().done, 3);
}

#[test]
fn a_purged_session_still_merges() {
    let spec = WindowSpec::session(10);
    let mut test = Harness::new(move || job_with(spec, TimeDomain::Event, Trigger::Count { n: 2 }, true));
    test.record(&event(), 0);
    test.record(&event(), 5);
    assert_eq!(windows(&mut test), [json!([0, 15, 2])]);
    test.restore();
    test.record(&event(), 12);
    test.record(&event(), 13);
    assert_eq!(windows(&mut test), [json!([0, 23, 2])]);
    test.watermark(22);
    assert!(test.state_is_empty());
}

#[test]
fn windows_of_the_clock_are_over_when_it_says_so() {
    let mut test = Harness::new(|| {
        job_with(WindowSpec::tumbling(10), TimeDomain::Processing, Trigger::ProcessingTime, false)
    });
    test.processing_time(9);
    test.record(&event(), -1_000);
    test.watermark(i64::MAX);
    assert_eq!(windows(&mut test), [] as [Value; 0]);
    test.processing_time(10);
    assert_eq!(windows(&mut test), [json!([0, 10, 1])]);
    assert!(test.state_is_empty());
}

#[test]
fn early_results_by_the_wall_clock_go_on_when_event_time_is_behind_it() {
    let trigger = Trigger::ContinuousProcessingTime { interval: 5 };
    let mut test =
        Harness::new(move || job_with(WindowSpec::tumbling(10), TimeDomain::Event, trigger, false));
    test.processing_time(1_000);
    for now in [1_005, 1_010] {
        test.record(&event(), 3);
        test.restore();
        test.processing_time(now);
    }
    assert_eq!(windows(&mut test), [json!([0, 10, 1]), json!([0, 10, 2])]);
}

#[test]
fn the_end_of_a_stream_ends_global_windows_at_once() {
    let trigger = Trigger::ContinuousEventTime { interval: 1 };
    let mut test = Harness::new(move || job_with(WindowSpec::Global, TimeDomain::Event, trigger, true));
    test.record(&event(), 0);
    test.watermark(i64::MAX);
    assert_eq!(windows(&mut test), [json!([i64::MIN, i64::MAX, 1])]);
}

#[test]
fn the_ends_of_time_are_times_like_others() {
    let half = i64::MAX / 2;
    let specs = [
        WindowSpec::Tumbling { size: 10, offset: -3 },
        WindowSpec::tumbling(i64::MAX),
        WindowSpec::Sliding { size: 10, slide: 4, offset: 1 },
        WindowSpec::Sliding { size: i64::MAX, slide: half, offset: 1 - half },
        WindowSpec::session(10),
        WindowSpec::session(i64::MAX),
        WindowSpec::Global,
    ];
    let triggers = [
        Trigger::EventTime,
        Trigger::ProcessingTime,
        Trigger::ContinuousEventTime { interval: half },
        Trigger::ContinuousProcessingTime { interval: 7 },
        Trigger::Count { n: 1 },
        Trigger::EndOfStream,
    ];
    for (spec, trigger) in specs.into_iter().flat_map(|spec| triggers.map(|trigger| (spec, trigger))) {
        for time in [TimeDomain::Event, TimeDomain::Processing] {
            let mut test = Harness::new(move || job_with(spec, time, trigger, false));
            for at in [0, i64::MIN, i64::MIN + 5, i64::MAX - 5, i64::MAX] {
                test.record(&event(), at);
                test.restore();
            }
            for to in [i64::MIN + 3, -1, 8, i64::MAX - 2, i64::MAX] {
                test.watermark(to);
                test.processing_time(to);
                test.record(&event(), to);
                test.restore();
                let (stats, pending) = (test.job().stats(), test.job().pending());
                assert!(stats.balances(pending) && stats.violations == 0, "{spec:?} {trigger:?} {stats:?}");
            }
            assert!(trigger != Trigger::EventTime || !windows(&mut test).is_empty(), "{spec:?}");
        }
    }
}

#[test]
fn windows_of_windows_of_the_same_size_are_not_late() {
    let mut test = Harness::new(|| {
        job::<Event, NoParams>("most", "Records per key and minute, then keys per minute.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .window(|_| WindowSpec::tumbling(60))
            .aggregate(Count)
            .map(|r, _, _| ("all".to_owned(), r.value as i64))
            .key_by(|r| &r.0)
            .window(|_| WindowSpec::tumbling(60))
            .aggregate(Count)
            .map(|r, _, _| (r.window.end, r.value))
            .to(|_| ("out", ""))
    });
    for (key, at) in [("a", 1), ("b", 2), ("b", 3), ("a", 61)] {
        test.record(&(key.to_owned(), 1), at);
    }
    test.restore();
    test.watermark(59);
    test.restore();
    test.watermark(500);
    assert_eq!(test.emitted("out"), [json!([60, 2]), json!([120, 1])]);
    let (stats, pending) = (test.job().stats(), test.job().pending());
    assert!(stats.balances(pending) && stats.late == 0 && pending == 0, "{stats:?}");
    assert!(test.rest().is_empty());
}

#[test]
fn what_comes_after_the_first_result_is_counted() {
    let waiting = || {
        job::<Event, Live>("waiting", "Counts.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .window(|live| {
                if live.slide == 0 { WindowSpec::tumbling(10) } else { WindowSpec::sliding(20, live.slide) }
            })
            .allowed_lateness(|_| 5)
            .aggregate(Count)
            .map(|r, _, _| (r.window.start, r.window.end, r.value))
            .to(|_| ("out", ""))
    };
    let counted = |test: &mut Harness<Event>| {
        let stats = test.job().stats();
        (stats.windowed, stats.tardy)
    };
    let mut test = Harness::new(waiting);
    test.record(&event(), 3);
    test.watermark(8);
    test.record(&event(), 4);
    assert_eq!(counted(&mut test), (2, 0));
    test.watermark(9);
    test.record(&event(), 5); // corrects the result
    test.restore();
    test.watermark(14);
    test.record(&event(), 6); // late
    assert_eq!(counted(&mut test), (4, 2));

    let mut test = Harness::new(waiting);
    test.params(1, &json!({"slide": 5})).unwrap();
    test.record(&event(), 30);
    test.watermark(31);
    test.record(&event(), 20); // [5, 25) has given its result
    test.record(&event(), 29); // [10, 30) too
    test.record(&event(), 31);
    assert_eq!(counted(&mut test), (4, 2));
}

#[test]
fn what_falls_between_sliding_windows_is_filtered_and_not_late() {
    let mut test =
        Harness::new(|| job_with(WindowSpec::sliding(5, 10), TimeDomain::Event, Trigger::EventTime, false));
    test.record(&event(), 4);
    test.record(&event(), 7);
    test.watermark(6);
    test.record(&event(), 7);
    test.record(&event(), 6);
    let stats = test.job().stats();
    assert_eq!((stats.records, stats.filtered, stats.late, stats.done), (4, 2, 1, 1));
}
