use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::function::WindowFunction;
use super::panes::{Advanced, Arrival};
use super::running::Running;
use super::schedule::{Assigned, Epoch};
use super::spec::{Aligned, clamp};
use super::timers::Timers;
use crate::time::TimeWindow;

/// Sliding windows under the event-time trigger, by slices: a record goes to one accumulator, however many windows hold
/// it, and a firing merges those of its window.
///
/// The edges of the windows cut time into slices, at most two for each slide ("pairs", Krishnamurthy et al., *On-the-fly
/// sharing for streamed aggregation*, SIGMOD 2006). A slice lives as long as the last window that holds it.
#[derive(Debug)]
pub(super) struct Slices<Acc> {
    keys: FxHashMap<Arc<str>, Key<Acc>>,
    timers: Timers,
    dirty: Vec<(Arc<str>, i64)>,
    /// Records that are here first.
    pub pending: u64,
}

#[derive(Debug)]
struct Key<Acc> {
    name: Arc<str>,
    /// By start.
    slices: VecDeque<Slice<Acc>>,
    /// Its earliest timer.
    planned: Option<i64>,
    running: Running<Acc>,
}

#[derive(Debug)]
pub(super) struct Slice<Acc> {
    /// Its first instant, brought into the range of 64 bits.
    pub start: i64,
    pub acc: Acc,
    owned: u64,
    dirty: bool,
}

/// A slice as bytes know it. `Acc` is a reference when writing.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredSlice<Acc> {
    owned: u64,
    acc: Acc,
}

/// Where the windows of an epoch are. Instants in 128 bits, as windows may begin before the range of 64.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slicing {
    epoch: Epoch,
    pub aligned: Aligned,
}

impl Slicing {
    /// None for windows that do not overlap.
    pub fn of(epoch: Epoch) -> Option<Self> {
        let aligned = epoch.spec.aligned()?;
        (aligned.slide < aligned.size).then_some(Self { epoch, aligned })
    }

    /// Starts of the first and the last window that hold `t`.
    pub fn starts(&self, t: i64) -> Option<(i128, i128)> {
        self.epoch.starts(self.aligned, t)
    }

    pub fn window(&self, start: i128) -> TimeWindow {
        TimeWindow { start: clamp(start), end: clamp(start + i128::from(self.aligned.size)) }
    }

    fn assigned(&self, start: i128) -> Assigned {
        self.epoch.assigned(self.window(start))
    }

    /// When the watermark has this window forgotten.
    pub fn cleanup(&self, start: i128) -> i64 {
        self.assigned(start).cleanup
    }

    /// First instant of the slice that holds `t`.
    fn slice(&self, t: i64) -> i64 {
        let Aligned { size, slide, .. } = self.aligned;
        // A window that began earlier ends so far after a window start.
        let (back, edge) = (self.aligned.back(t), size % slide);
        t.saturating_sub(if back >= edge { back - edge } else { back })
    }

    /// When a slice is of no use any more; `None`: never.
    fn end_of_use(&self, slice: i64) -> Option<i64> {
        let cleanup = self.starts(slice).map_or(i64::MIN, |(_, last)| self.cleanup(last));
        (cleanup < i64::MAX).then_some(cleanup)
    }

    /// Start of the first window after which, or at which, something may fire when the watermark is past `watermark`.
    fn open(&self, watermark: i64) -> i128 {
        // last = start + size - 1 > watermark
        self.aligned.ceil(i128::from(watermark) + 2 - i128::from(self.aligned.size))
    }
}

impl<Acc> Default for Slices<Acc> {
    fn default() -> Self {
        Self { keys: FxHashMap::default(), timers: Timers::default(), dirty: Vec::new(), pending: 0 }
    }
}

impl<Acc> Slice<Acc> {
    fn touch(&mut self, key: &Arc<str>, dirty: &mut Vec<(Arc<str>, i64)>) {
        if !std::mem::replace(&mut self.dirty, true) {
            dirty.push((key.clone(), self.start));
        }
    }
}

