use serde_json::json;

use super::*;
use crate::params::NoParams;
use crate::state::{ListState, State};
use crate::stream::{Job, job};
use crate::testing::Harness;
use crate::time::TimeDomain;

type Event = (String, i64);

/// Collects values and hands them on, each and their sum, ten ms after the first; every third is too many.
#[derive(Default)]
struct Batch {
    values: ListState<i64>,
}

impl ProcessFunction<NoParams, Event> for Batch {
    type State = u32;
    type Out = (String, i64);

    fn record(
        &mut self,
        event: &Event,
        at: EventTime,
        count: &mut Current<u32>,
        ctx: &mut ProcessContext<'_, '_, NoParams, Self::Out>,
    ) {
        **count += 1;
        if **count > 2 {
            ctx.side("too-many", &event.0, &event.1);
            return;
        }
        let (key, moment) = (ctx.key().to_owned(), ctx.moment());
        self.values.add(&key, event.1, moment);
        ctx.register_timer(TimeDomain::Event, at.0 + 10);
        ctx.register_timer(TimeDomain::Processing, ctx.now() + 100);
    }

    fn timer(
        &mut self,
        timer: Timer,
        count: &mut Current<u32>,
        ctx: &mut ProcessContext<'_, '_, NoParams, Self::Out>,
    ) {
        let (key, moment) = (ctx.key().to_owned(), ctx.moment());
        if timer.domain == TimeDomain::Processing {
            ctx.collect((format!("{key} at {}", timer.time), 0));
            return;
        }
        let values: Vec<i64> = self.values.elements(&key, moment).copied().collect();
        if values.is_empty() {
            return;
        }
        values.iter().for_each(|value| ctx.collect((key.clone(), *value)));
        ctx.collect_at((key.clone(), values.iter().sum()), EventTime(timer.time + 1));
        self.values.clear(&key);
        **count = 0;
    }

    fn states(&mut self, visit: &mut dyn FnMut(&mut dyn State)) {
        visit(&mut self.values);
    }
}

fn batches() -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("batches", "Batches.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.0)
        .process(Batch::default())
        .map(|result, at, _| (result.clone(), at.0))
        .to(|_| ("out", ""))
}

#[test]
fn a_function_has_state_timers_and_side_outputs() {
    for restore in [false, true] {
        let mut test = Harness::new(batches);
        let step = |test: &mut Harness<Event>| restore.then(|| test.restore());
        for (key, value, at) in [("b", 1, 0), ("a", 2, 0), ("a", 3, 0), ("a", 4, 0)] {
            test.record(&(key.to_owned(), value), at);
            step(&mut test);
        }
        assert_eq!(test.emitted("too-many"), [4]);
        test.watermark(9);
        step(&mut test);
        assert_eq!(test.emitted("out").len(), 0);
        test.watermark(30);
        step(&mut test);
        let results = [(("a", 2), 10), (("a", 3), 10), (("a", 5), 11), (("b", 1), 10), (("b", 1), 11)];
        assert_eq!(test.emitted("out"), results.map(|r| json!(r)));
        test.processing_time(100);
        step(&mut test);
        let results = [(("a at 100", 0), 100), (("b at 100", 0), 100)];
        assert_eq!(test.emitted("out"), results.map(|r| json!(r)), "once for two registrations");
        let stats = test.job().stats();
        assert!(test.state_is_empty() && stats.balances(0) && stats.done == 4, "{stats:?}");
    }
}

#[test]
fn state_with_a_time_to_live_starts_anew_when_it_has_expired() {
    fn counts() -> Box<dyn Job<Event>> {
        job::<Event, NoParams>("counts", "Counts.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .map_with_state_ttl(
                |_| Ttl::event_time(10),
                |_, count: &mut Current<u32>, _, _| {
                    **count += 1;
                    Some(**count)
                },
            )
            .to(|_| ("out", ""))
    }
    let mut test = Harness::new(counts);
    let mut count = |at, watermark| {
        test.record(&("k".to_owned(), 0), at);
        test.watermark(watermark);
        test.restore();
        (test.emitted("out"), test.state_is_empty())
    };
    assert_eq!(count(0, 5), (vec![json!(1)], false));
    assert_eq!(count(6, 15), (vec![json!(2)], false));
    assert_eq!(count(15, 25), (vec![json!(3)], true), "forgotten by the watermark alone");
    assert_eq!(count(26, 26), (vec![json!(1)], false));
}

