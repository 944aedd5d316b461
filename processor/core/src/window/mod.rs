//! Windows: which ones a record belongs to ([`spec`]), how that changes while the job runs ([`schedule`]), and the
//! operator that fills, fires and forgets them ([`operator`]).
//!
//! Semantics are Flink's (`WindowOperator`, `TumblingEventTimeWindows`, `EventTimeTrigger`, release 1.20):
//! a window fires when the watermark reaches its last instant, again on every record that comes within its allowed
//! lateness, and is forgotten when the watermark reaches `last + allowed lateness`.

mod aggregate;
#[cfg(test)]
mod model;
pub(crate) mod operator;
mod schedule;
mod spec;

pub use aggregate::Aggregate;
pub use operator::Windowed;
pub use schedule::{Assigned, Schedule};
pub use spec::{InvalidWindow, WindowSpec};
