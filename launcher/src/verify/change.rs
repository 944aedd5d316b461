//! From when on windows are those of the parameters in force.

use super::batch::{Oracle, Params, Windows};
use super::fields;

/// How long workers may take to apply a change, ms.
const APPLIED: i64 = 5_000;

/// A change of a job's parameters.
#[derive(Debug)]
pub struct Change {
    /// When it was given, epoch ms.
    given_at: i64,
    /// How long after the latest event time seen windows of the parameters before it may be open, ms.
    open_for: i64,
    /// The latest event time that a task may have seen before it, epoch ms; `None`: there was no record yet, and so no window.
    seen: Option<i64>,
}

/// Which windows are those of the parameters in force.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmixed {
    /// Those that start here or later. No record is missing in them, because the first one starts behind all that was seen.
    pub since: i64,
    /// Those that start before lie beside windows of parameters before, and a record that is in one of these is not late.
    pub alone: i64,
}

impl Change {
    /// A change from some parameters to others. No record is known to be from before it yet.
    pub fn new(oracle: &Oracle, given_at: i64, (before, now): (&Params, &Params)) -> Self {
        let length = match (oracle.windows)(before) {
            Windows::Sliding { size, .. } => size,
            Windows::Session { gap } => gap,
            Windows::Unknown => 0,
        };
        // The first new window starts so much later at most.
        let border = match (oracle.windows)(now) {
            Windows::Sliding { slide, .. } => slide,
            Windows::Session { .. } | Windows::Unknown => 1,
        };
        Self { given_at, open_for: border + length + fields::lateness(before), seen: None }
    }

    /// Takes notice of a record of the job's streams.
    pub fn see(&mut self, created_ms: i64, at: i64) {
        if created_ms <= self.given_at + APPLIED {
            self.seen = self.seen.max(Some(at));
        }
    }
}

/// What these changes, all of which have seen all records, leave unmixed. One from before the first record mixes nothing.
pub fn unmixed(changes: &[Change]) -> Unmixed {
    let seen = || changes.iter().filter_map(|change| Some((change.seen?, change.open_for)));
    Unmixed {
        since: seen().map(|(seen, _)| seen + 1).max().unwrap_or(i64::MIN),
        alone: seen().map(|(seen, open_for)| seen + open_for).max().unwrap_or(i64::MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs;
    use super::*;
    use serde_json::json;

    /// Changes of the window size, s, each with when it was given; and records, (created, event time).
    fn of(sizes: &[(i64, i64)], records: &[(i64, i64)]) -> Unmixed {
        let averages = jobs::ALL.iter().find(|oracle| oracle.job == "humidity-average").unwrap();
        let params =
            |size: i64| json!({"window": "tumbling", "window_size_s": size}).as_object().unwrap().clone();
        let mut before = 300;
        let mut changes = Vec::new();
        for (given_at, size) in sizes {
            changes.push(Change::new(averages, *given_at, (&params(before), &params(*size))));
            before = *size;
        }
        for (created_ms, at) in records {
            changes.iter_mut().for_each(|change| change.see(*created_ms, *at));
        }
        unmixed(&changes)
    }

    #[test]
    fn a_change_before_the_first_record_mixes_nothing() {
        let all = Unmixed { since: i64::MIN, alone: i64::MIN };
        assert_eq!(of(&[], &[(1_000, 900)]), all);
        assert_eq!(of(&[(1_000, 10)], &[]), all);
        assert_eq!(of(&[(1_000, 10), (2_000, 20)], &[(10_000, 9_000)]), all);
        // The second change comes into the stream: what was in force before the first never had a window.
        let second = of(&[(1_000, 10), (60_000, 20)], &[(10_000, 9_000), (70_000, 71_000)]);
        assert_eq!(second, Unmixed { since: 9_001, alone: 9_000 + 20_000 + 10_000 });
    }

    #[test]
    fn new_windows_begin_behind_what_was_seen_and_beside_old_ones() {
        let records = [(100_000, 99_000), (104_000, 103_000), (106_000, 106_000)];
        let once = of(&[(100_000, 10)], &records);
        assert_eq!(once, Unmixed { since: 103_001, alone: 103_000 + 10_000 + 300_000 });
        // Each change keeps windows open for as long as its own did, and not for as long as any before.
        let twice =
            of(&[(100_000, 10), (900_000, 20)], &[records.as_slice(), &[(900_000, 900_000)]].concat());
        assert_eq!(twice, Unmixed { since: 900_001, alone: 900_000 + 20_000 + 10_000 });
        // Event time may be ahead of the clock.
        assert_eq!(of(&[(100_000, 10)], &[(100_000, 150_000)]).since, 150_001);
    }
}
