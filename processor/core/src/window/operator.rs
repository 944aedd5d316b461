use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::WindowSpec;
use super::function::WindowFunction;
use super::pane::StoredPane;
use super::panes::{Advanced, Arrival, Panes};
use super::schedule::{Assigned, Schedule};
use super::slices::{Slices, Slicing, StoredSlice};
use super::trigger::{Clock, Rules};
use crate::invariant::Violation;
use crate::state::{Change, StateError, Table, decode, encode};
use crate::stream::{Context, Operator};
use crate::time::TimeDomain;
use crate::time::{EventTime, TimeWindow};

/// A result of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Windowed<O> {
    /// The key.
    pub key: Arc<str>,
    /// The window.
    pub window: TimeWindow,
    /// Its result.
    pub value: O,
}

/// Keyed windows.
///
/// The path of a record: assign, by the specifications in force -> late? -> add to its slice, or merge sessions and add
/// to its panes -> trigger. The path of time: due timers in order of (time, key, window), each one fires or forgets its
/// window.
pub struct WindowOperator<K, S, L, G, F, Acc> {
    key: K,
    spec: S,
    lateness: L,
    gap: G,
    function: F,
    rules: Rules,
    schedule: Schedule,
    schedule_dirty: bool,
    /// The watermark that has been dealt with: windows that it has gone past are closed.
    passed: i64,
    panes: Panes<Acc>,
    /// By specification: one, but for a change from sliding windows to sliding windows.
    slices: BTreeMap<u32, Slices<Acc>>,
    scratch: (Vec<u8>, Vec<u8>),
}

