use std::any::Any;
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::buffer::{Buffer, Place};
use super::{Held, InvalidJoin, JoinType, Joined, instant};
use crate::cep::LivePattern;
use crate::invariant::Violation;
use crate::state::Table;
use crate::stream::{Context, Operator};
use crate::time::{EventTime, TimeWindow, Watermark};
use crate::timer::Deadlines;

/// Tumbling or sliding windows, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    size: i64,
    slide: i64,
    offset: i64,
}

impl JoinWindows {
    /// Windows of `size` side by side.
    ///
    /// # Errors
    /// Not greater than zero.
    pub fn tumbling(size: i64) -> Result<Self, InvalidJoin> {
        Self::sliding(size, size)
    }

    /// Windows of `size`, one every `slide`.
    ///
    /// # Errors
    /// Not greater than zero.
    pub fn sliding(size: i64, slide: i64) -> Result<Self, InvalidJoin> {
        if size <= 0 || slide <= 0 {
            return Err(InvalidJoin::Windows { size, slide });
        }
        Ok(Self { size, slide, offset: 0 })
    }

    /// Shifted against the epoch.
    ///
    /// # Errors
    /// Not smaller than the slide.
    pub fn offset(self, offset: i64) -> Result<Self, InvalidJoin> {
        if offset.unsigned_abs() >= self.slide.unsigned_abs() {
            return Err(InvalidJoin::Offset { offset, slide: self.slide });
        }
        Ok(Self { offset, ..self })
    }

    /// First and last start of the windows of a time. There are none if the first is after the last: with a slide larger
    /// than the size the time may lie between two windows.
    fn starts(self, t: i64) -> (i128, i128) {
        let (t, size, slide) = (i128::from(t), i128::from(self.size), i128::from(self.slide));
        let last = t - (t - i128::from(self.offset)).rem_euclid(slide);
        // Windows end after t: start > t - size.
        let earlier = (size - (t - last) - 1).div_euclid(slide);
        (last - earlier * slide, last)
    }

    /// The start of the first window of a time that the watermark has not fired yet.
    fn first_open(self, t: i64, watermark: Watermark) -> Option<i64> {
        let (first, last) = self.starts(t);
        let (size, slide) = (i128::from(self.size), i128::from(self.slide));
        // Fired: start + size - 1 <= watermark.
        let behind = i128::from(watermark.0) - (first + size - 1);
        let open = if behind < 0 { first } else { first + (behind / slide + 1) * slide };
        (open <= last).then(|| instant(open))
    }

    /// The last start of the windows that fire at this watermark, or before.
    fn fires_up_to(self, watermark: Watermark) -> Option<i64> {
        i64::try_from(i128::from(watermark.0) - i128::from(self.size) + 1).ok()
    }
}

/// What a window join does with the records of a key and window. At least one side has some; both are in the order of
/// time, then of arrival.
pub trait WindowFunction<L, R> {
    /// What it makes of them.
    type Out;
    /// Makes it.
    fn apply(
        &self,
        key: &Arc<str>,
        window: TimeWindow,
        left: &[&L],
        right: &[&R],
        emit: &mut impl FnMut(&Self::Out),
    );
}

impl<L: Clone, R: Clone> WindowFunction<L, R> for JoinType {
    type Out = Joined<L, R>;

    fn apply(
        &self,
        key: &Arc<str>,
        _: TimeWindow,
        left: &[&L],
        right: &[&R],
        emit: &mut impl FnMut(&Self::Out),
    ) {
        let mut hand_on = |left: Option<&L>, right: Option<&R>| {
            emit(&Joined { key: key.clone(), left: left.cloned(), right: right.cloned() });
        };
        let alone = match self {
            Self::Semi => !right.is_empty(),
            _ => self.keeps_left() && right.is_empty(),
        };
        let pairs = !matches!(self, Self::Semi | Self::Anti);
        for left in left {
            if alone {
                hand_on(Some(left), None);
            }
            for right in right.iter().filter(|_| pairs) {
                hand_on(Some(left), Some(right));
            }
        }
        for right in right.iter().filter(|_| left.is_empty() && self.keeps_right()) {
            hand_on(None, Some(right));
        }
    }
}

