//! What the processes say about themselves: frames from `millrace.telemetry` go through a pure reducer.
//!
//! `reader` (thread) -> `State::apply` -> `State::advance` closes a sample a second -> `State::overview` builds gauges.
//! Times are the frames' own, so that replaying ten minutes of frames after a restart gives the same history.

mod latency;
mod meter;
mod overview;
pub mod reader;
mod state;

pub use state::{LagNow, State};