#[derive(Serialize, Deserialize)]
enum EntryKey<'a> {
    Schedule,
    Pane { key: &'a str, id: TimeWindow },
    Slice { epoch: u32, key: &'a str, start: i64 },
}

impl<K, S, L, G, F, Acc> WindowOperator<K, S, L, G, F, Acc> {
    pub(super) fn new(key: K, spec: S, lateness: L, gap: G, function: F, rules: Rules) -> Self {
        Self {
            key,
            spec,
            lateness,
            gap,
            function,
            rules,
            schedule: Schedule::default(),
            schedule_dirty: false,
            passed: i64::MIN,
            panes: Panes::default(),
            slices: BTreeMap::new(),
            scratch: Default::default(),
        }
    }

    /// What the parameters say: windows, and allowed lateness.
    fn specification<P>(&self, params: &P) -> (WindowSpec, i64)
    where
        S: Fn(&P) -> WindowSpec,
        L: Fn(&P) -> i64,
    {
        let late = self.rules.time == TimeDomain::Event;
        ((self.spec)(params), if late { (self.lateness)(params) } else { 0 })
    }

    /// Does everything that is due in a time domain.
    fn advance<P, I>(
        &mut self,
        domain: TimeDomain,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Windowed<F::Out>, EventTime, &mut Context<'_, P>),
    ) where
        F: WindowFunction<P, I, Acc = Acc>,
    {
        let Self { panes, slices, function, rules, schedule, .. } = self;
        let clock = clock(ctx);
        let until = clock.get(domain);
        let passed = match (rules.time, domain) {
            (TimeDomain::Event, TimeDomain::Event) => self.passed,
            (TimeDomain::Event, TimeDomain::Processing) => clock.watermark,
            // Nothing is late by the clock.
            (TimeDomain::Processing, _) => i64::MIN,
        };
        loop {
            // Slices know event time only.
            let sliced = slices.values().filter(|_| domain == TimeDomain::Event);
            let first = sliced.filter_map(Slices::first).chain(panes.first(domain)).min();
            let Some(at) = first.filter(|&at| at <= until) else { break };
            let Advanced { mut done, mut left } =
                panes.advance(domain, at, rules, clock, &mut firing(function, passed, ctx, out));
            for (id, slices) in slices.iter_mut().filter(|_| domain == TimeDomain::Event) {
                match schedule.epoch(*id).and_then(Slicing::of) {
                    Some(slicing) => {
                        let mut fire = firing(function, passed, ctx, out);
                        let more = slices.advance(&slicing, at, function, &mut fire);
                        done = done.saturating_add(more.done);
                        left += more.left;
                    }
                    None if slices.is_empty() => {}
                    None => ctx.violation(Violation::TimerWithoutWindow),
                }
            }
            ctx.done(done);
            if left > 0 {
                ctx.violation(Violation::StateLeftBehind);
            }
        }
        self.passed = clock.watermark;
        self.schedule_dirty |= domain == rules.time && schedule.retire(until);
    }
}

fn clock<P>(ctx: &Context<'_, P>) -> Clock {
    Clock { watermark: ctx.watermark.0, now: ctx.now }
}

/// Hands on the result of a window, which must not have been closed when time had `passed`.
fn firing<P, I, F: WindowFunction<P, I>>(
    function: &F,
    passed: i64,
    ctx: &mut Context<'_, P>,
    out: &mut impl FnMut(&Windowed<F::Out>, EventTime, &mut Context<'_, P>),
) -> impl FnMut(&Arc<str>, Assigned, &F::Acc) {
    move |key, Assigned { window, cleanup }, acc| {
        // "At i64::MAX, never."
        if cleanup <= passed && cleanup < i64::MAX {
            ctx.violation(Violation::OutputForClosedWindow);
        }
        let value = function.result(key, window, acc, ctx.params);
        let result = Windowed { key: key.clone(), window, value };
        ctx.derive(|ctx| out(&result, EventTime(window.last()), ctx));
    }
}

impl<K, S, L, G, F, P, I> Operator<P, I> for WindowOperator<K, S, L, G, F, F::Acc>
where
    K: Fn(&I) -> &str,
    S: Fn(&P) -> WindowSpec,
    L: Fn(&P) -> i64,
    G: Fn(&I, &P) -> i64,
    F: WindowFunction<P, I>,
{
    type Out = Windowed<F::Out>;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { key, gap, function, rules, schedule, panes, slices, .. } = self;
        let clock = clock(ctx);
        let (t, watermark) = match rules.time {
            TimeDomain::Event => (at.0, clock.watermark),
            // Nothing is late by the clock.
            TimeDomain::Processing => (clock.now, i64::MIN),
        };
        let key = key(record);
        let mut arrival =
            Arrival { key, record, at, t, owned: 0, function: &*function, rules: *rules, clock };
        // The first window that takes the record owns it.
        let mut kept = false;
        let mut keep =
            |ctx: &mut Context<'_, P>| if std::mem::replace(&mut kept, true) { 0 } else { ctx.keep() };
        let (mut assigned, mut tardy) = (false, false);
        let open = |window: &Assigned| window.cleanup > watermark;
        // One epoch, but for a time after a change.
        for epoch in schedule.epochs() {
            if let Some(slicing) = rules.slicing(*epoch) {
                let Some((first, last)) = slicing.starts(t) else { continue };
                (assigned, tardy) = (true, tardy || slicing.window(first).last() <= watermark);
                if slicing.cleanup(last) > watermark {
                    arrival.owned = keep(ctx);
                    let slices = slices.entry(epoch.id).or_default();
                    slices.add(&slicing, &arrival, &mut firing(function, watermark, ctx, out));
                }
            } else if let Some(session) = epoch.session(t, || gap(record, ctx.params)) {
                assigned = true;
                // A session is judged after merging: an old record is in time if it joins a live one.
                let is_open = open(&epoch.assigned(session));
                tardy |= is_open && session.last() <= watermark;
                if is_open || panes.meets(key, session, epoch) {
                    arrival.owned = keep(ctx);
                    panes.add_session(&arrival, session, epoch, &mut firing(function, watermark, ctx, out));
                }
            } else {
                // They end in this order: those behind the first that is open are open.
                let mut windows = epoch.assign(t).inspect(|assigned_to| {
                    (assigned, tardy) = (true, tardy || assigned_to.window.last() <= watermark);
                });
                if let Some(first) = windows.find(open) {
                    arrival.owned = keep(ctx);
                    panes.add(&arrival, first, windows, &mut firing(function, watermark, ctx, out));
                }
            }
        }
        match (kept, assigned) {
            (true, _) => ctx.windowed(tardy),
            // Between two windows, and not too late for them.
            (false, false) if schedule.skips(t, watermark) => ctx.filtered(),
            (false, _) => {
                ctx.windowed(true);
                ctx.late();
            }
        }
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        self.advance(TimeDomain::Event, ctx, out);
    }

    fn processing_time(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        self.advance(TimeDomain::Processing, ctx, out);
    }

    fn start(&mut self, ctx: &mut Context<'_, P>) {
        if self.schedule.is_unset() {
            let (spec, lateness) = self.specification(ctx.params);
            self.schedule = Schedule::new(spec, lateness);
        }
        let clock = clock(ctx);
        self.passed = clock.watermark;
        self.panes.start(&self.rules, clock);
        for (id, slices) in &mut self.slices {
            match self.schedule.epoch(*id).and_then(Slicing::of) {
                Some(slicing) => slices.start(&slicing, clock.watermark),
                None => ctx.violation(Violation::TimerWithoutWindow),
            }
        }
    }

    fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
        let (spec, lateness) = self.specification(ctx.params);
        let seen = match self.rules.time {
            TimeDomain::Event => ctx.max_seen,
            TimeDomain::Processing => Some(ctx.now),
        };
        self.schedule_dirty |= self.schedule.change(spec, lateness, seen);
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        visit(self);
    }

    fn pending(&self) -> u64 {
        self.panes.pending + self.slices.values().map(|slices| slices.pending).sum::<u64>()
    }
}

