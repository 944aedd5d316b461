//! A job for every kind of operator.

use millrace_core::aggregate::{Avg, Count};
use millrace_core::cep::{FieldValue, Fields, Pattern, field};
use millrace_core::join::{Interval, JoinType, JoinWindows, Retention, Version};
use millrace_core::params::NoParams;
use millrace_core::process::{Current, ProcessContext, ProcessFunction, Timer};
use millrace_core::stream::{Job, job};
use millrace_core::window::{Aggregate, Trigger, WindowSpec};
use millrace_core::{EventTime, TimeDomain};
use serde::Serialize;

pub type Reading = (String, f64);

pub fn value(reading: &Reading) -> f64 {
    reading.1
}

pub fn key(reading: &Reading) -> &str {
    &reading.0
}

pub fn readings() -> Vec<Reading> {
    (0..40).map(|i| (format!("k{}", i % 7), f64::from(i) * 1.5 - 20.0)).collect()
}

pub fn aggregated<A: Aggregate<Reading>>(aggregate: &A) -> A::Acc {
    let mut acc = aggregate.create();
    readings().iter().for_each(|reading| aggregate.add(&mut acc, reading, EventTime(0)));
    acc
}

pub fn windows() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("windows", "Readings of ten seconds.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .window(|_| WindowSpec::tumbling(10_000))
        .allowed_lateness(|_| 5_000)
        .aggregate((Count, Avg(value)))
        .map(|result, _, _| result.value)
        .to(|_| ("out", ""))
}

/// In slices, which the windows share.
pub fn sliding() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("sliding", "Readings of ten seconds, every two.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .window(|_| WindowSpec::sliding(10_000, 2_000))
        .aggregate(Avg(value))
        .map(|result, _, _| result.value)
        .to(|_| ("out", ""))
}

/// In panes, as with every trigger of its own.
pub fn early() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("early", "Readings of ten seconds, every two, told with every third reading.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .window(|_| WindowSpec::sliding(10_000, 2_000))
        .trigger(Trigger::Count { n: 3 })
        .aggregate(Count)
        .map(|result, _, _| result.value)
        .to(|_| ("out", ""))
}

pub fn sessions() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("sessions", "Readings without a pause, twice.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .session_window(|_, _| 9_000)
        .trigger(Trigger::Count { n: 2 })
        .process(|window, _| window.value.len())
        .map(|result, _, _| result.value)
        .to(|_| ("out", ""))
}

/// In one window, whose records are forgotten with each result.
pub fn global() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("global", "Every third reading tells those since the last.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .window(|_| WindowSpec::Global)
        .trigger(Trigger::Count { n: 3 })
        .purging()
        .aggregate(Count)
        .map(|result, _, _| result.value)
        .to(|_| ("out", ""))
}

/// Says goodbye ten seconds after the last reading of a key.
pub struct Silence;

impl ProcessFunction<NoParams, Reading> for Silence {
    type State = Option<i64>;
    type Out = String;

    fn record(
        &mut self,
        _reading: &Reading,
        at: EventTime,
        deadline: &mut Current<Option<i64>>,
        ctx: &mut ProcessContext<'_, '_, NoParams, String>,
    ) {
        if let Some(old) = deadline.replace(at.0 + 10_000) {
            ctx.delete_timer(TimeDomain::Event, old);
        }
        ctx.register_timer(TimeDomain::Event, at.0 + 10_000);
        ctx.register_timer(TimeDomain::Processing, 500);
    }

    fn timer(
        &mut self,
        timer: Timer,
        deadline: &mut Current<Option<i64>>,
        ctx: &mut ProcessContext<'_, '_, NoParams, String>,
    ) {
        if timer.domain == TimeDomain::Event {
            **deadline = None;
            ctx.collect(ctx.key().to_owned());
        }
    }
}

pub fn timers() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("timers", "Keys that are silent.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .process(Silence)
        .to(|key| ("out", key.as_str()))
}

pub fn interval_join() -> Box<dyn Job<Reading>> {
    let side = || {
        job::<Reading, NoParams>("interval", "Readings of the last five seconds, in pairs.")
            .source(|reading: &Reading| Some(reading))
            .key_by(key)
    };
    let last = Interval::new(-5_000, 0).unwrap();
    side().interval_join(side(), move |_| last, JoinType::Full).to(|_| ("out", ""))
}

pub fn window_join() -> Box<dyn Job<Reading>> {
    let side = || {
        job::<Reading, NoParams>("joined", "Readings of ten seconds, in pairs.")
            .source(|reading: &Reading| Some(reading))
            .key_by(key)
    };
    let windows = JoinWindows::sliding(10_000, 5_000).unwrap();
    side().window_join(side(), windows, JoinType::Left).to(|_| ("out", ""))
}

/// Every reading is reference data too.
pub fn enriched() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("enriched", "Readings with the newest of their key.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .enrich(|reading: &Reading| Some((reading.0.as_str(), Some(&reading.1))))
        .map(|enriched, _, _| enriched.reference)
        .to(|_| ("out", ""))
}

pub fn versioned() -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("versioned", "Readings with the version of their time.")
        .source(|reading: &Reading| Some(reading))
        .key_by(key)
        .temporal_join(Retention::new(3, 5_000).unwrap(), |reading: &Reading| {
            let from = EventTime(20_000 + reading.1 as i64 * 1_000);
            Some(Version { key: &reading.0, from, value: (reading.1 > 0.0).then_some(&reading.1) })
        })
        .map(|enriched, _, _| enriched.reference)
        .to(|_| ("out", ""))
}

/// What a pattern looks at.
#[derive(Debug, Clone, Serialize, serde::Deserialize)]
pub struct Measured(pub String, pub f64);

impl Fields for Measured {
    fn field(&self, name: &str) -> FieldValue<'_> {
        match name {
            "value" => FieldValue::Number(self.1),
            _ => FieldValue::Null,
        }
    }
}

pub fn pattern() -> Pattern {
    Pattern::begin("low")
        .where_(field("value").lt(10.0))
        .one_or_more()
        .followed_by("high")
        .where_(field("value").gt(10.0))
        .within(30_000)
}

pub fn patterns() -> Box<dyn Job<Reading>> {
    searching(pattern())
}

pub fn searching(pattern: Pattern) -> Box<dyn Job<Reading>> {
    job::<Reading, NoParams>("patterns", "Low, then high.")
        .source(|reading: &Reading| Some(reading))
        .map(|reading, _, _| Measured(reading.0.clone(), reading.1))
        .key_by(|measured| &measured.0)
        .pattern(move |_| pattern.clone(), TimeDomain::Event)
        .to(|_| ("out", ""))
}

pub type Build = fn() -> Box<dyn Job<Reading>>;

pub const JOBS: [Build; 11] = [
    windows,
    sliding,
    early,
    sessions,
    global,
    timers,
    interval_join,
    window_join,
    enriched,
    versioned,
    patterns,
];
