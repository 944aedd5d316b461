use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::function::WindowFunction;
use super::schedule::{Assigned, Epoch};
use super::timers::Timers;
use super::trigger::{Clock, Rules, TriggerState};
use crate::time::TimeDomain;
use crate::time::{EventTime, TimeWindow};

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

#[derive(Debug)]
struct Key<Acc> {
    name: Arc<str>,
    /// By window.
    panes: Vec<Pane<Acc>>,
    /// Its earliest timer, by domain.
    planned: [Option<i64>; 2],
}

/// In this order: what a record needs is together.
#[derive(Debug)]
#[repr(C)]
struct Pane<Acc> {
    window: TimeWindow,
    trigger: TriggerState,
    dirty: bool,
    /// Records for which this is the first of their windows: the ones that count as pending.
    owned: u64,
    /// `None`: purged.
    contents: Option<Acc>,
    cleanup: i64,
    /// The window as it was made: its name in the state, which stays when a session grows.
    id: TimeWindow,
    /// When to look at it, by domain.
    due: [Option<i64>; 2],
}

/// A pane as bytes know it. `Acc` is a reference when writing.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPane<Acc> {
    /// `None`: as its name says.
    window: Option<TimeWindow>,
    cleanup: i64,
    owned: u64,
    trigger: TriggerState,
    contents: Option<Acc>,
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

const DOMAINS: [TimeDomain; 2] = [TimeDomain::Event, TimeDomain::Processing];

/// Picks the element of a domain.
fn of<T>([event, processing]: &mut [T; 2], domain: TimeDomain) -> &mut T {
    match domain {
        TimeDomain::Event => event,
        TimeDomain::Processing => processing,
    }
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

impl<Acc> Pane<Acc> {
    fn new(Assigned { window, cleanup }: Assigned) -> Self {
        Self {
            window,
            contents: None,
            owned: 0,
            dirty: false,
            cleanup,
            id: window,
            trigger: TriggerState::default(),
            due: [None; 2],
        }
    }

    fn assigned(&self) -> Assigned {
        Assigned { window: self.window, cleanup: self.cleanup }
    }

    fn plan(&mut self, rules: &Rules, clock: Clock) {
        self.due = DOMAINS.map(|domain| rules.due(&self.trigger, self.window, self.cleanup, domain, clock));
    }

    fn touch(&mut self, key: &Arc<str>, dirty: &mut Vec<(Arc<str>, TimeWindow)>) {
        if !std::mem::replace(&mut self.dirty, true) {
            dirty.push((key.clone(), self.id));
        }
    }

    fn absorb<P, I, F: WindowFunction<P, I, Acc = Acc>>(&mut self, function: &F, other: Self) {
        self.window.start = self.window.start.min(other.window.start);
        self.window.end = self.window.end.max(other.window.end);
        self.owned = self.owned.saturating_add(other.owned);
        self.trigger.merge(other.trigger);
        match (&mut self.contents, other.contents) {
            (Some(mine), Some(others)) => function.merge(mine, &others),
            (mine @ None, others) => *mine = others,
            (Some(_), None) => {}
        }
    }
}

/// Whether two sessions are one: they overlap or touch.
fn meet(a: TimeWindow, b: TimeWindow) -> bool {
    a.start <= b.end && b.start <= a.end
}

impl<Acc> Key<Acc> {
    fn new(name: &str) -> Self {
        Self { name: Arc::from(name), panes: Vec::with_capacity(1), planned: [None; 2] }
    }

    /// Index of the window's pane, made if it is not there. The window is most often the last.
    fn pane(&mut self, assigned: Assigned) -> (usize, bool) {
        let after = self.panes.iter().rposition(|pane| pane.window <= assigned.window);
        match after {
            Some(index) if self.panes.get(index).is_some_and(|pane| pane.window == assigned.window) => {
                (index, false)
            }
            _ => {
                let index = after.map_or(0, |index| index + 1);
                self.panes.insert(index, Pane::new(assigned));
                (index, true)
            }
        }
    }

    fn meeting(&self, window: TimeWindow, epoch: &Epoch) -> Option<usize> {
        self.panes.iter().position(|pane| {
            meet(pane.window, window)
                && epoch.contains(pane.window.start)
                && pane.window != TimeWindow::GLOBAL
        })
    }

    /// Index of the session's pane, merged with all that it meets, and whether its window is new.
    fn session<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        window: TimeWindow,
        epoch: &Epoch,
        function: &F,
        dirty: &mut Vec<(Arc<str>, TimeWindow)>,
    ) -> (usize, bool) {
        let Some(first) = self.meeting(window, epoch) else { return self.pane(epoch.assigned(window)) };
        // Those that meet are neighbours, and no others meet the cover: sessions of a key are apart.
        while self
            .panes
            .get(first + 1)
            .is_some_and(|next| meet(next.window, window) && epoch.contains(next.window.start))
        {
            let mut other = self.panes.remove(first + 1);
            other.touch(&self.name, dirty);
            if let Some(pane) = self.panes.get_mut(first) {
                pane.absorb(function, other);
            }
        }
        let Some(pane) = self.panes.get_mut(first) else { return self.pane(epoch.assigned(window)) };
        let cover =
            TimeWindow { start: pane.window.start.min(window.start), end: pane.window.end.max(window.end) };
        let Assigned { window, cleanup } = epoch.assigned(cover);
        // The cleanup tells a pane that took over a neighbour, which has its window already, from one that did not.
        let grown = pane.window != window || pane.cleanup != cleanup;
        (pane.window, pane.cleanup) = (window, cleanup);
        (first, grown)
    }

    /// Adds the record to a pane, fires it if the trigger says so. `fresh`: the window is new, or another than before.
    fn add<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        (index, fresh): (usize, bool),
        arrival: &Arrival<'_, I, F>,
        owned: u64,
        timers: &mut [Timers; 2],
        dirty: &mut Vec<(Arc<str>, TimeWindow)>,
        fire: &mut impl FnMut(&Arc<str>, Assigned, &Acc),
    ) {
        let Arrival { function, rules, clock, .. } = arrival;
        let Some(pane) = self.panes.get_mut(index) else { return };
        let assigned = pane.assigned();
        let acc = pane.contents.get_or_insert_with(|| function.create());
        function.add(acc, arrival.record, arrival.at);
        pane.owned += owned;
        let plan = pane.trigger.plan;
        if rules.on_element(&mut pane.trigger, pane.window, arrival.t, *clock) {
            fire(&self.name, assigned, acc);
            if rules.purging {
                pane.contents = None;
            }
        }
        pane.touch(&self.name, dirty);
        if fresh || plan != pane.trigger.plan {
            pane.plan(rules, *clock);
            for domain in DOMAINS {
                let due = *of(&mut pane.due, domain);
                of(timers, domain).plan(of(&mut self.planned, domain), due, &self.name);
            }
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
            of(&mut self.timers, domain).plan(planned_of(key, domain), next, &name);
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

impl<Acc> Pane<Acc> {
    fn stored(&self) -> StoredPane<&Acc> {
        StoredPane {
            window: (self.window != self.id).then_some(self.window),
            cleanup: self.cleanup,
            owned: self.owned,
            trigger: self.trigger,
            contents: self.contents.as_ref(),
        }
    }
}

fn planned_of<Acc>(key: &mut Key<Acc>, domain: TimeDomain) -> &mut Option<i64> {
    of(&mut key.planned, domain)
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
