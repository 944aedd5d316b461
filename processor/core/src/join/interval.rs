use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::buffer::{Buffer, Place};
use super::{Held, InvalidJoin, JoinType, Joined, instant};
use crate::cep::LivePattern;
use crate::state::Table;
use crate::stream::{Context, Operator};
use crate::time::{EventTime, Watermark};
use crate::timer::Deadlines;

/// How much later (negative: earlier) than the left record the right one may be, ms, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    lower: i64,
    upper: i64,
}

impl Interval {
    /// `lower <= right - left <= upper`.
    ///
    /// # Errors
    /// Lower above upper.
    pub fn new(lower: i64, upper: i64) -> Result<Self, InvalidJoin> {
        if lower <= upper { Ok(Self { lower, upper }) } else { Err(InvalidJoin::Bounds { lower, upper }) }
    }

    /// `0 <= right - left <= upper`: the right record follows the left one. A negative bound counts as 0.
    pub const fn within(upper: i64) -> Self {
        Self { lower: 0, upper: if upper < 0 { 0 } else { upper } }
    }

    /// Without the bounds themselves, as far as they are not included.
    ///
    /// # Errors
    /// Nothing is left between the bounds.
    pub fn with_bounds(
        lower: i64,
        upper: i64,
        lower_inclusive: bool,
        upper_inclusive: bool,
    ) -> Result<Self, InvalidJoin> {
        let lower = lower.saturating_add(i64::from(!lower_inclusive));
        Self::new(lower, upper.saturating_sub(i64::from(!upper_inclusive)))
    }

    /// The bounds as a side sees them: how much later the other may be.
    fn seen_from(self, side: Side) -> (i128, i128) {
        match side {
            Side::Left => (self.lower.into(), self.upper.into()),
            Side::Right => (-i128::from(self.upper), -i128::from(self.lower)),
        }
    }

    /// Where the partners of a record of this side are.
    fn partners(self, side: Side, at: i64) -> Option<RangeInclusive<Place>> {
        let (lower, upper) = self.seen_from(side);
        let (from, to) = (i128::from(at) + lower, i128::from(at) + upper);
        // The interval may lie outside of all time.
        let overlaps = from <= i64::MAX.into() && to >= i64::MIN.into();
        overlaps.then(|| (instant(from), 0)..=(instant(to), u64::MAX))
    }

    /// The watermark at which a record of this side is dropped.
    fn dropped_at(self, side: Side, at: i64) -> i64 {
        instant(i128::from(at) + self.seen_from(side).1.max(0))
    }

