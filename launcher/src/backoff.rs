//! How long a process that died waits before it is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// A process that lived this long was well: the next death starts over.
const STABLE: Duration = Duration::from_secs(30);
/// The same of a worker, which begins to work within a second or two.
const STABLE_IF_EAGER: Duration = Duration::from_secs(5);

/// Exponential: 0.2 s, 0.4 s, .. 10 s.
#[derive(Debug, Clone)]
pub struct Backoff {
    eager: bool,
    deaths: u32,
}

impl Backoff {
    /// `eager`: the first restart comes without a wait, because a worker's partitions stand still meanwhile.
    pub fn new(eager: bool) -> Self {
        Self { eager, deaths: 0 }
    }

    /// The wait after a process that lived for `uptime`.
    pub fn after(&mut self, uptime: Duration) -> Duration {
        if uptime >= if self.eager { STABLE_IF_EAGER } else { STABLE } {
            self.deaths = 0;
        }
        self.deaths = self.deaths.saturating_add(1);
        let doublings = if self.eager { self.deaths.checked_sub(2) } else { self.deaths.checked_sub(1) };
        doublings
            .map_or(Duration::ZERO, |n| FIRST.saturating_mul(2_u32.saturating_pow(n.min(16))).min(LONGEST))
    }

    /// Forgets the past: a person asked for a start.
    pub fn reset(&mut self) {
        self.deaths = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: &mut Backoff, uptime_s: u64, times: usize) -> Vec<u128> {
        (0..times).map(|_| backoff.after(Duration::from_secs(uptime_s)).as_millis()).collect()
    }

    #[test]
    fn doubles_up_to_ten_seconds() {
        let mut backoff = Backoff::new(false);
        assert_eq!(millis(&mut backoff, 1, 8), [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn a_stable_process_starts_over() {
        let mut backoff = Backoff::new(false);
        millis(&mut backoff, 1, 5);
        assert_eq!(millis(&mut backoff, 31, 1), [200]);
    }

    #[test]
    fn an_eager_one_comes_back_at_once_the_first_time() {
        let mut backoff = Backoff::new(true);
        assert_eq!(millis(&mut backoff, 0, 3), [0, 200, 400]);
        assert_eq!(millis(&mut backoff, 6, 2), [0, 0]);
        backoff.reset();
        assert_eq!(millis(&mut backoff, 0, 1), [0]);
    }
}
