use serde::{Deserialize, Serialize};

use super::WindowSpec;
use crate::time::TimeWindow;

/// Which specification is in force for which windows.
///
/// A change takes effect at a *border*: the first window start of the new specification after the latest event time
/// seen. Windows that start before the border follow the old specification and get all of their records; windows from
/// the border on follow the new one. No record is without a window, and no window is ever filled by half.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Epoch {
    spec: WindowSpec,
    allowed_lateness: i64,
    /// Windows that start at or after it.
    from: Option<i64>,
    /// Windows that start before it.
    until: Option<i64>,
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
    fn assign(&self, t: i64) -> Option<Assigned> {
        let window = self.spec.window(t);
        let inside =
            self.from.is_none_or(|from| window.start >= from) && self.until.is_none_or(|u| window.start < u);
        inside.then(|| Assigned { window, cleanup: window.last().saturating_add(self.allowed_lateness) })
    }
}

impl Schedule {
    /// One specification for all windows.
    pub fn new(spec: WindowSpec, allowed_lateness: i64) -> Self {
        Self { epochs: vec![Epoch { spec, allowed_lateness, from: None, until: None }] }
    }

    /// The windows of a record at `t`: one, or two around a border.
    pub fn assign(&self, t: i64) -> impl Iterator<Item = Assigned> + '_ {
        self.epochs.iter().filter_map(move |epoch| epoch.assign(t))
    }

    /// Whether there is no specification yet.
    pub fn is_unset(&self) -> bool {
        self.epochs.is_empty()
    }

    /// Puts another specification in force. `max_seen` is the latest event time seen; without one there is no window
    /// yet, and the change is immediate. Returns whether anything changed.
    pub fn change(&mut self, spec: WindowSpec, allowed_lateness: i64, max_seen: Option<i64>) -> bool {
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
            let border = spec.window(max_seen).end;
            if let Some(last) = self.epochs.last_mut() {
                last.until = Some(border);
            }
            self.epochs.push(Epoch { spec, allowed_lateness, from: Some(border), until: None });
        }
        true
    }

    /// Forgets specifications whose last window is forgotten at `watermark`. Returns whether anything changed.
    pub fn retire(&mut self, watermark: i64) -> bool {
        let before = self.epochs.len();
        self.epochs.retain(|epoch| {
            epoch.until.is_none_or(|until| {
                until.saturating_add(epoch.spec.size()).saturating_add(epoch.allowed_lateness) > watermark
            })
        });
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
}