    /// The last time whose records of this side are dropped at that deadline.
    fn dropped_until(self, side: Side, deadline: i64) -> i64 {
        // The end of time stands for all that would lie behind it.
        if deadline == i64::MAX {
            return i64::MAX;
        }
        instant(i128::from(deadline) - self.seen_from(side).1.max(0))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Joins two streams by [`Interval`].
pub struct IntervalJoin<A, B, KL, KR, L, R, N> {
    sides: (A, B),
    keys: (KL, KR),
    /// The interval under given parameters.
    interval: N,
    held: Buffers<L, R>,
}

struct Buffers<L, R> {
    /// In force.
    interval: Interval,
    join: JoinType,
    left: Buffer<L>,
    right: Buffer<R>,
    /// Per key, when the first record is to be dropped.
    deadlines: Deadlines<Arc<str>>,
    /// The watermark that has been dealt with. What comes out of the operators before this one while the watermark rises
    /// belongs before the new one.
    watermark: Watermark,
}

impl<A, B, KL, KR, L, R, N> IntervalJoin<A, B, KL, KR, L, R, N> {
    pub(super) fn new(left: A, right: B, kl: KL, kr: KR, interval: N, join: JoinType) -> Self {
        let held = Buffers {
            // Replaced when the job starts.
            interval: Interval::within(0),
            join,
            left: Buffer::default(),
            right: Buffer::default(),
            deadlines: Deadlines::default(),
            watermark: Watermark::NONE,
        };
        Self { sides: (left, right), keys: (kl, kr), interval, held }
    }
}

impl<L: Held, R: Held> Buffers<L, R> {
    fn left<P>(
        &mut self,
        key: &str,
        left: &L,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Joined<L, R>, EventTime, &mut Context<'_, P>),
    ) {
        if at.0 < self.watermark.0 {
            ctx.late();
            return;
        }
        let mut matched = false;
        if let Some(shared) = self.right.records.shared(key).cloned()
            && let Some(partners) = self.interval.partners(Side::Left, at.0)
        {
            ctx.derive(|ctx| {
                self.right.records.update(key, partners, |(time, _), right| {
                    let first = !std::mem::replace(&mut matched, true);
                    let partner = match self.join {
                        JoinType::Anti => return false,
                        JoinType::Semi if !first => return false,
                        JoinType::Semi => None,
                        _ => Some(right.value.clone()),
                    };
                    let pair = Joined { key: shared.clone(), left: Some(left.clone()), right: partner };
                    out(&pair, at.max(EventTime(*time)), ctx);
                    self.join.keeps_right() && !std::mem::replace(&mut right.matched, true)
                });
            });
        }
        self.left.push(key, at.0, left.clone(), matched, ctx.keep());
        let deadline = self.interval.dropped_at(Side::Left, at.0);
        self.deadlines.no_later_than(key, deadline, || self.left.key(key));
    }

    fn right<P>(
        &mut self,
        key: &str,
        right: &R,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Joined<L, R>, EventTime, &mut Context<'_, P>),
    ) {
        if at.0 < self.watermark.0 {
            ctx.late();
            return;
        }
        let mut matched = false;
        if let Some(shared) = self.left.records.shared(key).cloned()
            && let Some(partners) = self.interval.partners(Side::Right, at.0)
        {
            ctx.derive(|ctx| {
                self.left.records.update(key, partners, |(time, _), left| {
                    matched = true;
                    let partner = match self.join {
                        JoinType::Anti => return !std::mem::replace(&mut left.matched, true),
                        JoinType::Semi if left.matched => return false,
                        JoinType::Semi => None,
                        _ => Some(right.clone()),
                    };
                    let pair = Joined { key: shared.clone(), left: Some(left.value.clone()), right: partner };
                    out(&pair, at.max(EventTime(*time)), ctx);
                    let tells = self.join.keeps_left() || self.join == JoinType::Semi;
                    tells && !std::mem::replace(&mut left.matched, true)
                });
            });
        }
        self.right.push(key, at.0, right.clone(), matched, ctx.keep());
        let deadline = self.interval.dropped_at(Side::Right, at.0);
        self.deadlines.no_later_than(key, deadline, || self.right.key(key));
    }

    /// The next deadline of a key.
    fn plan(&mut self, key: &Arc<str>) {
        let left = self.left.first(key).map(|at| self.interval.dropped_at(Side::Left, at));
        let right = self.right.first(key).map(|at| self.interval.dropped_at(Side::Right, at));
        if let Some(next) = left.into_iter().chain(right).min() {
            self.deadlines.no_later_than(key, next, || key.clone());
        }
    }

    /// Drops what nothing can join any more, in the order of (deadline, key, side, time).
    fn drop_due<P>(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Joined<L, R>, EventTime, &mut Context<'_, P>),
    ) {
        self.watermark = ctx.watermark;
        while let Some((deadline, key)) = self.deadlines.pop(self.watermark.0) {
            let until = self.interval.dropped_until(Side::Left, deadline);
            while let Some((left, at, owned)) = self.left.drop_first(&key, until) {
                if self.join.keeps_left() && !left.matched {
                    let alone = Joined { key: key.clone(), left: Some(left.value), right: None };
                    ctx.derive(|ctx| out(&alone, EventTime(at), ctx));
                }
                ctx.done(owned);
            }
            let until = self.interval.dropped_until(Side::Right, deadline);
            while let Some((right, at, owned)) = self.right.drop_first(&key, until) {
                if self.join.keeps_right() && !right.matched {
                    let alone = Joined { key: key.clone(), left: None, right: Some(right.value) };
                    ctx.derive(|ctx| out(&alone, EventTime(at), ctx));
                }
                ctx.done(owned);
            }
            self.plan(&key);
        }
    }

    fn start(&mut self, interval: Interval, watermark: Watermark) {
        self.watermark = watermark;
        self.left.start();
        self.right.start();
        self.put_in_force(interval);
    }

    /// Puts an interval in force.
    fn put_in_force(&mut self, interval: Interval) {
        self.interval = interval;
        self.deadlines.clear();
        let keys: Vec<Arc<str>> =
            self.left.records.keys().chain(self.right.records.keys()).cloned().collect();
        for key in &keys {
            self.plan(key);
        }
    }
}

impl<P, E, A, B, KL, KR, L, R, N> Operator<P, E> for IntervalJoin<A, B, KL, KR, L, R, N>
where
    A: Operator<P, E, Out = L>,
    B: Operator<P, E, Out = R>,
    KL: Fn(&L) -> &str,
    KR: Fn(&R) -> &str,
    L: Held,
    R: Held,
    N: Fn(&P) -> Interval,
{
    type Out = Joined<L, R>;

    fn record(
        &mut self,
        event: &E,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), held, .. } = self;
        ctx.fan_out(2);
        a.record(event, at, ctx, &mut |left, at, ctx| held.left(kl(left), left, at, ctx, out));
        b.record(event, at, ctx, &mut |right, at, ctx| held.right(kr(right), right, at, ctx, out));
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), held, .. } = self;
        a.watermark(ctx, &mut |left, at, ctx| held.left(kl(left), left, at, ctx, out));
        b.watermark(ctx, &mut |right, at, ctx| held.right(kr(right), right, at, ctx, out));
        held.drop_due(ctx, out);
    }

    fn processing_time(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), held, .. } = self;
        a.processing_time(ctx, &mut |left, at, ctx| held.left(kl(left), left, at, ctx, out));
        b.processing_time(ctx, &mut |right, at, ctx| held.right(kr(right), right, at, ctx, out));
    }

    fn flush(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), held, .. } = self;
        a.flush(ctx, &mut |left, at, ctx| held.left(kl(left), left, at, ctx, out));
        b.flush(ctx, &mut |right, at, ctx| held.right(kr(right), right, at, ctx, out));
    }

    fn reference(&mut self, event: &dyn Any) {
        self.sides.0.reference(event);
        self.sides.1.reference(event);
    }

    fn start(&mut self, ctx: &mut Context<'_, P>) {
        self.sides.0.start(ctx);
        self.sides.1.start(ctx);
        self.held.start((self.interval)(ctx.params), ctx.watermark);
    }

    fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
        self.sides.0.params_changed(ctx);
        self.sides.1.params_changed(ctx);
        let interval = (self.interval)(ctx.params);
        if interval != self.held.interval {
            self.held.put_in_force(interval);
        }
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        self.sides.0.tables(visit);
        self.sides.1.tables(visit);
        visit(&mut self.held.left.records);
        visit(&mut self.held.right.records);
    }

    fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>)) {
        self.sides.0.patterns(visit);
        self.sides.1.patterns(visit);
    }

    fn pending(&self) -> u64 {
        let held = self.held.left.pending() + self.held.right.pending();
        self.sides.0.pending() + self.sides.1.pending() + held
    }
}