/// All of both sides together. Flink's `coGroup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CoGroup;

/// What both sides have in a window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoGrouped<L, R> {
    /// The key.
    pub key: Arc<str>,
    /// The left records.
    pub left: Vec<L>,
    /// The right records.
    pub right: Vec<R>,
}

impl<L: Clone, R: Clone> WindowFunction<L, R> for CoGroup {
    type Out = CoGrouped<L, R>;

    fn apply(
        &self,
        key: &Arc<str>,
        _: TimeWindow,
        left: &[&L],
        right: &[&R],
        emit: &mut impl FnMut(&Self::Out),
    ) {
        let all = |from: &[&L]| from.iter().map(|v| (*v).clone()).collect();
        emit(&CoGrouped {
            key: key.clone(),
            left: all(left),
            right: right.iter().map(|v| (*v).clone()).collect(),
        });
    }
}

/// Joins what two streams have in a window.
pub struct WindowJoin<A, B, KL, KR, L, R, F> {
    sides: (A, B),
    keys: (KL, KR),
    windows: JoinWindows,
    function: F,
    left: Buffer<L>,
    right: Buffer<R>,
    /// Per key, the start of the next window that has records.
    next: Deadlines<Arc<str>>,
    /// The watermark that has been dealt with. What comes out of the operators before this one while the watermark rises
    /// belongs before the new one.
    watermark: Watermark,
}

impl<A, B, KL, KR, L, R, F> WindowJoin<A, B, KL, KR, L, R, F> {
    pub(super) fn new(left: A, right: B, kl: KL, kr: KR, windows: JoinWindows, function: F) -> Self {
        Self {
            sides: (left, right),
            keys: (kl, kr),
            windows,
            function,
            left: Buffer::default(),
            right: Buffer::default(),
            next: Deadlines::default(),
            watermark: Watermark::NONE,
        }
    }
}

/// Takes a record, or refuses it.
fn take<P, T: Held>(
    windows: JoinWindows,
    watermark: Watermark,
    (buffer, next): (&mut Buffer<T>, &mut Deadlines<Arc<str>>),
    (key, value, at): (&str, &T, EventTime),
    ctx: &mut Context<'_, P>,
) {
    if let Some(start) = windows.first_open(at.0, watermark) {
        buffer.push(key, at.0, value.clone(), false, ctx.keep());
        next.no_later_than(key, start, || buffer.key(key));
        return;
    }
    let (first, last) = windows.starts(at.0);
    if first > last && at.0 > watermark.0 {
        ctx.filtered(); // between two windows
    } else {
        ctx.late();
    }
}

impl<A, B, KL, KR, L: Held, R: Held, F> WindowJoin<A, B, KL, KR, L, R, F> {
    /// The earliest time of a key's records.
    fn first(&self, key: &str) -> Option<i64> {
        self.left.first(key).into_iter().chain(self.right.first(key)).min()
    }

    /// Fires the windows that are due, in the order of (window, key), and drops the records that are in no later one.
    fn fire<P>(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&F::Out, EventTime, &mut Context<'_, P>),
    ) where
        F: WindowFunction<L, R>,
    {
        self.watermark = ctx.watermark;
        let Some(due) = self.windows.fires_up_to(self.watermark) else { return };
        while let Some((start, key)) = self.next.pop(due) {
            let window = TimeWindow { start, end: start.saturating_add(self.windows.size) };
            let end = start.checked_add(self.windows.size);
            let range: (Bound<Place>, Bound<Place>) =
                (Bound::Included((start, 0)), end.map_or(Bound::Unbounded, |end| Bound::Excluded((end, 0))));
            let (left, right) = (self.left.values(&key, range), self.right.values(&key, range));
            ctx.derive(|ctx| {
                self.function.apply(&key, window, &left, &right, &mut |result| {
                    out(result, EventTime(window.last()), ctx);
                });
            });
            let next = start.checked_add(self.windows.slide);
            let until = next.map_or(i64::MAX, |next| next.saturating_sub(1));
            while let Some((_, _, owned)) = self.left.drop_first(&key, until) {
                ctx.done(owned);
            }
            while let Some((_, _, owned)) = self.right.drop_first(&key, until) {
                ctx.done(owned);
            }
            if let (Some(first), Some(next)) = (self.first(&key), next) {
                let next = instant(self.windows.starts(first).0).max(next);
                self.next.no_later_than(&key, next, || key.clone());
            }
        }
    }

