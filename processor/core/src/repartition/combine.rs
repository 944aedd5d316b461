use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::stream::{Context, Operator, Stream, Then};
use crate::time::EventTime;
use crate::window::Aggregate;

/// What some records of a key and a slice of event time come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partial<A> {
    /// The key.
    pub key: String,
    /// How many records.
    pub records: u64,
    /// Their accumulator.
    pub acc: A,
}

/// Aggregates what comes between two commits.
pub struct Combine<K, A, Acc> {
    slice: i64,
    key: K,
    aggregate: A,
    /// By the start of the slice, and by key. Empty at every commit.
    partials: BTreeMap<i64, BTreeMap<String, (u64, Acc)>>,
    /// Records in them that are counted here.
    kept: u64,
}

impl<P, I, K, A> Operator<P, I> for Combine<K, A, A::Acc>
where
    K: Fn(&I) -> &str,
    A: Aggregate<I>,
{
    type Out = Partial<A::Acc>;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let key = (self.key)(record);
        if at.0 <= ctx.watermark.0 {
            // Perhaps too late for its window: it must not take others with it.
            let mut acc = self.aggregate.create();
            self.aggregate.add(&mut acc, record, at);
            return out(&Partial { key: key.to_owned(), records: 1, acc }, at, ctx);
        }
        let start = at.0.saturating_sub(at.0.rem_euclid(self.slice));
        let slice = self.partials.entry(start).or_default();
        if let Some((records, acc)) = slice.get_mut(key) {
            *records += 1;
            self.aggregate.add(acc, record, at);
        } else {
            let mut acc = self.aggregate.create();
            self.aggregate.add(&mut acc, record, at);
            slice.insert(key.to_owned(), (1, acc));
        }
        self.kept += ctx.keep();
    }

    fn flush(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        ctx.done(std::mem::take(&mut self.kept));
        for (start, slice) in std::mem::take(&mut self.partials) {
            for (key, (records, acc)) in slice {
                out(&Partial { key, records, acc }, EventTime(start), ctx);
            }
        }
    }

    fn pending(&self) -> u64 {
        self.kept
    }
}

/// Adds up partial results of an aggregate over records of type `I`: what the second stage does with what
/// [`Stream::combine`] made.
#[derive(Debug, Clone, Copy)]
pub struct Merge<A, I> {
    aggregate: A,
    records: PhantomData<fn(I)>,
}

impl<A: Aggregate<I>, I> Merge<A, I> {
    /// Of the aggregate that was given to [`Stream::combine`].
    pub fn new(aggregate: A) -> Self {
        Self { aggregate, records: PhantomData }
    }
}

impl<A: Aggregate<I>, I> Aggregate<Partial<A::Acc>> for Merge<A, I> {
    type Acc = A::Acc;
    type Out = A::Out;

    fn create(&self) -> A::Acc {
        self.aggregate.create()
    }

    fn add(&self, acc: &mut A::Acc, partial: &Partial<A::Acc>, _: EventTime) {
        self.aggregate.merge(acc, &partial.acc);
    }

    fn merge(&self, acc: &mut A::Acc, other: &A::Acc) {
        self.aggregate.merge(acc, other);
    }

    fn result(&self, acc: &A::Acc) -> A::Out {
        self.aggregate.result(acc)
    }
}

impl<E, P, I, Op> Stream<E, P, I, Op> {
    /// Aggregates the records of a key and a slice of `slice` ms of event time that come between two commits, before they
    /// are [repartitioned](Stream::repartition). Windows behind it must begin and end with a slice. Sums of `f64` are
    /// exact to the rounding of their additions, whose order is another one then.
    #[allow(clippy::type_complexity)]
    pub fn combine<K: Fn(&I) -> &str, A: Aggregate<I>>(
        self,
        slice: i64,
        key: K,
        aggregate: A,
    ) -> Stream<E, P, Partial<A::Acc>, Then<Op, Combine<K, A, A::Acc>>> {
        let slice = slice.max(1);
        self.then(Combine { slice, key, aggregate, partials: BTreeMap::new(), kept: 0 })
    }
}
