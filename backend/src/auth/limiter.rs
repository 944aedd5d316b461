//! A limit on failed sign-ins per name and address, and per address.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::clock::locked;

const WINDOW: Duration = Duration::from_secs(60);
const PER_NAME: usize = 5;
const PER_ADDRESS: usize = 50;
/// Entries kept; when there are more, the ones that are over go.
const MOST: usize = 10_000;

/// A name at an address, or (without a name) everyone there.
type Who = (Option<String>, String);

/// Counts failures.
#[derive(Default)]
pub struct Limiter {
    failures: Mutex<HashMap<Who, VecDeque<Instant>>>,
}

impl Limiter {
    /// Counts an attempt before it is made, so that attempts at the same time count too; a success takes it back with
    /// [`Limiter::forgive`].
    ///
    /// # Errors
    /// There were too many: seconds until the next may be made.
    pub fn attempt(&self, name: &str, address: &str, now: Instant) -> Result<(), u64> {
        let mut failures = locked(&self.failures);
        if failures.len() > MOST {
            failures.retain(|_, times| times.back().is_some_and(|t| now.duration_since(*t) < WINDOW));
        }
        let keys =
            [(Some(clip(name)), address.to_owned(), PER_NAME), (None, address.to_owned(), PER_ADDRESS)];
        for (name, address, most) in &keys {
            let times = failures.entry((name.clone(), address.clone())).or_default();
            while times.front().is_some_and(|t| now.duration_since(*t) >= WINDOW) {
                times.pop_front();
            }
            if times.len() >= *most {
                let wait = times.front().map_or(WINDOW, |t| WINDOW.saturating_sub(now.duration_since(*t)));
                return Err(wait.as_secs() + 1);
            }
        }
        for (name, address, _) in keys {
            failures.entry((name, address)).or_default().push_back(now);
        }
        Ok(())
    }

    /// The attempt was good.
    pub fn forgive(&self, name: &str, address: &str) {
        let mut failures = locked(&self.failures);
        failures.remove(&(Some(clip(name)), address.to_owned()));
        if let Some(times) = failures.get_mut(&(None, address.to_owned())) {
            times.pop_back();
        }
    }
}

fn clip(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_a_minute_and_no_more() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for i in 0..5 {
            assert_eq!(limiter.attempt("ann", "::1", start + Duration::from_secs(i)), Ok(()));
        }
        assert_eq!(limiter.attempt("ann", "::1", start + Duration::from_secs(10)), Err(51));
        assert_eq!(limiter.attempt("bob", "::1", start + Duration::from_secs(10)), Ok(()), "another name");
        assert_eq!(limiter.attempt("ann", "::2", start + Duration::from_secs(10)), Ok(()), "another address");
        assert_eq!(limiter.attempt("ann", "::1", start + Duration::from_secs(61)), Ok(()));
        limiter.forgive("ann", "::1");
        for _ in 0..5 {
            assert_eq!(limiter.attempt("ann", "::1", start + Duration::from_secs(62)), Ok(()));
        }
    }
}
