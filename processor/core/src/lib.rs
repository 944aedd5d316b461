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
//! | module | what it holds |
//! |---|---|
//! | [`task`] | app, task, inputs; the one place where order is decided |
//! | [`stream`] | the DataStream-like API that jobs are written in |
//! | [`watermark`] | bounded out-of-orderness, idleness, merging |
//! | [`window`] | windows, their live change, the window operator |
//! | [`cep`] | patterns of events: compiler, NFA, operator |
//! | [`state`] | tables of keyed state, their changes and their encoding |
//! | [`params`] | typed live parameters with limits and a JSON Schema |
//! | [`effect`] | what a step asks for |
//! | [`invariant`] | what must always hold, checked in tests and in production |
//! | [`testing`] | a harness: events in, results out |
//!
//! Invariant: no tokio, rdkafka, clock, thread or I/O in this crate.

pub mod cep;
pub mod effect;
pub mod invariant;
pub mod params;
pub mod state;
pub mod stream;
pub mod task;
pub mod testing;
pub mod time;
pub mod watermark;
pub mod window;

pub use effect::{Effect, Effects};
pub use params::Params;
pub use stream::{Job, job};
pub use task::{App, Application, Input, Record, Source, Task};
pub use time::{EventTime, TimeWindow, Watermark};
