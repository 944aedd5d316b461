use std::sync::Arc;

use super::function::WindowFunction;
use super::pane::{DOMAINS, Key, Pane, StoredPane, of};
use super::schedule::{Assigned, Epoch};
use super::timers::Timers;
use super::trigger::{Clock, Rules};
use crate::time::{EventTime, TimeDomain, TimeWindow};
use rustc_hash::FxHashMap;

/// An accumulator and a trigger state for each key and window: what all windows have but those that are
/// [sliced](super::slices).
#[derive(Debug)]
pub(super) struct Panes<Acc> {
    keys: FxHashMap<Arc<str>, Key<Acc>>,
    timers: [Timers; 2],
    dirty: Vec<(Arc<str>, TimeWindow)>,
    /// Keys without a pane since the last advance. They stay until the next one, so that a key with records in each of
    /// its windows is made once.
    resting: Vec<Arc<str>>,
    /// Records whose first window is here.
    pub pending: u64,
}

/// A record on its way into windows.
pub(super) struct Arrival<'a, I, F> {
    pub key: &'a str,
    pub record: &'a I,
    pub at: EventTime,
    /// The time that windows go by: event time, or the clock.
    pub t: i64,
    /// What it counts for in its first window: see `Context::keep`.
    pub owned: u64,
    pub function: &'a F,
    pub rules: Rules,
    pub clock: Clock,
}

/// What an advance of time has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Advanced {
    /// Records whose last window is forgotten.
    pub done: u64,
    /// Windows that nothing will ever forget: a bug.
    pub left: u64,
}

impl<Acc> Default for Panes<Acc> {
    fn default() -> Self {
        Self {
            keys: FxHashMap::default(),
            timers: Default::default(),
            dirty: Vec::new(),
            resting: Vec::new(),
            pending: 0,
        }
    }
}