impl<Acc> Key<Acc> {
    fn new(name: &str) -> Self {
        Self { name: Arc::from(name), slices: VecDeque::new(), planned: None, running: Running::default() }
    }

    fn slice(&mut self, start: i64) -> Option<&mut Slice<Acc>> {
        // Most often the last one.
        self.slices.iter_mut().rfind(|slice| slice.start == start)
    }

    /// Start of the first window from `start` on that holds a slice.
    fn next(&self, slicing: &Slicing, start: i128) -> Option<i128> {
        self.slices.iter().find_map(|slice| {
            let (first, last) = slicing.starts(slice.start)?;
            let next = first.max(start);
            (next <= last).then_some(next)
        })
    }

    /// When to look at it, once everything up to `watermark` is done.
    fn due(&self, slicing: &Slicing, watermark: i64) -> Option<i64> {
        let fires = self.next(slicing, slicing.open(watermark)).map(|start| slicing.window(start).last());
        // The last instant of a window that reaches to the end of time may come again and again, and fires once.
        let fires = fires.filter(|&at| at > watermark);
        let ends = self.slices.front().and_then(|slice| slicing.end_of_use(slice.start));
        fires.into_iter().chain(ends).min()
    }

    /// Adds the record to its slice. Returns whether that is new.
    fn add<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        start: i64,
        arrival: &Arrival<'_, I, F>,
        dirty: &mut Vec<(Arc<str>, i64)>,
    ) -> bool {
        // Most often the last one.
        let after = self.slices.iter().rposition(|slice| slice.start <= start);
        let found = after.filter(|&index| self.slices.get(index).is_some_and(|slice| slice.start == start));
        let index = found.unwrap_or_else(|| {
            let index = after.map_or(0, |index| index + 1);
            let acc = arrival.function.create();
            self.slices.insert(index, Slice { start, acc, owned: 0, dirty: false });
            index
        });
        if let Some(slice) = self.slices.get_mut(index) {
            arrival.function.add(&mut slice.acc, arrival.record, arrival.at);
            slice.owned += arrival.owned;
            slice.touch(&self.name, dirty);
        }
        found.is_none()
    }
}

