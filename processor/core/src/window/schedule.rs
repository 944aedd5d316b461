use serde::{Deserialize, Serialize};

use super::WindowSpec;
use super::spec::Aligned;
use crate::time::TimeWindow;

/// Which specification is in force for which windows.
///
/// A change takes effect at a *border*: the first window start of the new specification after the latest event time
/// seen (for sessions and the global window: the instant after it).
///
/// - Tumbling and sliding windows that start before the border follow the old specification and get all of their
///   records, windows that start at or after it follow the new one. No record is without a window, and no window is ever
///   filled by half.
/// - Sessions and the global window take the records of their side of the border. A session does not merge with one of
///   the other side; a global window of before the change takes no more records and keeps what it has.
///
/// ```
/// use millrace_core::window::{Schedule, WindowSpec};
/// let mut schedule = Schedule::new(WindowSpec::tumbling(60), 0);
/// schedule.change(WindowSpec::tumbling(10), 0, Some(63));
/// let windows = |t| schedule.assign(t).map(|a| (a.window.start, a.window.end)).collect::<Vec<_>>();
/// assert_eq!(windows(64), [(60, 120)]);            // before the border at 70: the old windows only
/// assert_eq!(windows(75), [(60, 120), (70, 80)]);  // the open old window is completed, the new ones have begun
/// assert_eq!(windows(121), [(120, 130)]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Oldest first. Empty only by default: before the job has started.
    epochs: Vec<Epoch>,
}

/// A specification and the windows it is in force for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Epoch {
    /// Names it in the state. Rises.
    pub id: u32,
    pub spec: WindowSpec,
    pub allowed_lateness: i64,
    /// Windows that start at or after it.
    pub from: Option<i64>,
    /// Windows that start before it.
    pub until: Option<i64>,
}

/// A window of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// The window.
    pub window: TimeWindow,
    /// When the watermark reaches it, the window is forgotten: `last + allowed lateness`.
    pub cleanup: i64,
}

impl Epoch {
    /// Whether an instant is on this side of the borders.
    pub fn contains(&self, t: i64) -> bool {
        self.from.is_none_or(|from| t >= from) && self.until.is_none_or(|until| t < until)
    }

    pub fn assigned(&self, window: TimeWindow) -> Assigned {
        Assigned { window, cleanup: window.last().saturating_add(self.allowed_lateness) }
    }

    /// The windows of a record at `t`, sessions not merged yet.
    pub fn assign(self, t: i64) -> impl Iterator<Item = Assigned> {
        let by_start = self.spec.aligned().is_some();
        self.spec
            .windows(t)
            .filter(move |window| self.contains(if by_start { window.start } else { t }))
            .map(move |window| self.assigned(window))
    }

    /// The session that a record at `t` begins, not merged yet; `None` if the windows are no sessions, or `t` is on
    /// another side of the borders. A gap below 1 ms counts as 1 ms.
    pub fn session(&self, t: i64, gap: impl FnOnce() -> i64) -> Option<TimeWindow> {
        let gap = match self.spec {
            WindowSpec::Session { gap } => gap,
            WindowSpec::SessionDynamic => gap(),
            _ => return None,
        };
        self.contains(t).then(|| TimeWindow { start: t, end: t.saturating_add(gap.max(1)) })
    }

    /// Starts of the first and the last aligned window that hold `t` and are on this side of the borders.
    pub fn starts(&self, aligned: Aligned, t: i64) -> Option<(i128, i128)> {
        let (mut first, mut last) = aligned.starts(t)?;
        if let Some(from) = self.from {
            // A border is a window start of the specification that begins there.
            first = first.max(aligned.ceil(from.into()));
        }
        if let Some(until) = self.until {
            last = last.min(aligned.ceil(until.into()) - i128::from(aligned.slide));
        }
        (first <= last).then_some((first, last))
    }

    fn is_over(&self, time: i64) -> bool {
        self.until.is_some_and(|until| {
            until.saturating_add(self.spec.span()).saturating_add(self.allowed_lateness) <= time
                && self.spec.span() < i64::MAX
        })
    }
}

impl Schedule {
    /// One specification for all windows. Durations in ms; a negative lateness is none.
    pub fn new(spec: WindowSpec, allowed_lateness: i64) -> Self {
        let allowed_lateness = allowed_lateness.max(0);
        Self { epochs: vec![Epoch { id: 0, spec, allowed_lateness, from: None, until: None }] }
    }

