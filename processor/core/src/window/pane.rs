use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::function::WindowFunction;
use super::panes::Arrival;
use super::schedule::{Assigned, Epoch};
use super::timers::Timers;
use super::trigger::{Clock, Rules, TriggerState};
use crate::time::{TimeDomain, TimeWindow};

pub(super) const DOMAINS: [TimeDomain; 2] = [TimeDomain::Event, TimeDomain::Processing];

/// Picks the element of a domain.
pub(super) fn of<T>([event, processing]: &mut [T; 2], domain: TimeDomain) -> &mut T {
    match domain {
        TimeDomain::Event => event,
        TimeDomain::Processing => processing,
    }
}

/// The panes of a key.
#[derive(Debug)]
pub(super) struct Key<Acc> {
    pub name: Arc<str>,
    /// By window.
    pub panes: Vec<Pane<Acc>>,
    /// Its earliest timer, by domain.
    pub planned: [Option<i64>; 2],
}

/// A window of a key. In this order: what a record needs is together.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Pane<Acc> {
    pub window: TimeWindow,
    pub trigger: TriggerState,
    pub dirty: bool,
    /// Records for which this is the first of their windows: the ones that count as pending.
    pub owned: u64,
    /// `None`: purged.
    pub contents: Option<Acc>,
    pub cleanup: i64,
    /// The window as it was made: its name in the state, which stays when a session grows.
    pub id: TimeWindow,
    /// When to look at it, by domain.
    pub due: [Option<i64>; 2],
}

/// A pane as bytes know it. `Acc` is a reference when writing.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPane<Acc> {
    /// `None`: as its name says.
    pub window: Option<TimeWindow>,
    pub cleanup: i64,
    pub owned: u64,
    pub trigger: TriggerState,
    pub contents: Option<Acc>,
}

impl<Acc> Pane<Acc> {
    pub fn new(Assigned { window, cleanup }: Assigned) -> Self {
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

    pub fn assigned(&self) -> Assigned {
        Assigned { window: self.window, cleanup: self.cleanup }
    }

    pub fn plan(&mut self, rules: &Rules, clock: Clock) {
        self.due = DOMAINS.map(|domain| rules.due(&self.trigger, self.window, self.cleanup, domain, clock));
    }

    pub fn touch(&mut self, key: &Arc<str>, dirty: &mut Vec<(Arc<str>, TimeWindow)>) {
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

    pub fn stored(&self) -> StoredPane<&Acc> {
        StoredPane {
            window: (self.window != self.id).then_some(self.window),
            cleanup: self.cleanup,
            owned: self.owned,
            trigger: self.trigger,
            contents: self.contents.as_ref(),
        }
    }
}

/// Whether two sessions are one: they overlap or touch.
fn meet(a: TimeWindow, b: TimeWindow) -> bool {
    a.start <= b.end && b.start <= a.end
}

impl<Acc> Key<Acc> {
    pub fn new(name: &str) -> Self {
        Self { name: Arc::from(name), panes: Vec::with_capacity(1), planned: [None; 2] }
    }

    /// Index of the window's pane, made if it is not there. The window is most often the last.
    pub fn pane(&mut self, assigned: Assigned) -> (usize, bool) {
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

    pub fn meeting(&self, window: TimeWindow, epoch: &Epoch) -> Option<usize> {
        self.panes.iter().position(|pane| {
            meet(pane.window, window)
                && epoch.contains(pane.window.start)
                && pane.window != TimeWindow::GLOBAL
        })
    }

    /// Index of the session's pane, merged with all that it meets, and whether its window is new.
    pub fn session<P, I, F: WindowFunction<P, I, Acc = Acc>>(
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
    pub fn add<P, I, F: WindowFunction<P, I, Acc = Acc>>(
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
