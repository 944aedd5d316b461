//! The DataStream-like API that jobs are written in.
//!
//! A job is a chain of operators, put together once and compiled to one function per record: no boxes between them.
//! Each operator hands a reference to the next. Functions get the job's live parameters as their last argument.
//!
//! ```
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//!
//! fn large() -> Box<dyn Job<u32>> {
//!     job::<u32, NoParams>("large", "Numbers above ten.")
//!         .source(|n: &u32| Some(n))
//!         .filter(|n, _| *n > 10)
//!         .map(|n, at, _| (*n, at.0))
//!         .to(|_| ("large-numbers", "all"))
//! }
//! let mut test = Harness::new(large);
//! test.record(&7, 1_000);
//! test.record(&12, 2_000);
//! assert_eq!(test.emitted("large-numbers"), [serde_json::json!([12, 2000])]);
//! ```

mod context;

use std::any::Any;
use std::marker::PhantomData;

use serde::Serialize;

use crate::cep::LivePattern;
use crate::job::{Chain, To};
pub use crate::job::{Descriptor, Job};
pub use crate::join::{Enrich, Enriched};
use crate::params::Params;
use crate::state::Table;
use crate::time::{EventTime, Watermark};
pub use context::{Context, Origin, Scope};

/// A step of a job: takes records of type `I`, hands on records of type `Out`.
pub trait Operator<P, I> {
    /// What it hands on.
    type Out;

    /// A record.
    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    );

    /// `ctx.watermark` has risen.
    fn watermark(
        &mut self,
        _ctx: &mut Context<'_, P>,
        _out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
    }

    /// `ctx.now` has risen.
    fn processing_time(
        &mut self,
        _ctx: &mut Context<'_, P>,
        _out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
    }

    /// A commit follows: what is held for the time between two commits goes on.
    fn flush(
        &mut self,
        _ctx: &mut Context<'_, P>,
        _out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
    }

    /// A record of a reference topic, as the app parsed it.
    fn reference(&mut self, _event: &dyn Any) {}

    /// The state is loaded; records follow.
    fn start(&mut self, _ctx: &mut Context<'_, P>) {}

    /// `ctx.params` are new.
    fn params_changed(&mut self, _ctx: &mut Context<'_, P>) {}

    /// Visits the tables of state, always in the same order.
    fn tables(&mut self, _visit: &mut dyn FnMut(&mut dyn Table)) {}

    /// Visits the patterns that it looks for, always in the same order.
    fn patterns(&self, _visit: &mut dyn FnMut(LivePattern<'_>)) {}

    /// Records held in open windows.
    fn pending(&self) -> u64 {
        0
    }
}

/// One operator behind the other.
pub struct Then<A, B> {
    first: A,
    second: B,
    /// The watermark that `second` knows: it takes what a rising watermark brings out of `first` before it rises itself.
    behind: Watermark,
}

impl<A, B> Then<A, B> {
    fn new(first: A, second: B) -> Self {
        Self { first, second, behind: Watermark::NONE }
    }
}

impl<P, I, A, B> Operator<P, I> for Then<A, B>
where
    A: Operator<P, I>,
    B: Operator<P, A::Out>,
{
    type Out = B::Out;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { first, second, .. } = self;
        first.record(record, at, ctx, &mut |record, at, ctx| second.record(record, at, ctx, out));
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { first, second, behind } = self;
        let before = std::mem::replace(behind, ctx.watermark);
        first.watermark(ctx, &mut |record, at, ctx| {
            let risen = std::mem::replace(&mut ctx.watermark, before);
            second.record(record, at, ctx, out);
            ctx.watermark = risen;
        });
        second.watermark(ctx, out);
    }

    fn processing_time(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { first, second, .. } = self;
        first.processing_time(ctx, &mut |record, at, ctx| second.record(record, at, ctx, out));
        second.processing_time(ctx, out);
    }

    fn flush(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { first, second, .. } = self;
        first.flush(ctx, &mut |record, at, ctx| second.record(record, at, ctx, out));
        second.flush(ctx, out);
    }

    fn reference(&mut self, event: &dyn Any) {
        self.first.reference(event);
        self.second.reference(event);
    }

    fn start(&mut self, ctx: &mut Context<'_, P>) {
        self.behind = ctx.watermark;
        self.first.start(ctx);
        self.second.start(ctx);
    }

    fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
        self.first.params_changed(ctx);
        self.second.params_changed(ctx);
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        self.first.tables(visit);
        self.second.tables(visit);
    }

    fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>)) {
        self.first.patterns(visit);
        self.second.patterns(visit);
    }

    fn pending(&self) -> u64 {
        self.first.pending() + self.second.pending()
    }
}