    /// The windows of a record at `t`, by specification and start. Sessions are not merged yet.
    pub fn assign(&self, t: i64) -> impl Iterator<Item = Assigned> + '_ {
        self.epochs.iter().flat_map(move |epoch| epoch.assign(t))
    }

    /// Whether there is no specification yet.
    pub fn is_unset(&self) -> bool {
        self.epochs.is_empty()
    }

    pub(super) fn epoch(&self, id: u32) -> Option<Epoch> {
        self.epochs.iter().find(|epoch| epoch.id == id).copied()
    }

    pub(super) fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// Whether a record at `t` without a window falls between two, and is not too late.
    pub(super) fn skips(&self, t: i64, watermark: i64) -> bool {
        let known = self.epochs.first().is_some_and(|epoch| epoch.from.is_none_or(|from| t >= from));
        let lateness = self.epochs.last().map_or(0, |epoch| epoch.allowed_lateness);
        known && t.saturating_add(lateness) > watermark
    }

    /// Puts another specification in force. `max_seen` is the latest time seen; without one there is no window
    /// yet, and the change is immediate. Returns whether anything changed.
    pub fn change(&mut self, spec: WindowSpec, allowed_lateness: i64, max_seen: Option<i64>) -> bool {
        let allowed_lateness = allowed_lateness.max(0);
        let same = |epoch: &Epoch| epoch.spec == spec && epoch.allowed_lateness == allowed_lateness;
        if self.epochs.last().is_some_and(same) {
            return false;
        }
        let Some(max_seen) = max_seen else {
            *self = Self::new(spec, allowed_lateness);
            return true;
        };
        // A change whose border has not been reached is replaced: it has no windows.
        while self.epochs.len() > 1
            && self.epochs.last().is_some_and(|e| e.from.is_some_and(|from| from > max_seen))
        {
            self.epochs.pop();
            if let Some(last) = self.epochs.last_mut() {
                last.until = None;
            }
        }
        if !self.epochs.last().is_some_and(same) {
            let after = i128::from(max_seen) + 1;
            let border = super::spec::clamp(spec.aligned().map_or(after, |aligned| aligned.ceil(after)));
            let id = self.epochs.last().map_or(0, |last| last.id.wrapping_add(1));
            if let Some(last) = self.epochs.last_mut() {
                last.until = Some(border);
            }
            self.epochs.push(Epoch { id, spec, allowed_lateness, from: Some(border), until: None });
        }
        true
    }

    /// Forgets specifications whose last window is forgotten at `time`: the watermark, or the clock. Returns whether
    /// anything changed.
    pub fn retire(&mut self, time: i64) -> bool {
        let before = self.epochs.len();
        if before > 1 {
            self.epochs.retain(|epoch| !epoch.is_over(time));
        }
        before != self.epochs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(schedule: &Schedule, t: i64) -> Vec<(i64, i64)> {
        schedule.assign(t).map(|a| (a.window.start, a.window.end)).collect()
    }

    #[test]
    fn larger_windows_begin_where_one_starts() {
        let mut schedule = Schedule::new(WindowSpec::tumbling(10), 0);
        assert!(schedule.change(WindowSpec::tumbling(60), 0, Some(63)));
        assert_eq!(windows(&schedule, 119), [(110, 120)]);
        assert_eq!(windows(&schedule, 120), [(120, 180)]);
        assert!(
            !schedule.retire(129),
            "the window [110, 120) could still be there as far as the schedule knows"
        );
        assert!(schedule.retire(130));
        assert_eq!(windows(&schedule, 119), [], "a record this old is late under the old windows");
    }

    #[test]
    fn a_change_that_has_not_begun_is_replaced() {
        let mut schedule = Schedule::new(WindowSpec::tumbling(10), 0);
        schedule.change(WindowSpec::tumbling(60), 0, Some(63));
        schedule.change(WindowSpec::tumbling(10), 0, Some(64));
        assert_eq!(schedule, Schedule::new(WindowSpec::tumbling(10), 0));
        assert!(!schedule.change(WindowSpec::tumbling(10), 0, Some(65)));
    }

    #[test]
    fn before_the_first_record_a_change_is_immediate() {
        let mut schedule = Schedule::new(WindowSpec::tumbling(10), 0);
        assert!(schedule.change(WindowSpec::tumbling(60), 5, None));
        assert_eq!(windows(&schedule, 1), [(0, 60)]);
        assert_eq!(schedule.assign(1).next().unwrap().cleanup, 64);
    }

    #[test]
    fn every_type_can_follow_every_other() {
        let mut schedule = Schedule::new(WindowSpec::sliding(20, 10), 0);
        schedule.change(WindowSpec::session(5), 0, Some(33));
        assert_eq!(windows(&schedule, 33), [(20, 40), (30, 50)]);
        assert_eq!(
            windows(&schedule, 34),
            [(20, 40), (30, 50), (34, 39)],
            "those that are open are completed"
        );
        schedule.change(WindowSpec::sliding(8, 4), 0, Some(50));
        assert_eq!(windows(&schedule, 51), [(51, 56)]);
        assert_eq!(windows(&schedule, 53), [(52, 60)], "the session has ended at the border");
        schedule.change(WindowSpec::Global, 0, Some(60));
        assert_eq!(windows(&schedule, 61), [(56, 64), (60, 68), (i64::MIN, i64::MAX)]);
        schedule.change(WindowSpec::tumbling(10), 0, Some(70));
        assert_eq!(windows(&schedule, 85), [(80, 90)]);
        assert!(schedule.retire(i64::MAX));
        assert_eq!(windows(&schedule, 79), [(i64::MIN, i64::MAX)], "a global window is never over");
    }
}
