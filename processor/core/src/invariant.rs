//! What must always hold, as named predicates. They are evaluated in tests and in production; a violation is counted
//! and shown, and never stops the job.
//!
//! ```
//! use millrace_core::invariant::{Stats, Violation};
//!
//! let mut stats = Stats { records: 9, filtered: 4, late: 1, done: 3, ..Stats::default() };
//! assert!(stats.balances(1), "one record is in an open window");
//! assert!(!stats.balances(2), "a record would be in two places");
//! stats.violation(Violation::WatermarkFell);
//! assert_eq!(stats.violations, 1);
//! ```

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// A predicate that did not hold: a bug of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// The watermark fell.
    WatermarkFell,
    /// A timer came due for a window that is not there.
    TimerWithoutWindow,
    /// A record is in none or in two of: filtered, late, pending, done.
    RecordsDoNotBalance,
    /// A pattern that can't be compiled got past the validation of its parameters.
    InvalidPattern,
    /// What is in a repartition topic was not written by this app.
    ForeignRecord,
}

/// What became of the records of a job, since the app's first start. Part of the state. A record that is split, or read
/// by several branches, counts once for each part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Records that the job saw.
    pub records: u64,
    /// Records that do not concern it.
    pub filtered: u64,
    /// Records that came too late.
    pub late: u64,
    /// Records whose work is done: passed on, or in a window that has been forgotten.
    pub done: u64,
    /// Results.
    pub emitted: u64,
    /// Violations.
    pub violations: u64,
    /// Records that belong to windows, late ones included.
    #[serde(skip)]
    pub windowed: u64,
    /// Those of them that came when the first window that they belong to had given its result, late ones included.
    #[serde(skip)]
    pub tardy: u64,
}

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            filtered: self.filtered + other.filtered,
            late: self.late + other.late,
            done: self.done + other.done,
            emitted: self.emitted + other.emitted,
            violations: self.violations + other.violations,
            windowed: self.windowed + other.windowed,
            tardy: self.tardy + other.tardy,
        }
    }
}

impl Stats {
    /// Every record is in exactly one of filtered, late, pending, done.
    pub fn balances(&self, pending: u64) -> bool {
        self.records == self.filtered + self.late + pending + self.done
    }

    /// Counts a violation.
    pub fn violation(&mut self, _violation: Violation) {
        self.violations += 1;
    }
}