impl<Acc> Slices<Acc> {
    /// Adds a record whose last window is not late, and fires those of its windows that have fired already.
    pub fn add<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        slicing: &Slicing,
        arrival: &Arrival<'_, I, F>,
        fire: &mut impl FnMut(&Arc<str>, Assigned, &Acc),
    ) {
        let Self { keys, timers, dirty, pending } = self;
        *pending += arrival.owned;
        let watermark = arrival.clock.watermark;
        let mut update = |key: &mut Key<Acc>| {
            if key.add(slicing.slice(arrival.t), arrival, dirty) {
                let due = key.due(slicing, watermark);
                timers.plan(&mut key.planned, due, &key.name);
            }
            if arrival.t > watermark {
                return;
            }
            // What is merged already does not know this record.
            key.running = Running::default();
            let Some((first, last)) = slicing.starts(arrival.t) else { return };
            let mut start = first;
            while start <= last && slicing.window(start).last() <= watermark {
                if slicing.cleanup(start) > watermark {
                    let mut running = Running::default();
                    let acc = running.window(arrival.function, &key.slices, &slicing.aligned, start);
                    fire(&key.name, slicing.assigned(start), &acc);
                }
                start += i128::from(slicing.aligned.slide);
            }
        };
        if let Some(key) = keys.get_mut(arrival.key) {
            update(key);
        } else {
            let mut key = Key::new(arrival.key);
            update(&mut key);
            keys.insert(key.name.clone(), key);
        }
    }

    /// The earliest timer.
    pub fn first(&self) -> Option<i64> {
        self.timers.first()
    }

    /// Does what is due at `at`, by key and window.
    pub fn advance<P, I, F: WindowFunction<P, I, Acc = Acc>>(
        &mut self,
        slicing: &Slicing,
        at: i64,
        function: &F,
        fire: &mut impl FnMut(&Arc<str>, Assigned, &Acc),
    ) -> Advanced {
        let mut advanced = Advanced::default();
        for name in self.timers.take(at) {
            let Some(key) = self.keys.get_mut(&name) else { continue };
            if key.planned != Some(at) {
                continue;
            }
            key.planned = None;
            let mut next = key.next(slicing, slicing.open(at.saturating_sub(1)));
            while let Some(start) = next.filter(|&start| slicing.window(start).last() == at) {
                let acc = key.running.window(function, &key.slices, &slicing.aligned, start);
                fire(&name, slicing.assigned(start), &acc);
                next = key.next(slicing, start + i128::from(slicing.aligned.slide));
            }
            let over = |slice: &Slice<Acc>| slicing.end_of_use(slice.start).is_some_and(|end| end <= at);
            while key.slices.front().is_some_and(over) {
                if let Some(mut slice) = key.slices.pop_front() {
                    slice.touch(&name, &mut self.dirty);
                    advanced.done = advanced.done.saturating_add(slice.owned);
                }
            }
            let due = key.due(slicing, at);
            self.timers.plan(&mut key.planned, due, &name);
            if key.slices.is_empty() {
                self.keys.remove(&name);
            } else if key.slices.iter().any(over) {
                // The first are the first to go.
                advanced.left += 1;
            }
        }
        self.pending = self.pending.saturating_sub(advanced.done);
        advanced
    }

    /// Derives the timers from the state.
    pub fn start(&mut self, slicing: &Slicing, watermark: i64) {
        self.timers.clear();
        for key in self.keys.values_mut() {
            key.slices.make_contiguous().sort_by_key(|slice| slice.start);
            key.planned = None;
            let due = key.due(slicing, watermark);
            self.timers.plan(&mut key.planned, due, &key.name);
        }
    }

    /// Takes what changed: a slice, or `None` if it is gone.
    pub fn changes(&mut self, mut change: impl FnMut(&str, i64, Option<StoredSlice<&Acc>>)) {
        for (name, start) in self.dirty.drain(..) {
            let slice = self.keys.get_mut(&name).and_then(|key| key.slice(start));
            match slice {
                Some(slice) if slice.dirty => {
                    slice.dirty = false;
                    change(&name, start, Some(slice.stored()));
                }
                Some(_) => {}
                None => change(&name, start, None),
            }
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, i64, StoredSlice<&Acc>)> {
        self.keys.values().flat_map(|key| key.slices.iter().map(|s| (&*key.name, s.start, s.stored())))
    }

    /// Puts a slice back, or takes it away. The timers follow with [`Slices::start`].
    pub fn load(&mut self, name: &str, start: i64, stored: Option<StoredSlice<Acc>>) {
        if let Some(key) = self.keys.get_mut(name)
            && let Some(index) = key.slices.iter().position(|slice| slice.start == start)
        {
            let gone = key.slices.remove(index).map_or(0, |slice| slice.owned);
            self.pending = self.pending.saturating_sub(gone);
            if key.slices.is_empty() {
                self.keys.remove(name);
            }
        }
        if let Some(StoredSlice { owned, acc }) = stored {
            self.pending = self.pending.saturating_add(owned);
            let key = self.keys.entry(Arc::from(name)).or_insert_with(|| Key::new(name));
            key.slices.push_back(Slice { start, acc, owned, dirty: false });
        }
    }

    pub fn len(&self) -> usize {
        self.keys.values().map(|key| key.slices.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl<Acc> Slice<Acc> {
    fn stored(&self) -> StoredSlice<&Acc> {
        StoredSlice { owned: self.owned, acc: &self.acc }
    }
}
