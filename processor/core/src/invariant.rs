//! What must always hold, as named predicates. They are evaluated in tests and in production; a violation is counted by
//! its name and shown, and never stops the job.
//!
//! ```
//! use millrace_core::invariant::{Stats, Violation};
//!
//! let mut stats = Stats { records: 9, filtered: 4, late: 1, dead: 1, done: 2, ..Stats::default() };
//! assert!(stats.balances(1), "one record is in an open window");
//! assert!(!stats.balances(2), "a record would be in two places");
//! stats.violation(Violation::WatermarkFell);
//! let counted: Vec<_> = stats.by_name.iter().filter(|(_, times)| *times > 0).collect();
//! assert_eq!((stats.violations, counted), (1, vec![("watermark_fell", 1)]));
//! ```

use std::ops::Add;

use serde::{Deserialize, Serialize};

/// A predicate that did not hold: a bug of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Violation {
    /// The watermark that a job was given fell.
    WatermarkFell,
    /// A window gave a result after it had been closed.
    OutputForClosedWindow,
    /// What a window, a window join or a pattern held for a time that is over is still there, or nothing will ever take it away.
    StateLeftBehind,
    /// A timer came due for a window that is not there.
    TimerWithoutWindow,
    /// A record is in none or in two of: filtered, late, dead, pending, done.
    RecordsDoNotBalance,
    /// A pattern that can't be compiled got past the validation of its parameters.
    InvalidPattern,
    /// What is in a repartition topic was not written by this app.
    ForeignRecord,
}

impl Violation {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::WatermarkFell,
        Self::OutputForClosedWindow,
        Self::StateLeftBehind,
        Self::TimerWithoutWindow,
        Self::RecordsDoNotBalance,
        Self::InvalidPattern,
        Self::ForeignRecord,
    ];

    /// Its name, in metrics and in the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::WatermarkFell => "watermark_fell",
            Self::OutputForClosedWindow => "output_for_closed_window",
            Self::StateLeftBehind => "state_left_behind",
            Self::TimerWithoutWindow => "timer_without_window",
            Self::RecordsDoNotBalance => "records_do_not_balance",
            Self::InvalidPattern => "invalid_pattern",
            Self::ForeignRecord => "foreign_record",
        }
    }
}

/// How often each violation was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByName([u64; Violation::ALL.len()]);

impl ByName {
    /// Names and counts, in the order of [`Violation::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Violation::ALL.into_iter().zip(self.0).map(|(violation, times)| (violation.name(), times))
    }

    /// How often one was counted.
    pub fn of(&self, violation: Violation) -> u64 {
        self.0.get(violation as usize).copied().unwrap_or_default()
    }

    pub(crate) fn add(&mut self, name: &str, times: u64) {
        // What only another build knows is in the sum alone.
        let known =
            Violation::ALL.into_iter().zip(&mut self.0).find(|(violation, _)| violation.name() == name);
        if let Some((_, counted)) = known {
            *counted = counted.saturating_add(times);
        }
    }
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
    /// Records of its repartition topic that can't be read. What is malformed in a stream is dead before any job sees it.
    #[serde(skip)]
    pub dead: u64,
    /// Violations by name, since there has been a build that knows it.
    #[serde(skip)]
    pub by_name: ByName,
}

impl Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let mut by_name = self.by_name;
        other.by_name.iter().for_each(|(name, times)| by_name.add(name, times));
        Self {
            records: self.records + other.records,
            filtered: self.filtered + other.filtered,
            late: self.late + other.late,
            done: self.done + other.done,
            emitted: self.emitted + other.emitted,
            violations: self.violations + other.violations,
            windowed: self.windowed + other.windowed,
            tardy: self.tardy + other.tardy,
            dead: self.dead + other.dead,
            by_name,
        }
    }
}

impl Stats {
    /// Every record is in exactly one of filtered, late, dead, pending, done.
    pub fn balances(&self, pending: u64) -> bool {
        self.records == self.filtered + self.late + self.dead + pending + self.done
    }

    /// Counts a violation.
    pub fn violation(&mut self, violation: Violation) {
        self.violations += 1;
        self.by_name.add(violation.name(), 1);
    }
}
