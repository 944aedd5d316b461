//! Timers: points in time at which something is to be done for a key.
//!
//! [`Timers`] are state, as Flink's `InternalTimerService` has them: one per domain, time and key, however often it is
//! registered, fired in the order of (time, key). They travel with the state of their operator.
//!
//! ```
//! use millrace_core::time::TimeDomain;
//! use millrace_core::timer::Timers;
//!
//! let mut timers = Timers::default();
//! timers.register(TimeDomain::Event, 20, "a");
//! timers.register(TimeDomain::Event, 10, "b");
//! timers.register(TimeDomain::Event, 10, "b");
//! timers.register(TimeDomain::Event, 10, "a");
//! timers.delete(TimeDomain::Event, 20, "a");
//! let mut fire = || timers.pop(TimeDomain::Event, 30).map(|(time, key)| format!("{time} {key}"));
//! assert_eq!((fire(), fire(), fire()), (Some("10 a".into()), Some("10 b".into()), None));
//! ```

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::state::{Change, StateError, Table, decode, encode};
use crate::time::TimeDomain;

/// The timers of an operator.
#[derive(Debug, Default)]
pub struct Timers {
    event: BTreeSet<(i64, Arc<str>)>,
    processing: BTreeSet<(i64, Arc<str>)>,
    /// What changed, and whether the changelog has it.
    changed: BTreeMap<(TimeDomain, i64, Arc<str>), bool>,
}

impl Timers {
    fn of(&mut self, domain: TimeDomain) -> &mut BTreeSet<(i64, Arc<str>)> {
        match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        }
    }

    /// Sets a timer, unless it is set already.
    pub fn register(&mut self, domain: TimeDomain, time: i64, key: &str) {
        let key: Arc<str> = Arc::from(key);
        if self.of(domain).insert((time, key.clone())) {
            self.changed.entry((domain, time, key)).or_insert(false);
        }
    }

    /// Takes a timer back, if it is set.
    pub fn delete(&mut self, domain: TimeDomain, time: i64, key: &str) {
        let timer = (time, Arc::from(key));
        if self.of(domain).remove(&timer) {
            self.changed.entry((domain, timer.0, timer.1)).or_insert(true);
        }
    }

    /// Takes the next timer that is due at this time of its clock.
    pub fn pop(&mut self, domain: TimeDomain, now: i64) -> Option<(i64, Arc<str>)> {
        let set = self.of(domain);
        let (time, key) = set.first().filter(|(time, _)| *time <= now)?.clone();
        set.pop_first();
        self.changed.entry((domain, time, key.clone())).or_insert(true);
        Some((time, key))
    }

    fn set(&self, domain: TimeDomain) -> &BTreeSet<(i64, Arc<str>)> {
        match domain {
            TimeDomain::Event => &self.event,
            TimeDomain::Processing => &self.processing,
        }
    }
}

/// What a timer's value says: nothing.
const SET: &[u8] = &[crate::state::VERSION];

impl Table for Timers {
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let (_, _, key): (TimeDomain, i64, String) = decode(key)?;
        Ok(Some(key.into_bytes()))
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        let mut bytes = Vec::new();
        for ((domain, time, key), known) in std::mem::take(&mut self.changed) {
            encode(&(domain, time, &*key), &mut bytes);
            let set = self.set(domain).contains(&(time, key));
            if set != known {
                change(&bytes, set.then_some(SET));
            }
        }
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        let mut bytes = Vec::new();
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            for (time, key) in self.set(domain) {
                encode(&(domain, time, &**key), &mut bytes);
                entry(&bytes, Some(SET));
            }
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let (domain, time, key): (TimeDomain, i64, Arc<str>) = decode(key)?;
        match value {
            Some(bytes) => {
                decode::<()>(bytes)?;
                self.of(domain).insert((time, key));
            }
            None => {
                self.of(domain).remove(&(time, key));
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.event.len() + self.processing.len()
    }
}

/// At most one point in time per key, derived from other state and not part of it.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    due: BTreeSet<(i64, K)>,
    at: FxHashMap<K, i64>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), at: FxHashMap::default() }
    }
}

