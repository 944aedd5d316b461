use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{Aggregate, Assigned, Schedule, WindowSpec};
use crate::invariant::Violation;
use crate::state::{Change, StateError, Table, decode, encode};
use crate::stream::{Context, Operator};
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

/// Keyed windows with an incremental aggregate and the event-time trigger.
///
/// The path of a record: assign -> late? -> add to the window's accumulator -> fire if the watermark has already passed
/// the window's last instant. The path of a watermark: due timers in order of (time, key, window), each one fires or
/// forgets its window.
pub struct WindowOperator<K, S, L, A, Acc> {
    key: K,
    spec: S,
    lateness: L,
    aggregate: A,
    schedule: Schedule,
    schedule_dirty: bool,
    windows: FxHashMap<Arc<str>, Vec<Pane<Acc>>>,
    /// (when, key, window): `last` until it has fired, then `cleanup`. Derived from the windows by [`Operator::start`].
    timers: BTreeSet<(i64, Arc<str>, TimeWindow)>,
    /// Windows to tell the changelog about; one that is no longer there is a deletion.
    dirty: Vec<(Arc<str>, TimeWindow)>,
    pending: u64,
    scratch: (Vec<u8>, Vec<u8>),
}

struct Pane<Acc> {
    window: TimeWindow,
    cleanup: i64,
    /// Records for which this is the first of their windows: the ones that count as pending.
    owned: u64,
    acc: Acc,
    dirty: bool,
}

#[derive(Serialize, Deserialize)]
enum EntryKey<'a> {
    Schedule,
    Window { key: &'a str, window: TimeWindow },
}

#[derive(Serialize, Deserialize)]
struct StoredPane<Acc> {
    cleanup: i64,
    owned: u64,
    acc: Acc,
}

#[derive(Serialize)]
struct StoredPaneRef<'a, Acc> {
    cleanup: i64,
    owned: u64,
    acc: &'a Acc,
}

impl<K, S, L, A, Acc> WindowOperator<K, S, L, A, Acc> {
    pub(crate) fn new(key: K, spec: S, lateness: L, aggregate: A) -> Self {
        Self {
            key,
            spec,
            lateness,
            aggregate,
            schedule: Schedule::default(),
            schedule_dirty: false,
            windows: FxHashMap::default(),
            timers: BTreeSet::new(),
            dirty: Vec::new(),
            pending: 0,
            scratch: Default::default(),
        }
    }

    fn pane(&mut self, key: &str, window: TimeWindow) -> Option<&mut Pane<Acc>> {
        self.windows.get_mut(key)?.iter_mut().find(|pane| pane.window == window)
    }

    fn remove(&mut self, key: &Arc<str>, window: TimeWindow) -> u64 {
        let Some(panes) = self.windows.get_mut(key) else { return 0 };
        let Some(at) = panes.iter().position(|pane| pane.window == window) else { return 0 };
        let pane = panes.swap_remove(at);
        if panes.is_empty() {
            self.windows.remove(key);
        }
        if !pane.dirty {
            self.dirty.push((key.clone(), window));
        }
        self.pending = self.pending.saturating_sub(pane.owned);
        pane.owned
    }
}