impl<Acc> Panes<Acc> {
    /// Adds a record to windows that are not late, by start.
    pub fn add<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        arrival: &Arrival<'_, I, F>,
        first: Assigned,
        others: impl Iterator<Item = Assigned>,
        fire: &mut impl FnMut(&Arc<str>, Assigned, &Acc),
    ) {
        let Self { keys, timers, dirty, pending, .. } = self;
        *pending += arrival.owned;
        with_key(keys, arrival.key, |key| {
            let pane = key.pane(first);
            key.add(pane, arrival, arrival.owned, timers, dirty, fire);
            for assigned in others {
                let pane = key.pane(assigned);
                key.add(pane, arrival, 0, timers, dirty, fire);
            }
        });
    }

    /// Whether a session of the key would take in the window.
    pub fn meets(&self, key: &str, window: TimeWindow, epoch: &Epoch) -> bool {
        self.keys.get(key).is_some_and(|key| key.meeting(window, epoch).is_some())
    }

    /// Adds a record to its session, merged with those that it meets.
    pub fn add_session<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        arrival: &Arrival<'_, I, F>,
        window: TimeWindow,
        epoch: &Epoch,
        fire: &mut impl FnMut(&Arc<str>, Assigned, &Acc),
    ) {
        let Self { keys, timers, dirty, pending, .. } = self;
        *pending += arrival.owned;
        with_key(keys, arrival.key, |key| {
            let pane = key.session(window, epoch, arrival.function, dirty);
            key.add(pane, arrival, arrival.owned, timers, dirty, fire);
        });
    }

    /// The earliest timer.
    pub fn first(&mut self, domain: TimeDomain) -> Option<i64> {
        of(&mut self.timers, domain).first()
    }

    /// Does what is due at `at`, by key and window; time is on its way to `clock`.
    pub fn advance(
        &mut self,
        domain: TimeDomain,
        at: i64,
        rules: &Rules,
        clock: Clock,
        fire: &mut impl FnMut(&Arc<str>, Assigned, &Acc),
    ) -> Advanced {
        let mut advanced = Advanced::default();
        for name in self.resting.drain(..) {
            if self.keys.get(&name).is_some_and(|key| key.panes.is_empty()) {
                self.keys.remove(&name);
            }
        }
        for name in of(&mut self.timers, domain).take(at) {
            let Some(key) = self.keys.get_mut(&name) else { continue };
            let planned = of(&mut key.planned, domain);
            if *planned != Some(at) {
                continue;
            }
            *planned = None;
            let mut next = None;
            key.panes.retain_mut(|pane| {
                if *of(&mut pane.due, domain) == Some(at) {
                    let before = pane.trigger;
                    let fires = rules.on_time(&mut pane.trigger, pane.window, domain, at, clock.get(domain));
                    if fires && let Some(contents) = &pane.contents {
                        fire(&name, pane.assigned(), contents);
                        if rules.purging {
                            pane.contents = None;
                            pane.touch(&name, &mut self.dirty);
                        }
                    }
                    if rules.time == domain && pane.cleanup <= at {
                        pane.touch(&name, &mut self.dirty);
                        advanced.done = advanced.done.saturating_add(pane.owned);
                        return false;
                    }
                    if before != pane.trigger {
                        pane.touch(&name, &mut self.dirty);
                    }
                    pane.plan(rules, clock.at(domain, at));
                }
                let due = *of(&mut pane.due, domain);
                // Each has a time at which it goes, unless it stays for ever.
                if rules.time == domain && pane.cleanup < i64::MAX && due.is_none_or(|due| due <= at) {
                    advanced.left += 1;
                }
                next = next.into_iter().chain(due).min();
                true
            });
            of(&mut self.timers, domain).plan(of(&mut key.planned, domain), next, &name);
            if key.panes.is_empty() {
                self.resting.push(name);
            }
        }
        self.pending = self.pending.saturating_sub(advanced.done);
        advanced
    }

    /// Derives the timers from the state.
    pub fn start(&mut self, rules: &Rules, clock: Clock) {
        self.timers.iter_mut().for_each(Timers::clear);
        for key in self.keys.values_mut() {
            key.panes.sort_by_key(|pane| pane.window);
            key.planned = [None; 2];
            for pane in &mut key.panes {
                pane.plan(rules, clock);
                for domain in DOMAINS {
                    let due = *of(&mut pane.due, domain);
                    of(&mut self.timers, domain).plan(of(&mut key.planned, domain), due, &key.name);
                }
            }
        }
    }

    /// Takes what changed: a pane, or `None` if it is gone.
    pub fn changes(&mut self, mut change: impl FnMut(&str, TimeWindow, Option<StoredPane<&Acc>>)) {
        for (name, id) in self.dirty.drain(..) {
            let pane =
                self.keys.get_mut(&name).and_then(|key| key.panes.iter_mut().find(|pane| pane.id == id));
            match pane {
                Some(pane) if pane.dirty => {
                    pane.dirty = false;
                    change(&name, id, Some(pane.stored()));
                }
                // Told already: the key was dirty twice, once for a window of the same bounds that went away.
                Some(_) => {}
                None => change(&name, id, None),
            }
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, TimeWindow, StoredPane<&Acc>)> {
        self.keys.values().flat_map(|key| key.panes.iter().map(|pane| (&*key.name, pane.id, pane.stored())))
    }

    /// Puts a pane back, or takes it away. The timers follow with [`Panes::start`].
    pub fn load(&mut self, name: &str, id: TimeWindow, stored: Option<StoredPane<Acc>>) {
        if let Some(key) = self.keys.get_mut(name) {
            key.panes.retain(|pane| {
                let other = pane.id != id;
                if !other {
                    self.pending = self.pending.saturating_sub(pane.owned);
                }
                other
            });
            if key.panes.is_empty() {
                self.keys.remove(name);
            }
        }
        if let Some(StoredPane { window, cleanup, owned, trigger, contents }) = stored {
            self.pending = self.pending.saturating_add(owned);
            let window = window.unwrap_or(id);
            let pane = Pane { id, owned, trigger, contents, ..Pane::new(Assigned { window, cleanup }) };
            with_key(&mut self.keys, name, |key| key.panes.push(pane));
        }
    }

    /// As a bug would do it: the windows are there, and nothing looks at them any more.
    #[cfg(test)]
    pub fn forget_timers_of(&mut self, window: TimeWindow) {
        let panes = self.keys.values_mut().flat_map(|key| &mut key.panes);
        panes.filter(|pane| pane.window == window).for_each(|pane| pane.due = [None; 2]);
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(|key| key.panes.len()).sum()
    }
}

/// Runs `f` on a key, made if it is not there, with one look-up if it is.
fn with_key<Acc>(keys: &mut FxHashMap<Arc<str>, Key<Acc>>, name: &str, f: impl FnOnce(&mut Key<Acc>)) {
    if let Some(key) = keys.get_mut(name) {
        f(key);
    } else {
        let mut key = Key::new(name);
        f(&mut key);
        keys.insert(key.name.clone(), key);
    }
}