/// How long state lives, ms.
#[derive(Clone, serde::Serialize, serde::Deserialize, schemars::JsonSchema, garde::Validate)]
#[serde(default)]
struct Life {
    #[garde(skip)]
    ms: i64,
}

impl Default for Life {
    fn default() -> Self {
        Self { ms: 10 }
    }
}

#[test]
fn another_time_to_live_counts_for_what_is_there() {
    fn counts() -> Box<dyn Job<Event>> {
        job::<Event, Life>("counts", "Counts.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .map_with_state_ttl(
                |life: &Life| Ttl::event_time(life.ms),
                |_, count: &mut Current<u32>, _, _| {
                    **count += 1;
                    Some(**count)
                },
            )
            .to(|_| ("out", ""))
    }
    for restart in [false, true] {
        let mut test = Harness::new(counts);
        let change = |test: &mut Harness<Event>, ms| {
            test.params(1, &json!({"ms": ms})).unwrap();
            if restart {
                test.restore();
            }
        };
        test.record(&("k".to_owned(), 0), 0);
        change(&mut test, 100);
        test.watermark(99);
        test.record(&("k".to_owned(), 0), 99);
        assert_eq!(test.emitted("out"), [1, 2], "longer");
        change(&mut test, 5);
        test.watermark(103);
        assert!(!test.state_is_empty());
        test.watermark(104);
        assert!(test.state_is_empty(), "shorter");
        test.record(&("k".to_owned(), 0), 105);
        assert_eq!(test.emitted("out"), [1]);
    }
}

#[test]
fn only_what_was_written_goes_to_the_changelog() {
    fn firsts() -> Box<dyn Job<Event>> {
        job::<Event, NoParams>("firsts", "First values.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .map_with_state(|event: &Event, seen: &mut Current<bool>, _, _| {
                if **seen {
                    return None;
                }
                **seen = true;
                Some(event.1)
            })
            .to(|_| ("out", ""))
    }
    let mut test = Harness::new(firsts);
    let mut changes = |value| {
        test.record(&("k".to_owned(), value), 0);
        let mut changes = 0;
        test.job().tables(&mut |table| table.changes(&mut |_, _| changes += 1));
        changes
    };
    assert_eq!([changes(1), changes(2)], [1, 0]);
    assert_eq!(test.emitted("out"), [1]);
}

#[test]
fn timers_pass_through_time() {
    // State that expires between two timers is there for the first and not for the second, however far the watermark
    // jumps.
    struct Twice;
    impl ProcessFunction<NoParams, Event> for Twice {
        type State = u32;
        type Out = u32;

        fn record(
            &mut self,
            _: &Event,
            at: EventTime,
            state: &mut Current<u32>,
            ctx: &mut ProcessContext<'_, '_, NoParams, u32>,
        ) {
            **state = 7;
            ctx.register_timer(TimeDomain::Event, at.0 + 9);
            ctx.register_timer(TimeDomain::Event, at.0 + 10);
        }

        fn timer(
            &mut self,
            _: Timer,
            state: &mut Current<u32>,
            ctx: &mut ProcessContext<'_, '_, NoParams, u32>,
        ) {
            ctx.collect(**state);
        }

        fn ttl(&self, _: &NoParams) -> Option<Ttl> {
            Some(Ttl::event_time(10))
        }
    }
    let mut test = Harness::new(|| {
        job::<Event, NoParams>("twice", "Twice.")
            .source(|event: &Event| Some(event))
            .key_by(|event| &event.0)
            .process(Twice)
            .to(|_| ("out", ""))
    });
    test.record(&("k".to_owned(), 0), 0);
    test.watermark(1_000);
    assert_eq!(test.emitted("out"), [7, 0]);
    assert!(test.state_is_empty());
}