impl<K, S, L, A, P, I> Operator<P, I> for WindowOperator<K, S, L, A, A::Acc>
where
    K: Fn(&I) -> &str,
    S: Fn(&P) -> WindowSpec,
    L: Fn(&P) -> i64,
    A: Aggregate<I>,
{
    type Out = Windowed<A::Out>;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        // At most two around a change of the specification. Tumbling windows leave no gaps: without one that is still
        // open the record is late.
        let mut assigned = self.schedule.assign(at.0).filter(|a| a.cleanup > ctx.watermark.0);
        let windows = [assigned.next(), assigned.next()];
        drop(assigned);
        if windows.iter().all(Option::is_none) {
            ctx.late();
            return;
        }
        let key = (self.key)(record);
        for (i, Assigned { window, cleanup }) in windows.into_iter().flatten().enumerate() {
            let owned = if i == 0 { ctx.keep() } else { 0 };
            self.pending += owned;
            if let Some(pane) =
                self.windows.get_mut(key).and_then(|p| p.iter_mut().find(|p| p.window == window))
            {
                self.aggregate.add(&mut pane.acc, record, at);
                pane.owned += owned;
                if !pane.dirty {
                    pane.dirty = true;
                    if let Some((key, _)) = self.windows.get_key_value(key) {
                        self.dirty.push((key.clone(), window));
                    }
                }
            } else {
                let shared =
                    self.windows.get_key_value(key).map_or_else(|| Arc::from(key), |(key, _)| key.clone());
                let mut acc = self.aggregate.create();
                self.aggregate.add(&mut acc, record, at);
                self.windows.entry(shared.clone()).or_default().push(Pane {
                    window,
                    cleanup,
                    owned,
                    acc,
                    dirty: true,
                });
                self.dirty.push((shared.clone(), window));
                let fired = window.last() <= ctx.watermark.0;
                self.timers.insert((if fired { cleanup } else { window.last() }, shared, window));
            }
            if window.last() <= ctx.watermark.0
                && let Some(panes) = self.windows.get_key_value(key)
                && let Some(pane) = panes.1.iter().find(|pane| pane.window == window)
            {
                let result =
                    Windowed { key: panes.0.clone(), window, value: self.aggregate.result(&pane.acc) };
                ctx.derive(|ctx| out(&result, EventTime(window.last()), ctx));
            }
        }
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let watermark = ctx.watermark.0;
        while self.timers.first().is_some_and(|(at, ..)| *at <= watermark) {
            let Some((at, key, window)) = self.timers.pop_first() else { break };
            let Some(pane) =
                self.windows.get(&key).and_then(|panes| panes.iter().find(|p| p.window == window))
            else {
                ctx.violation(Violation::TimerWithoutWindow);
                continue;
            };
            let cleanup = pane.cleanup;
            if at == window.last() {
                let value = self.aggregate.result(&pane.acc);
                out(&Windowed { key: key.clone(), window, value }, EventTime(window.last()), ctx);
            }
            if cleanup <= at {
                let records = self.remove(&key, window);
                ctx.done(records);
            } else {
                self.timers.insert((cleanup, key, window));
            }
        }
        self.schedule_dirty |= self.schedule.retire(watermark);
    }

    fn start(&mut self, ctx: &mut Context<'_, P>) {
        if self.schedule.is_unset() {
            self.schedule = Schedule::new((self.spec)(ctx.params), (self.lateness)(ctx.params));
        }
        self.timers.clear();
        for (key, panes) in &self.windows {
            for pane in panes {
                let fired = pane.window.last() <= ctx.watermark.0;
                let at = if fired { pane.cleanup } else { pane.window.last() };
                self.timers.insert((at, key.clone(), pane.window));
            }
        }
    }

    fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
        let (spec, lateness) = ((self.spec)(ctx.params), (self.lateness)(ctx.params));
        self.schedule_dirty |= self.schedule.change(spec, lateness, ctx.max_seen);
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        visit(self);
    }

    fn pending(&self) -> u64 {
        self.pending
    }
}

impl<K, S, L, A, Acc> Table for WindowOperator<K, S, L, A, Acc>
where
    Acc: Serialize + serde::de::DeserializeOwned,
{
    fn changes(&mut self, change: &mut Change<'_>) {
        let (mut key_bytes, mut value) = std::mem::take(&mut self.scratch);
        if std::mem::take(&mut self.schedule_dirty) {
            encode(&EntryKey::Schedule, &mut key_bytes);
            encode(&self.schedule, &mut value);
            change(&key_bytes, Some(&value));
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for (key, window) in dirty.drain(..) {
            encode(&EntryKey::Window { key: &key, window }, &mut key_bytes);
            match self.pane(&key, window) {
                Some(pane) if pane.dirty => {
                    pane.dirty = false;
                    encode(
                        &StoredPaneRef { cleanup: pane.cleanup, owned: pane.owned, acc: &pane.acc },
                        &mut value,
                    );
                    change(&key_bytes, Some(&value));
                }
                // Told already: the key was dirty twice, once for a window of the same bounds that went away.
                Some(_) => {}
                None => change(&key_bytes, None),
            }
        }
        self.dirty = dirty;
        self.scratch = (key_bytes, value);
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        let (mut key_bytes, mut value) = (Vec::new(), Vec::new());
        if !self.schedule.is_unset() {
            encode(&EntryKey::Schedule, &mut key_bytes);
            encode(&self.schedule, &mut value);
            entry(&key_bytes, Some(&value));
        }
        for (key, panes) in &self.windows {
            for pane in panes {
                encode(&EntryKey::Window { key, window: pane.window }, &mut key_bytes);
                encode(
                    &StoredPaneRef { cleanup: pane.cleanup, owned: pane.owned, acc: &pane.acc },
                    &mut value,
                );
                entry(&key_bytes, Some(&value));
            }
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        // EntryKey borrows from the bytes, so it is read without the helper for owned types.
        let Some((_, rest)) = key.split_first() else { return Err(StateError::Damaged("no key".to_owned())) };
        match postcard::from_bytes(rest).map_err(|e| StateError::Damaged(e.to_string()))? {
            EntryKey::Schedule => self.schedule = value.map(decode).transpose()?.unwrap_or_default(),
            EntryKey::Window { key, window } => {
                let key: Arc<str> = Arc::from(key);
                self.remove(&key, window);
                self.dirty.clear();
                if let Some(bytes) = value {
                    let StoredPane { cleanup, owned, acc } = decode(bytes)?;
                    self.pending += owned;
                    self.windows.entry(key).or_default().push(Pane {
                        window,
                        cleanup,
                        owned,
                        acc,
                        dirty: false,
                    });
                }
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.windows.values().map(Vec::len).sum()
    }
}
