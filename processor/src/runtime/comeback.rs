//! How long an app was away when partitions come to a worker, and where that time went.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_service::clock;
use millrace_wire::telemetry::RecoveryPhases;

/// Where streams must be read to until an app has caught up: next offset by partition and topic.
pub type Ahead = BTreeMap<(i32, &'static str), i64>;

/// Measures an app's way back: from the moment when it has no partitions until it has read what came meanwhile.
pub struct Comeback {
    /// Since when the app waits for partitions.
    waiting: Instant,
    waiting_ms: i64,
    /// Partitions that it had before.
    had: Vec<i32>,
    /// Catching up.
    open: Option<Open>,
}

struct Open {
    phases: RecoveryPhases,
    resumed: Instant,
    resumed_ms: i64,
    ahead: Ahead,
}

impl Comeback {
    /// The app joins its group now.
    pub fn begin() -> Self {
        Self { waiting: Instant::now(), waiting_ms: clock::now_ms(), had: Vec::new(), open: None }
    }

    /// Its partitions `had` are taken away now.
    pub fn revoked(&mut self, had: Vec<i32>) {
        *self = Self { had, ..Self::begin() };
    }

    /// It has `partitions`, whose state is back as of now. `commits` is when each was last committed to, epoch ms, if that is
    /// known; `restoring` is how long the state took.
    pub fn restored(
        &mut self,
        partitions: &[i32],
        commits: &[Option<i64>],
        restoring: Duration,
        ahead: Ahead,
    ) {
        // At an app's first start there is nothing to catch up with.
        let ahead = ahead.into_iter().filter(|(_, end)| *end > 0).collect();
        let gained = partitions.iter().zip(commits).filter(|(partition, _)| !self.had.contains(partition));
        let last_commit = gained.filter_map(|(_, commit)| *commit).max();
        let millis = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        let phases = RecoveryPhases {
            at_ms: 0,
            partitions: partitions.to_vec(),
            detect_ms: last_commit.map(|commit| (self.waiting_ms - commit).max(0) as f64),
            rejoin_ms: millis(self.waiting.elapsed().saturating_sub(restoring)),
            restore_ms: millis(restoring),
            catch_up_ms: 0.0,
        };
        self.open = Some(Open { phases, resumed: Instant::now(), resumed_ms: clock::now_ms(), ahead });
    }

    /// A transaction is committed: `next` tells how far a topic of a partition is read, `newest` when its newest record was
    /// created. Returns the phases once what came before the app was back has been read, or records that came later.
    pub fn committed(
        &mut self,
        next: impl Fn(i32, &str) -> Option<i64>,
        newest: Option<i64>,
    ) -> Option<RecoveryPhases> {
        let open = self.open.as_mut()?;
        open.ahead.retain(|(partition, topic), end| next(*partition, topic).unwrap_or(0) < *end);
        if !open.ahead.is_empty() && newest.is_none_or(|newest| newest < open.resumed_ms) {
            return None;
        }
        let mut open = self.open.take()?;
        open.phases.catch_up_ms = open.resumed.elapsed().as_secs_f64() * 1_000.0;
        open.phases.at_ms = clock::now_ms();
        Some(open.phases)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_caught_up_when_every_stream_is_read_or_something_newer_came() {
        let mut comeback = Comeback::begin();
        assert_eq!(comeback.committed(|_, _| None, None), None, "nothing has been restored");
        let ahead = || Ahead::from([((0, "orders"), 10), ((1, "orders"), 5)]);
        let commit = clock::now_ms() - 3_000;
        comeback.restored(&[0, 1], &[Some(commit - 9_000), Some(commit)], Duration::ZERO, ahead());
        assert_eq!(comeback.committed(|partition, _| (partition == 1).then_some(5), None), None);
        let phases = comeback.committed(|_, _| Some(10), None).unwrap();
        assert!(phases.detect_ms.is_some_and(|ms| (2_900.0..60_000.0).contains(&ms)), "{phases:?}");
        assert_eq!(phases.partitions, [0, 1]);
        assert_eq!(comeback.committed(|_, _| Some(10), None), None, "told once");

        comeback.revoked(vec![0, 1]);
        comeback.restored(&[0, 1, 2], &[Some(commit), Some(commit), None], Duration::ZERO, ahead());
        let phases = comeback.committed(|_, _| None, Some(clock::now_ms() + 1)).unwrap();
        assert_eq!(phases.detect_ms, None, "nothing is known of the partition that it gained");
    }
}