/// Hands on the part of an event that concerns the job.
pub struct Select<F>(F);

impl<P, E, I, F: Fn(&E) -> Option<&I>> Operator<P, E> for Select<F> {
    type Out = I;

    fn record(
        &mut self,
        event: &E,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&I, EventTime, &mut Context<'_, P>),
    ) {
        match (self.0)(event) {
            Some(record) => out(record, at, ctx),
            None => ctx.filtered(),
        }
    }
}

/// Hands on what satisfies a predicate.
pub struct Filter<F>(F);

impl<P, I, F: Fn(&I, &P) -> bool> Operator<P, I> for Filter<F> {
    type Out = I;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&I, EventTime, &mut Context<'_, P>),
    ) {
        if (self.0)(record, ctx.params) {
            out(record, at, ctx);
        } else {
            ctx.filtered();
        }
    }
}

/// Makes one record of each.
pub struct MapRecord<F>(F);

impl<P, I, O, F: Fn(&I, EventTime, &Context<'_, P>) -> O> Operator<P, I> for MapRecord<F> {
    type Out = O;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&O, EventTime, &mut Context<'_, P>),
    ) {
        let mapped = (self.0)(record, at, ctx);
        out(&mapped, at, ctx);
    }
}

/// Starts a job. `E` is what the app parses its records to, `P` the job's parameters.
pub fn job<E, P: Params>(name: &'static str, description: &'static str) -> JobBuilder<E, P> {
    JobBuilder {
        descriptor: Descriptor {
            name,
            description,
            inputs: &[],
            outputs: &[],
            schema: P::schema(),
            alerts: false,
        },
        types: PhantomData,
    }
}

/// A job whose source is not named yet.
pub struct JobBuilder<E, P> {
    descriptor: Descriptor,
    types: PhantomData<fn(E, P)>,
}

impl<E, P> JobBuilder<E, P> {
    /// Names its topics, for people.
    pub fn topics(mut self, inputs: &'static [&'static str], outputs: &'static [&'static str]) -> Self {
        self.descriptor.inputs = inputs;
        self.descriptor.outputs = outputs;
        self
    }

    /// Every result of it is an alert.
    pub fn alerts(mut self) -> Self {
        self.descriptor.alerts = true;
        self
    }

    /// The part of an event that concerns the job; events without it are filtered.
    pub fn source<I, F: Fn(&E) -> Option<&I>>(self, select: F) -> Stream<E, P, I, Select<F>> {
        Stream { descriptor: self.descriptor, op: Select(select), types: PhantomData }
    }
}

/// A stream of records of type `I` in a job.
pub struct Stream<E, P, I, Op> {
    pub(crate) descriptor: Descriptor,
    pub(crate) op: Op,
    pub(crate) types: PhantomData<fn(E, P, I)>,
}

impl<E, P, I, Op> Stream<E, P, I, Op> {
    pub(crate) fn new(descriptor: Descriptor, op: Op) -> Self {
        Self { descriptor, op, types: PhantomData }
    }

    pub(crate) fn then<O, B: Operator<P, I, Out = O>>(self, next: B) -> Stream<E, P, O, Then<Op, B>> {
        Stream { descriptor: self.descriptor, op: Then::new(self.op, next), types: PhantomData }
    }

    /// Keeps what satisfies the predicate.
    pub fn filter<F: Fn(&I, &P) -> bool>(self, predicate: F) -> Stream<E, P, I, Then<Op, Filter<F>>> {
        self.then(Filter(predicate))
    }

    /// Makes one record of each.
    pub fn map<O, F: Fn(&I, EventTime, &Context<'_, P>) -> O>(
        self,
        map: F,
    ) -> Stream<E, P, O, Then<Op, MapRecord<F>>> {
        self.then(MapRecord(map))
    }

    /// Groups by a key: what follows has state per key.
    pub fn key_by<K: Fn(&I) -> &str>(self, key: K) -> Keyed<E, P, I, Op, K> {
        Keyed { stream: self, key }
    }
}

/// A stream grouped by key.
pub struct Keyed<E, P, I, Op, K> {
    pub(crate) stream: Stream<E, P, I, Op>,
    pub(crate) key: K,
}

impl<E: 'static, P: Params + 'static, I: Serialize + 'static, Op: Operator<P, E, Out = I> + 'static>
    Stream<E, P, I, Op>
{
    /// Ends the job: writes each record to the topic and key that `route` names.
    pub fn to<F: Fn(&I) -> (&'static str, &str) + 'static>(self, route: F) -> Box<dyn Job<E>> {
        Box::new(Chain::<P, _, _>::new(self.descriptor, self.op, To(route)))
    }
}
