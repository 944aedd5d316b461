//! Windows: which ones there are ([`WindowSpec`]), how that changes while the job runs ([`Schedule`]), when they give
//! results ([`Trigger`]), and the operator that fills, fires and forgets them.
//!
//! Semantics are Flink's (`WindowOperator`, `MergingWindowSet`, the window assigners and triggers, release 1.20): under
//! the default trigger a window fires when the watermark reaches its last instant, again on every record that comes
//! within its allowed lateness, and is forgotten when the watermark reaches `last + allowed lateness`.
//!
//! ```text
//! record -> epochs of the schedule -> overlapping windows, plain trigger: one slice of the key ----------------.
//!                                  -> sessions: merge those that meet --.                                       |
//!                                  -> other windows ---------------------+-> pane per key and window -> trigger -+-> out
//! time   -> due timers, by (time, key, window) -> merge of slices, or pane -> fire, forget ---------------------'
//! ```

mod aggregate;
mod builder;
mod function;
#[cfg(test)]
mod model;
pub(crate) mod operator;
mod panes;
mod running;
mod schedule;
mod slices;
mod spec;
#[cfg(test)]
mod tests;
mod timers;
mod trigger;

pub use aggregate::Aggregate;
pub use builder::Windows;
pub use operator::Windowed;
pub use schedule::{Assigned, Schedule};
pub use spec::{InvalidWindow, WindowSpec};
pub use trigger::Trigger;