    /// Returns whether there are records whose windows have all been fired.
    fn plan(&mut self) -> bool {
        self.left.start();
        self.right.start();
        self.next.clear();
        let mut left_behind = false;
        for key in self.left.records.keys().chain(self.right.records.keys()) {
            let open = self.first(key).and_then(|first| self.windows.first_open(first, self.watermark));
            match open {
                Some(start) => self.next.no_later_than(key, start, || key.clone()),
                None => left_behind = true,
            }
        }
        left_behind
    }
}

impl<P, E, A, B, KL, KR, L, R, F> Operator<P, E> for WindowJoin<A, B, KL, KR, L, R, F>
where
    A: Operator<P, E, Out = L>,
    B: Operator<P, E, Out = R>,
    KL: Fn(&L) -> &str,
    KR: Fn(&R) -> &str,
    L: Held,
    R: Held,
    F: WindowFunction<L, R>,
{
    type Out = F::Out;

    fn record(
        &mut self,
        event: &E,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        _: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), left, right, next, .. } = self;
        let (windows, watermark) = (self.windows, self.watermark);
        ctx.fan_out(2);
        a.record(event, at, ctx, &mut |l, at, ctx| {
            take(windows, watermark, (left, next), (kl(l), l, at), ctx);
        });
        b.record(event, at, ctx, &mut |r, at, ctx| {
            take(windows, watermark, (right, next), (kr(r), r, at), ctx);
        });
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), left, right, next, .. } = self;
        let (windows, watermark) = (self.windows, self.watermark);
        a.watermark(ctx, &mut |l, at, ctx| take(windows, watermark, (left, next), (kl(l), l, at), ctx));
        b.watermark(ctx, &mut |r, at, ctx| take(windows, watermark, (right, next), (kr(r), r, at), ctx));
        self.fire(ctx, out);
    }

    fn processing_time(
        &mut self,
        ctx: &mut Context<'_, P>,
        _: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), left, right, next, .. } = self;
        let (windows, watermark) = (self.windows, self.watermark);
        a.processing_time(ctx, &mut |l, at, ctx| take(windows, watermark, (left, next), (kl(l), l, at), ctx));
        b.processing_time(ctx, &mut |r, at, ctx| {
            take(windows, watermark, (right, next), (kr(r), r, at), ctx);
        });
    }

    fn flush(
        &mut self,
        ctx: &mut Context<'_, P>,
        _: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { sides: (a, b), keys: (kl, kr), left, right, next, .. } = self;
        let (windows, watermark) = (self.windows, self.watermark);
        a.flush(ctx, &mut |l, at, ctx| take(windows, watermark, (left, next), (kl(l), l, at), ctx));
        b.flush(ctx, &mut |r, at, ctx| take(windows, watermark, (right, next), (kr(r), r, at), ctx));
    }

    fn reference(&mut self, event: &dyn Any) {
        self.sides.0.reference(event);
        self.sides.1.reference(event);
    }

    fn start(&mut self, ctx: &mut Context<'_, P>) {
        self.sides.0.start(ctx);
        self.sides.1.start(ctx);
        self.watermark = ctx.watermark;
        if self.plan() {
            ctx.violation(Violation::StateLeftBehind);
        }
    }

    fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
        self.sides.0.params_changed(ctx);
        self.sides.1.params_changed(ctx);
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        self.sides.0.tables(visit);
        self.sides.1.tables(visit);
        visit(&mut self.left.records);
        visit(&mut self.right.records);
    }

    fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>)) {
        self.sides.0.patterns(visit);
        self.sides.1.patterns(visit);
    }

    fn pending(&self) -> u64 {
        self.sides.0.pending() + self.sides.1.pending() + self.left.pending() + self.right.pending()
    }
}