impl EntryKey<'_> {
    /// It borrows from the bytes, so it is read without the helper for owned types.
    fn read(key: &[u8]) -> Result<EntryKey<'_>, StateError> {
        let Some((_, rest)) = key.split_first() else { return Err(StateError::Damaged("no key".to_owned())) };
        postcard::from_bytes(rest).map_err(|e| StateError::Damaged(e.to_string()))
    }
}

impl<K, S, L, G, F, Acc: Serialize + DeserializeOwned> Table for WindowOperator<K, S, L, G, F, Acc> {
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(match EntryKey::read(key)? {
            EntryKey::Schedule => None,
            EntryKey::Pane { key, .. } | EntryKey::Slice { key, .. } => Some(key.as_bytes().to_vec()),
        })
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        let Self { panes, slices, scratch: (name, value), .. } = self;
        if std::mem::take(&mut self.schedule_dirty) {
            encode(&EntryKey::Schedule, name);
            encode(&self.schedule, value);
            change(name, Some(value));
        }
        panes.changes(|key, id, pane| {
            encode(&EntryKey::Pane { key, id }, name);
            change(name, pane.map(|pane| encoded(&pane, value)));
        });
        for (epoch, slices) in &mut *slices {
            slices.changes(|key, start, slice| {
                encode(&EntryKey::Slice { epoch: *epoch, key, start }, name);
                change(name, slice.map(|slice| encoded(&slice, value)));
            });
        }
        slices.retain(|&id, slices| !slices.is_empty() || self.schedule.epoch(id).is_some());
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        let (mut name, mut value) = (Vec::new(), Vec::new());
        if !self.schedule.is_unset() {
            encode(&EntryKey::Schedule, &mut name);
            entry(&name, Some(encoded(&self.schedule, &mut value)));
        }
        for (key, id, pane) in self.panes.entries() {
            encode(&EntryKey::Pane { key, id }, &mut name);
            entry(&name, Some(encoded(&pane, &mut value)));
        }
        for (epoch, slices) in &self.slices {
            for (key, start, slice) in slices.entries() {
                encode(&EntryKey::Slice { epoch: *epoch, key, start }, &mut name);
                entry(&name, Some(encoded(&slice, &mut value)));
            }
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        match EntryKey::read(key)? {
            EntryKey::Schedule => self.schedule = value.map(decode).transpose()?.unwrap_or_default(),
            EntryKey::Pane { key, id } => {
                self.panes.load(key, id, value.map(decode::<StoredPane<Acc>>).transpose()?);
            }
            EntryKey::Slice { epoch, key, start } => {
                let stored = value.map(decode::<StoredSlice<Acc>>).transpose()?;
                self.slices.entry(epoch).or_default().load(key, start, stored);
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.panes.len() + self.slices.values().map(Slices::len).sum::<usize>()
    }
}

fn encoded<'a>(value: &impl Serialize, out: &'a mut Vec<u8>) -> &'a [u8] {
    encode(value, out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::Count;
    use crate::effect::Effects;
    use crate::invariant::Stats;
    use crate::stream::Scope;
    use crate::time::Watermark;
    use crate::window::Trigger;
    use crate::window::function::Incremental;

    fn key(_: &i64) -> &str {
        "all"
    }

    #[test]
    fn a_window_that_nothing_will_forget_is_noticed() {
        let rules = Rules { time: TimeDomain::Event, trigger: Trigger::EventTime, purging: false };
        let counted = |forgotten: Option<i64>| {
            let spec = |(): &()| WindowSpec::tumbling(10);
            let (lateness, gap) = (|(): &()| 0, |_: &i64, (): &()| 0);
            let mut operator = WindowOperator::new(key, spec, lateness, gap, Incremental(Count), rules);
            let (mut effects, mut stats) = (Effects::default(), Stats::default());
            let mut at = |watermark: i64, act: &mut dyn FnMut(&mut Context<'_, ()>)| {
                let (watermark, effects) = (Watermark(watermark), &mut effects);
                let mut scope = Scope { now: 0, watermark, max_seen: None, origin: None, effects };
                act(&mut Context::new(&(), &mut scope, &mut stats, "test"));
            };
            at(-1, &mut |ctx| operator.start(ctx));
            for time in [5, 15, 25] {
                at(-1, &mut |ctx| operator.record(&time, EventTime(time), ctx, &mut |_, _, _| {}));
            }
            if let Some(start) = forgotten {
                operator.panes.forget_timers_of(TimeWindow { start, end: start + 10 });
            }
            at(9, &mut |ctx| operator.watermark(ctx, &mut |_, _, _| {}));
            stats.by_name.of(Violation::StateLeftBehind)
        };
        assert_eq!([None, Some(0), Some(10)].map(counted), [0, 1, 1]);
    }
}
