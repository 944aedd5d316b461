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
//!
//! ```
//! use millrace_core::aggregate::Count;
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//! use millrace_core::window::WindowSpec;
//! use serde_json::json;
//!
//! fn clicks() -> Box<dyn Job<String>> {
//!     job::<String, NoParams>("clicks", "Clicks per user and minute.")
//!         .source(|user: &String| Some(user))
//!         .key_by(|user| user)
//!         .window(|_| WindowSpec::tumbling(60_000))
//!         .allowed_lateness(|_| 5_000)
//!         .aggregate(Count)
//!         .map(|minute, _, _| (minute.window.start, minute.value))
//!         .to(|_| ("clicks", ""))
//! }
//! let mut test = Harness::new(clicks);
//! let ann = "ann".to_owned();
//! test.record(&ann, 1_000);
//! test.watermark(59_999);
//! assert_eq!(test.emitted("clicks"), [json!([0, 1])]);
//! test.record(&ann, 2_000); // late, and the window is still known
//! assert_eq!(test.emitted("clicks"), [json!([0, 2])]);
//! test.watermark(64_999);
//! assert!(test.state_is_empty());
//! ```

mod aggregate;
mod builder;
mod function;
#[cfg(test)]
mod model;
pub(crate) mod operator;
mod pane;
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