impl<K: Ord + Hash + Clone> Deadlines<K> {
    /// Sets the deadline of a key, unless there is an earlier one. `own` makes the key to hold, where there is none.
    pub fn no_later_than<Q>(&mut self, key: &Q, time: i64, own: impl FnOnce() -> K)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let key = match self.at.get(key) {
            Some(planned) if *planned <= time => return,
            Some(_) => match self.at.remove_entry(key) {
                Some((key, planned)) => {
                    let mut timer = (planned, key);
                    self.due.remove(&timer);
                    timer.0 = time;
                    timer.1
                }
                None => return,
            },
            None => own(),
        };
        self.at.insert(key.clone(), time);
        self.due.insert((time, key));
    }

    /// Takes the deadline of a key back.
    pub fn cancel<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if let Some((key, time)) = self.at.remove_entry(key) {
            self.due.remove(&(time, key));
        }
    }

    /// Takes the next deadline that has been reached, in the order of (time, key).
    pub fn pop(&mut self, now: i64) -> Option<(i64, K)> {
        self.due.first().filter(|(time, _)| *time <= now)?;
        let (time, key) = self.due.pop_first()?;
        self.at.remove(&key);
        Some((time, key))
    }

    /// All deadlines come so much earlier.
    pub fn bring_forward(&mut self, by: i64) {
        let due = std::mem::take(&mut self.due);
        self.due = due.into_iter().map(|(time, key)| (time.saturating_sub(by), key)).collect();
        self.at.values_mut().for_each(|time| *time = time.saturating_sub(by));
    }

    /// Takes all back.
    pub fn clear(&mut self) {
        self.due.clear();
        self.at.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn old_bytes_still_load() {
        // Written by version 1. This line never changes: a new version adds a line.
        let mut timers = Timers::default();
        timers.load(&[1, 1, 40, 1, b'k'], Some(&[1])).unwrap();
        assert_eq!(timers.pop(TimeDomain::Processing, 20), Some((20, Arc::from("k"))));
    }

    #[test]
    fn what_comes_and_goes_between_commits_is_not_told() {
        let mut timers = Timers::default();
        timers.register(TimeDomain::Event, 1, "a");
        timers.register(TimeDomain::Event, 2, "a");
        timers.delete(TimeDomain::Event, 1, "a");
        let mut told = Vec::new();
        timers.changes(&mut |key, value| told.push((key.to_vec(), value.map(<[u8]>::to_vec))));
        timers.pop(TimeDomain::Event, 2);
        timers.register(TimeDomain::Event, 2, "a");
        timers.changes(&mut |key, value| told.push((key.to_vec(), value.map(<[u8]>::to_vec))));
        timers.delete(TimeDomain::Event, 2, "a");
        timers.changes(&mut |key, value| told.push((key.to_vec(), value.map(<[u8]>::to_vec))));
        let key = vec![1, 0, 4, 1, b'a'];
        assert_eq!(told, [(key.clone(), Some(vec![1])), (key, None)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn timers_are_a_set_that_fires_in_order(
            steps in prop::collection::vec((0..5_u8, -20..20_i64, 0..3_u8), 1..80)
        ) {
            let (mut timers, mut model) = (Timers::default(), BTreeSet::new());
            let (mut changelog, mut clock) = (BTreeMap::new(), -20_i64);
            for (what, time, key) in steps {
                let key = format!("k{key}");
                match what {
                    0 | 1 => {
                        timers.register(TimeDomain::Event, time, &key);
                        model.insert((time, key));
                    }
                    2 => {
                        timers.delete(TimeDomain::Event, time, &key);
                        model.remove(&(time, key));
                    }
                    3 => {
                        clock = clock.max(time);
                        while let Some((time, key)) = timers.pop(TimeDomain::Event, clock) {
                            prop_assert_eq!(model.pop_first(), Some((time, key.to_string())));
                        }
                        prop_assert!(model.first().is_none_or(|(time, _)| *time > clock));
                    }
                    _ => {
                        timers.changes(&mut |key, value| {
                            let before = match value {
                                Some(value) => changelog.insert(key.to_vec(), value.to_vec()),
                                None => changelog.remove(key),
                            };
                            assert_eq!(before.is_some(), value.is_none(), "told what is known");
                        });
                        timers = Timers::default();
                        for (key, value) in &changelog {
                            timers.load(key, Some(value)).unwrap();
                        }
                    }
                }
                prop_assert_eq!(timers.len(), model.len());
            }
        }
    }
}
