use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::compiler::compile;
use super::event::Fields;
use super::introspection::LivePattern;
use super::limits::Limits;
use super::matcher::{Found, Stages, Work};
use super::nfa::Nfa;
use super::pattern::Pattern;
use super::table::{KeyState, Meta, Waiting};
use crate::invariant::Violation;
use crate::state::Table;
use crate::stream::{Context, Keyed, Operator, Stream, Then};
use crate::time::{EventTime, TimeDomain};

/// A match, or a partial match whose time is over. Its record time is the moment it was found out, ms.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Detected<I> {
    /// A match.
    Match {
        /// The key.
        key: Arc<str>,
        /// Its events.
        stages: Stages<I>,
        /// Time of its first event, ms.
        started: i64,
        /// When it was complete, ms: the time of its last event, or later if something had to stay away.
        ended: i64,
    },
    /// A partial match that did not become one within the time limit.
    TimedOut {
        /// The key.
        key: Arc<str>,
        /// What it had taken.
        stages: Stages<I>,
        /// Time of its first event, ms.
        started: i64,
        /// `started` plus the time limit, ms.
        at: i64,
    },
}

/// What became of partial matches and events, beside matches. Part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Partial and held-back matches that a limit took.
    pub dropped: u64,
    /// Events refused because too many of their key waited for the watermark; they count as filtered.
    pub refused: u64,
    /// Partial and held-back matches that ended because the pattern was changed.
    pub replaced: u64,
}

/// Finds a pattern in the events of each key. Flink's `CepOperator`.
///
/// The path of an event: late? -> wait for the watermark, sorted -> [`Nfa`]. The path of a watermark: due events and
/// time limits of all keys in the order of (time, key). An event counts as done once the NFA has handled it, also while
/// a partial match still refers to it.
///
/// When the parameters change the pattern, partial and held-back matches of the old one are dropped and
/// [counted](Counts); events that still wait are matched by the new one. The same happens when a restored state was
/// written under another pattern. A pattern that can't be compiled does not replace one that could: parameters refuse it
/// with [`valid`](super::valid).
pub struct CepOperator<K, F, I> {
    key: K,
    pattern: F,
    time: TimeDomain,
    limits: Limits,
    /// In force. `None`: there has not been one that could be compiled.
    nfa: Option<Nfa>,
    pub(super) keys: FxHashMap<Arc<str>, KeyState<I>>,
    /// (when, key) of each waiting event. Derived by [`Operator::start`], like the next.
    arrivals: BinaryHeap<Reverse<(i64, Arc<str>)>>,
    /// (when, key): not after the first time limit of the key's partial matches; at most one per key.
    deadlines: BTreeSet<(i64, Arc<str>)>,
    /// Keys to tell the changelog about.
    pub(super) dirty: Vec<Arc<str>>,
    pub(super) meta: Meta,
    pub(super) meta_dirty: bool,
    pub(super) pending: u64,
    pub(super) work: Work,
    pub(super) scratch: (Vec<u8>, Vec<u8>),
}

impl<E, P, I, Op, K: Fn(&I) -> &str> Keyed<E, P, I, Op, K> {
    /// Finds a pattern in the events of each key. `pattern` is read again whenever the parameters change, see
    /// [`CepOperator`].
    ///
    /// ```
    /// use millrace_core::TimeDomain;
    /// use millrace_core::cep::{Detected, FieldValue, Fields, Pattern, field};
    /// use millrace_core::params::NoParams;
    /// use millrace_core::stream::job;
    /// use millrace_core::testing::Harness;
    ///
    /// #[derive(Clone, serde::Serialize, serde::Deserialize)]
    /// struct Payment {
    ///     card: String,
    ///     amount: f64,
    /// }
    /// impl Fields for Payment {
    ///     fn field(&self, name: &str) -> FieldValue<'_> {
    ///         match name {
    ///             "amount" => FieldValue::Number(self.amount),
    ///             _ => FieldValue::Null,
    ///         }
    ///     }
    /// }
    /// let mut test = Harness::new(|| {
    ///     job::<Payment, NoParams>("card-fraud", "A small amount, then a large one.")
    ///         .source(|payment: &Payment| Some(payment))
    ///         .key_by(|payment| &payment.card)
    ///         .pattern(
    ///             |_| {
    ///                 Pattern::begin("small").where_(field("amount").lt(5.0))
    ///                     .followed_by("large").where_(field("amount").gt(500.0))
    ///                     .within(60_000)
    ///             },
    ///             TimeDomain::Event,
    ///         )
    ///         .filter(|found, _| matches!(found, Detected::Match { .. }))
    ///         .to(|_| ("alerts", "all"))
    /// });
    /// test.record(&Payment { card: "c".into(), amount: 900.0 }, 2_000);
    /// test.record(&Payment { card: "c".into(), amount: 1.0 }, 1_000);
    /// test.watermark(2_000);
    /// assert_eq!(test.emitted("alerts")[0]["match"]["stages"]["large"][0]["amount"], 900.0);
    /// ```
    #[allow(clippy::type_complexity)]
    pub fn pattern<F: Fn(&P) -> Pattern>(
        self,
        pattern: F,
        time: TimeDomain,
    ) -> Stream<E, P, Detected<I>, Then<Op, CepOperator<K, F, I>>>
    where
        I: Clone + Serialize + DeserializeOwned + Fields,
    {
        self.pattern_within(pattern, time, Limits::default())
    }

