//! Points and spans of event time, in milliseconds.
//!
//! ```
//! use millrace_core::{TimeWindow, Watermark};
//!
//! let window = TimeWindow { start: -1_000, end: 9_000 };
//! assert_eq!(window.last(), 8_999);
//! assert!(Watermark(window.last()) > Watermark::NONE && Watermark::NONE.get().is_none());
//! ```

use serde::{Deserialize, Serialize};

/// When something happened, epoch ms. May be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

/// No record with `time <= watermark` is expected any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watermark(pub i64);

impl Watermark {
    /// Before the first one.
    pub const NONE: Self = Self(i64::MIN);

    /// The watermark, or `None` before the first one.
    pub fn get(self) -> Option<i64> {
        (self != Self::NONE).then_some(self.0)
    }
}

/// `[start, end)`, ordered by start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeWindow {
    /// Inclusive, epoch ms.
    pub start: i64,
    /// Exclusive, epoch ms.
    pub end: i64,
}

impl TimeWindow {
    /// All of time: the window of a global window.
    pub const GLOBAL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// The last instant inside: `end - 1`, Flink's `maxTimestamp`. `i64::MAX` for a window that reaches to the end of
    /// time, which includes those that would reach beyond it.
    pub fn last(self) -> i64 {
        if self.end == i64::MAX { i64::MAX } else { self.end.saturating_sub(1) }
    }
}

/// Which time something goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum TimeDomain {
    /// The times of the records: it follows the watermark, and records can be late.
    #[default]
    Event,
    /// The clock, as an input of the task: nothing is late.
    Processing,
}
