use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::stream::Context;
use crate::time::EventTime;
use crate::time::TimeDomain;
use crate::timer::Deadlines;

/// Expired entries that one call of [`State::expire`](super::State::expire) looks at.
pub(super) const AT_ONCE: usize = 256;

/// When state is accessed, in both kinds of time, epoch ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Event time of the record or timer.
    pub at: i64,
    /// Event-time clock: the watermark.
    pub watermark: i64,
    /// Processing-time clock.
    pub now: i64,
}

impl Moment {
    /// When an operator with this context has a record of that time.
    pub fn of<P>(at: EventTime, ctx: &Context<'_, P>) -> Self {
        Self { at: at.0, watermark: ctx.watermark.0, now: ctx.now }
    }

    /// For state that knows only processing time.
    pub fn processing(now: i64) -> Self {
        Self { at: i64::MIN, watermark: i64::MIN, now }
    }
}

/// What makes state live longer. Flink's `StateTtlConfig.UpdateType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refresh {
    /// Writing it.
    #[default]
    OnWrite,
    /// Writing it, or reading it while it is there.
    OnReadAndWrite,
}

/// Time to live of state, after Flink's `StateTtlConfig`: expired when `last access + ttl <= clock`, saturating, and
/// from then on never seen (`NeverReturnExpired`).
///
/// In processing time an access is at the clock. In event time, which Flink does not offer, it is at the time of the
/// record, or at the watermark if that is later, and the clock is the watermark. State that was written without a time
/// to live counts as last accessed at the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// ms.
    pub ttl: i64,
    /// Whose clock.
    pub time: TimeDomain,
    /// What counts as an access.
    pub refresh: Refresh,
}

impl Ttl {
    /// So many ms of processing time after the last write.
    pub const fn processing_time(ttl: i64) -> Self {
        Self { ttl, time: TimeDomain::Processing, refresh: Refresh::OnWrite }
    }

    /// So many ms of event time after the last write.
    pub const fn event_time(ttl: i64) -> Self {
        Self { ttl, time: TimeDomain::Event, refresh: Refresh::OnWrite }
    }

    /// What counts as an access.
    pub const fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    fn clock(self, moment: Moment) -> i64 {
        match self.time {
            TimeDomain::Event => moment.watermark,
            TimeDomain::Processing => moment.now,
        }
    }

    fn access(self, moment: Moment) -> i64 {
        match self.time {
            TimeDomain::Event => moment.at.max(moment.watermark),
            TimeDomain::Processing => moment.now,
        }
    }
}

/// A value with the time of its last access (0 without a time to live).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timed<V> {
    pub(super) value: V,
    pub(super) accessed: i64,
}

/// The time to live of a table, and what expires when. An entry is planned for the first time at which it may expire;
/// that an access has moved this is seen when the time has come, so an access costs nothing here.
///
/// On disk an index of all entries would be as large as what is to be kept out of memory. There all entries are looked at
/// one after the other, as fast as it takes to see each of them [`PASSES`] times within the time to live.
#[derive(Debug)]
pub(super) struct Expiry<K> {
    ttl: Option<Ttl>,
    deadlines: Deadlines<K>,
    /// Of a table on disk, the clock of the last look; `i64::MIN` before the first.
    looked: Option<i64>,
    /// How many entries there were when this pass over them began, and how many of these are to be looked at yet.
    pass: (i128, i128),
}

/// See [`Expiry`]: what has expired is gone after a quarter of the time to live.
const PASSES: i128 = 4;
/// Entries of a table on disk that are worth a look at it.
const WORTH: i128 = 64;

impl<K> Default for Expiry<K> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<K> Expiry<K> {
    pub fn new(ttl: Option<Ttl>) -> Self {
        Self { ttl, deadlines: Deadlines::default(), looked: None, pass: (0, 0) }
    }

    /// Without one nothing expires, and nothing need be planned.
    pub fn has_ttl(&self) -> bool {
        self.ttl.is_some()
    }

    pub fn is_live<V>(&self, timed: &Timed<V>, moment: Moment) -> bool {
        self.ttl.is_none_or(|ttl| timed.accessed.saturating_add(ttl.ttl) > ttl.clock(moment))
    }

    pub fn timed<V>(&self, value: V, moment: Moment) -> Timed<V> {
        Timed { value, accessed: self.ttl.map_or(0, |ttl| ttl.access(moment)) }
    }

    /// Marks a successful read. Returns whether that has changed anything.
    pub fn read<V>(&self, timed: &mut Timed<V>, moment: Moment) -> bool {
        let Some(ttl) = self.ttl.filter(|ttl| ttl.refresh == Refresh::OnReadAndWrite) else { return false };
        let accessed = ttl.access(moment).max(timed.accessed);
        std::mem::replace(&mut timed.accessed, accessed) != accessed
    }

    /// How many of a table's entries to look at now, if it is on disk.
    pub fn due(&mut self, entries: usize, moment: Moment) -> usize {
        let (Some(ttl), Some(looked)) = (self.ttl, &mut self.looked) else { return 0 };
        let clock = ttl.clock(moment);
        if *looked == i64::MIN {
            *looked = clock;
        }
        let passed = i128::from(clock) - i128::from(*looked);
        let (all, left) = &mut self.pass;
        if *left == 0 {
            (*all, *left) = (entries as i128, entries as i128);
        }
        // By what there was at first: what expires on the way does not make it slower.
        let due = (*all * passed * PASSES / i128::from(ttl.ttl.max(1))).min(AT_ONCE as i128).min(*left);
        if due < WORTH.min(*left) {
            return 0;
        }
        *looked = clock;
        *left -= due;
        usize::try_from(due).unwrap_or(0)
    }

    pub fn refreshes_on_read(&self) -> bool {
        self.ttl.is_some_and(|ttl| ttl.refresh == Refresh::OnReadAndWrite)
    }
}

impl<K: Ord + Hash + Clone> Expiry<K> {
    /// The table is on disk.
    pub fn without_index(&mut self) {
        self.looked = Some(i64::MIN);
        self.deadlines.clear();
    }

    /// Another time to live, for what is there too. State without one stays without.
    pub fn change(&mut self, ttl: Ttl) {
        let Some(own) = &mut self.ttl else { return };
        let before = std::mem::replace(own, ttl);
        // With a longer one, a deadline that comes too early is planned again.
        if ttl.ttl < before.ttl {
            self.deadlines.bring_forward(before.ttl.saturating_sub(ttl.ttl));
        }
    }

    /// The entry was last accessed then.
    pub fn plan<Q>(&mut self, key: &Q, accessed: i64, own: impl FnOnce() -> K)
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        if let (Some(ttl), None) = (self.ttl, self.looked) {
            self.deadlines.no_later_than(key, accessed.saturating_add(ttl.ttl), own);
        }
    }

    /// The entry is gone.
    pub fn forget<Q>(&mut self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        if self.ttl.is_some() {
            self.deadlines.cancel(key);
        }
    }

    /// The next entry that may have expired.
    pub fn pop(&mut self, moment: Moment) -> Option<K> {
        self.deadlines.pop(self.ttl?.clock(moment)).map(|(_, key)| key)
    }
}