    /// [`Keyed::pattern`] with other limits than the default. Parameters with a pattern that is beyond them have to be refused
    /// ([`Pattern::validate_within`]): one that comes here all the same changes nothing and counts as a violation.
    #[allow(clippy::type_complexity)]
    pub fn pattern_within<F: Fn(&P) -> Pattern>(
        self,
        pattern: F,
        time: TimeDomain,
        limits: Limits,
    ) -> Stream<E, P, Detected<I>, Then<Op, CepOperator<K, F, I>>>
    where
        I: Clone + Serialize + DeserializeOwned + Fields,
    {
        self.stream.then(CepOperator::new(self.key, pattern, time, limits))
    }
}

fn detected<I>(key: &Arc<str>, found: Found<I>) -> Detected<I> {
    let (key, Found { stages, started, ended, timed_out }) = (key.clone(), found);
    if timed_out {
        Detected::TimedOut { key, stages, started, at: ended }
    } else {
        Detected::Match { key, stages, started, ended }
    }
}

impl<K, F, I> CepOperator<K, F, I> {
    fn new(key: K, pattern: F, time: TimeDomain, limits: Limits) -> Self {
        Self {
            key,
            pattern,
            time,
            limits,
            nfa: None,
            keys: FxHashMap::default(),
            arrivals: BinaryHeap::new(),
            deadlines: BTreeSet::new(),
            dirty: Vec::new(),
            meta: Meta::default(),
            meta_dirty: false,
            pending: 0,
            work: Work::default(),
            scratch: Default::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { dropped: self.meta.counts.dropped.saturating_add(self.work.dropped), ..self.meta.counts }
    }

    /// Puts the pattern of the parameters in force.
    fn change<P>(&mut self, ctx: &mut Context<'_, P>)
    where
        F: Fn(&P) -> Pattern,
    {
        let pattern = (self.pattern)(ctx.params);
        let text = serde_json::to_string(&pattern).unwrap_or_default();
        if self.nfa.is_some() && text == self.meta.pattern {
            return;
        }
        let Ok(nfa) = compile(&pattern, self.limits) else {
            ctx.violation(Violation::InvalidPattern);
            return;
        };
        if text != self.meta.pattern {
            self.meta.pattern = text;
            self.meta_dirty = true;
            for (key, state) in &mut self.keys {
                let replaced = Nfa::forget(&mut state.matcher);
                self.meta.counts.replaced = self.meta.counts.replaced.saturating_add(replaced);
                if replaced > 0 && !state.dirty {
                    state.dirty = true;
                    self.dirty.push(key.clone());
                }
            }
            // Not in the order of the map.
            self.dirty.sort_unstable();
        }
        self.work.reset(&nfa);
        self.arrivals.clear();
        self.deadlines.clear();
        for (key, state) in &mut self.keys {
            nfa.count(&state.matcher, &mut self.work);
            self.arrivals.extend(state.waiting.iter().map(|waiting| Reverse((waiting.at, key.clone()))));
            state.scheduled = None;
            state.schedule(key, &nfa, &mut self.deadlines);
        }
        self.nfa = Some(nfa);
    }

    /// Takes the next (when, key) at which something is to be done, if it is due.
    fn due(&mut self, to: i64) -> Option<(i64, Arc<str>)> {
        let arrival = self.arrivals.peek().map(|Reverse(entry)| entry);
        let deadline = self.deadlines.first();
        let first = arrival.into_iter().chain(deadline).min()?;
        if first.0 > to {
            return None;
        }
        if deadline != Some(first) {
            return self.arrivals.pop().map(|Reverse(entry)| entry);
        }
        let (at, key) = self.deadlines.pop_first()?;
        if let Some(state) = self.keys.get_mut(&key) {
            state.scheduled = None;
        }
        Some((at, key))
    }

    /// Handles events and time limits that are due, in the order of (time, key).
    fn advance<P>(
        &mut self,
        to: i64,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Detected<I>, EventTime, &mut Context<'_, P>),
    ) where
        I: Fields + Clone,
    {
        while let Some((at, key)) = self.due(to) {
            let Self { nfa: Some(nfa), keys, deadlines, dirty, pending, work, .. } = self else { return };
            // Several events of one time are handled with the first.
            let Some(state) = keys.get_mut(&key) else { continue };
            let mut emit = |found| out(&detected(&key, found), EventTime(at), ctx);
            nfa.advance(&mut state.matcher, at, work, &mut emit);
            let mut done = 0;
            while state.waiting.front().is_some_and(|waiting| waiting.at <= at) {
                let Some(waiting) = state.waiting.pop_front() else { break };
                done += waiting.records;
                nfa.event(&mut state.matcher, Cow::Owned(waiting.event), at, work, &mut emit);
            }
            *pending = pending.saturating_sub(done);
            ctx.done(done);
            state.schedule(&key, nfa, deadlines);
            if !state.dirty {
                state.dirty = true;
                dirty.push(key);
            }
        }
    }
}

impl<K, F, P, I> Operator<P, I> for CepOperator<K, F, I>
where
    K: Fn(&I) -> &str,
    F: Fn(&P) -> Pattern,
    I: Clone + Serialize + DeserializeOwned + Fields,
{
    type Out = Detected<I>;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        if self.time == TimeDomain::Event && ctx.watermark.get().is_some_and(|watermark| at.0 <= watermark) {
            ctx.late();
            return;
        }
        let Self { nfa: Some(nfa), keys, arrivals, deadlines, dirty, work, .. } = self else {
            ctx.filtered();
            return;
        };
        let name = (self.key)(record);
        let known = keys.get_key_value(name).map(|(key, _)| key.clone());
        let key = known.unwrap_or_else(|| Arc::from(name));
        let state = keys.entry(key.clone()).or_default();
        match self.time {
            TimeDomain::Event => {
                if state.waiting.len() >= self.limits.buffered_events {
                    self.meta.counts.refused = self.meta.counts.refused.saturating_add(1);
                    self.meta_dirty = true;
                    ctx.filtered();
                    return;
                }
                let records = ctx.keep();
                self.pending += records;
                let place = state.waiting.partition_point(|waiting| waiting.at <= at.0);
                state.waiting.insert(place, Waiting { at: at.0, records, event: record.clone() });
                arrivals.push(Reverse((at.0, key.clone())));
            }
            TimeDomain::Processing => ctx.derive(|ctx| {
                // A clock that is set back stands still for partial matches.
                let latest = state.matcher.runs.last().map_or(i64::MIN, |run| run.started);
                let now = ctx.now.max(latest);
                let mut emit = |found| out(&detected(&key, found), EventTime(now), &mut *ctx);
                nfa.advance(&mut state.matcher, now, work, &mut emit);
                nfa.event(&mut state.matcher, Cow::Borrowed(record), now, work, &mut emit);
                state.schedule(&key, nfa, deadlines);
            }),
        }
        if !state.dirty {
            state.dirty = true;
            dirty.push(key);
        }
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        if self.time == TimeDomain::Event {
            self.advance(ctx.watermark.0, ctx, out);
        }
    }

    fn processing_time(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        if self.time == TimeDomain::Processing {
            self.advance(ctx.now, ctx, out);
        }
    }

    fn start(&mut self, ctx: &mut Context<'_, P>) {
        // Whatever was loaded, timers and counts follow from it again.
        self.nfa = None;
        self.change(ctx);
        let over =
            |waiting: &Waiting<I>| ctx.watermark.get().is_some_and(|watermark| waiting.at <= watermark);
        let left_behind = |state: &KeyState<I>| state.waiting.front().is_some_and(over);
        if self.time == TimeDomain::Event && self.keys.values().any(left_behind) {
            ctx.violation(Violation::StateLeftBehind);
        }
    }

    fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
        self.change(ctx);
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        visit(self);
    }

    fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>)) {
        visit(LivePattern { nfa: self.nfa.as_ref(), live: &self.work.live, counts: self.counts() });
    }

    fn pending(&self) -> u64 {
        self.pending
    }
}
