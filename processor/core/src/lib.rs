//! A stream-processing engine: pure, synchronous, deterministic.
//!
//! A [`task`] is one partition of one app. It is a state machine: [`Task::step`] takes an [`Input`] and appends what
//! follows from it to [`Effects`]. The same inputs give the same effects, bit for bit: there is no clock, no
//! randomness and no hash order in what comes out. Whoever owns the task performs the effects, saves its
//! [changes](Task::changes) and feeds it its [state](Task::load) after a restart.
//!
//! ```text
//! Input::Record ─ parse (once per app) ─┬─ job: filter ─ key_by ─ window ─ aggregate ─ to(topic) ─┐
//!                   │                   └─ job: filter ─ enrich ─ to(topic) ──────────────────────┴─ Effects
//!                   └─ event time ─ watermark per source ─ min ─ fires windows of every job
//! ```
//!
//! ```
//! use millrace_core::aggregate::Avg;
//! use millrace_core::job;
//! use millrace_core::params::NoParams;
//! use millrace_core::testing::Harness;
//! use millrace_core::window::WindowSpec;
//!
//! type Reading = (String, f64);
//! let mut test = Harness::new(|| {
//!     job::<Reading, NoParams>("averages", "Temperatures above zero, averaged over a minute.")
//!         .source(|reading: &Reading| Some(reading))
//!         .filter(|reading, _| reading.1 > 0.0)
//!         .key_by(|reading| &reading.0)
//!         .window(|_| WindowSpec::tumbling(60_000))
//!         .aggregate(Avg(|reading: &Reading| reading.1))
//!         .map(|result, _, _| result.value)
//!         .to(|_| ("averages", "all"))
//! });
//! for (at, value) in [(1_000, 20.0), (2_000, -3.0), (59_999, 22.0)] {
//!     test.record(&("attic".to_owned(), value), at);
//! }
//! test.watermark(59_999);
//! assert_eq!(test.emitted("averages"), [21.0]);
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`task`] | app, task, inputs; the one place where order is decided |
//! | [`stream`] | the DataStream-like API that jobs are written in |
//! | [`job`](mod@job) | a job as its task sees it |
//! | [`watermark`] | bounded and punctuated streams, idleness, merging |
//! | [`window`] | windows, their live change, the window operator |
//! | [`aggregate`] | aggregates for windows: moments, extremes, top, sketches |
//! | [`anomaly`] | detectors: is this value what the ones before it let expect? |
//! | [`cep`] | patterns of events: compiler, NFA, operator |
//! | [`state`] | tables of keyed state, their changes and their encoding |
//! | [`params`] | typed live parameters with limits and a JSON Schema |
//! | [`repartition`] | streams that are keyed otherwise than their source |
//! | [`process`] | functions with state and timers of a key |
//! | [`timer`] | event-time and processing-time timers |
//! | [`transform`] | one record to several, one stream to several, several to one |
//! | [`join`] | interval, window and temporal joins |
//! | [`effect`] | what a step asks for |
//! | [`invariant`] | what must always hold, checked in tests and in production |
//! | [`testing`] | a harness: events in, results out |
//!
//! Invariant: no tokio, rdkafka, clock, thread or I/O in this crate.

pub mod aggregate;
pub mod anomaly;
pub mod cep;
pub mod effect;
pub mod invariant;
pub mod job;
pub mod join;
pub mod params;
pub mod process;
pub mod repartition;
pub mod state;
pub mod stream;
pub mod task;
pub mod testing;
pub mod time;
pub mod timer;
pub mod transform;
pub mod watermark;
pub mod window;

pub use effect::{Effect, Effects};
pub use job::Job;
pub use params::Params;
pub use stream::job;
pub use task::{App, Application, Input, Record, Source, Task};
pub use time::{EventTime, TimeDomain, TimeWindow, Watermark};
