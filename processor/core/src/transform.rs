//! Transformations without state: one record to several, several streams to one, one stream to several.
//!
//! ```
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//!
//! fn words() -> Box<dyn Job<String>> {
//!     let short = job::<String, NoParams>("words", "Words of lines, and short lines as they are.")
//!         .source(|line: &String| Some(line))
//!         .filter(|line, _| line.len() < 4);
//!     job::<String, NoParams>("words", "Words of lines, and short lines as they are.")
//!         .source(|line: &String| Some(line))
//!         .flat_map(|line, _, _| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
//!         .filter_map(|word, _, _| (word != "the").then(|| word.to_uppercase()))
//!         .union(short)
//!         .side_output(|word, _| word.starts_with('X'), |word| ("x", word.as_str()))
//!         .to(|word| ("words", word.as_str()))
//! }
//! let mut test = Harness::new(words);
//! test.record(&"the xenon lamp".to_owned(), 0);
//! test.record(&"a b".to_owned(), 1);
//! assert_eq!(test.emitted("words"), ["LAMP", "A", "B", "a b"]);
//! assert_eq!(test.emitted("x"), ["XENON"]);
//! ```

use std::any::Any;

use serde::Serialize;

use crate::cep::LivePattern;
use crate::state::Table;
use crate::stream::{Context, Operator, Stream, Then};
use crate::time::EventTime;

/// Makes any number of records of each.
pub struct FlatMap<F>(F);

impl<P, I, O, Os, F> Operator<P, I> for FlatMap<F>
where
    Os: IntoIterator<Item = O>,
    F: Fn(&I, EventTime, &Context<'_, P>) -> Os,
{
    type Out = O;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&O, EventTime, &mut Context<'_, P>),
    ) {
        let mut results = (self.0)(record, at, ctx).into_iter().peekable();
        if results.peek().is_none() {
            ctx.filtered();
        }
        while let Some(result) = results.next() {
            if results.peek().is_some() {
                ctx.fan_out(2); // this one and the rest
            }
            out(&result, at, ctx);
        }
    }
}

/// Hands on what it gets: the start of a branch.
pub struct Identity;

impl<P, I> Operator<P, I> for Identity {
    type Out = I;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&I, EventTime, &mut Context<'_, P>),
    ) {
        out(record, at, ctx);
    }
}

/// Writes what satisfies a predicate to a topic and hands on the rest.
pub struct SideOutput<F, R> {
    predicate: F,
    route: R,
}

impl<P, I, F, R> Operator<P, I> for SideOutput<F, R>
where
    I: Serialize,
    F: Fn(&I, &P) -> bool,
    R: Fn(&I) -> (&'static str, &str),
{
    type Out = I;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&I, EventTime, &mut Context<'_, P>),
    ) {
        if (self.predicate)(record, ctx.params) {
            let (topic, key) = (self.route)(record);
            ctx.side(topic, key, record);
        } else {
            out(record, at, ctx);
        }
    }
}

/// All of [`Operator`] but records, for an operator with two others side by side.
macro_rules! side_by_side {
    ($first:ident, $second:ident) => {
        fn watermark(
            &mut self,
            ctx: &mut Context<'_, P>,
            out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
        ) {
            self.$first.watermark(ctx, out);
            self.$second.watermark(ctx, out);
        }

        fn processing_time(
            &mut self,
            ctx: &mut Context<'_, P>,
            out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
        ) {
            self.$first.processing_time(ctx, out);
            self.$second.processing_time(ctx, out);
        }

        fn flush(
            &mut self,
            ctx: &mut Context<'_, P>,
            out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
        ) {
            self.$first.flush(ctx, out);
            self.$second.flush(ctx, out);
        }

        fn reference(&mut self, event: &dyn Any) {
            self.$first.reference(event);
            self.$second.reference(event);
        }

        fn start(&mut self, ctx: &mut Context<'_, P>) {
            self.$first.start(ctx);
            self.$second.start(ctx);
        }

        fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
            self.$first.params_changed(ctx);
            self.$second.params_changed(ctx);
        }

        fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
            self.$first.tables(visit);
            self.$second.tables(visit);
        }

        fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>)) {
            self.$first.patterns(visit);
            self.$second.patterns(visit);
        }

        fn pending(&self) -> u64 {
            self.$first.pending() + self.$second.pending()
        }
    };
}

/// Two streams as one. Each record counts once for each of them.
pub struct Union<A, B> {
    first: A,
    second: B,
}

impl<P, E, A, B> Operator<P, E> for Union<A, B>
where
    A: Operator<P, E>,
    B: Operator<P, E, Out = A::Out>,
{
    type Out = A::Out;

    fn record(
        &mut self,
        event: &E,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&A::Out, EventTime, &mut Context<'_, P>),
    ) {
        ctx.fan_out(2);
        self.first.record(event, at, ctx, out);
        self.second.record(event, at, ctx, out);
    }

    side_by_side!(first, second);
}

/// One branch for what satisfies a predicate, another for the rest.
pub struct Split<F, A, B> {
    predicate: F,
    yes: A,
    no: B,
}

impl<P, I, F, A, B> Operator<P, I> for Split<F, A, B>
where
    F: Fn(&I, &P) -> bool,
    A: Operator<P, I>,
    B: Operator<P, I, Out = A::Out>,
{
    type Out = A::Out;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&A::Out, EventTime, &mut Context<'_, P>),
    ) {
        if (self.predicate)(record, ctx.params) {
            self.yes.record(record, at, ctx, out);
        } else {
            self.no.record(record, at, ctx, out);
        }
    }

    side_by_side!(yes, no);
}

impl<E, P, I, Op> Stream<E, P, I, Op> {
    /// Makes any number of records of each, at its time. A record of which none is made is filtered.
    pub fn flat_map<O, Os, F>(self, map: F) -> Stream<E, P, O, Then<Op, FlatMap<F>>>
    where
        Os: IntoIterator<Item = O>,
        F: Fn(&I, EventTime, &Context<'_, P>) -> Os,
    {
        self.then(FlatMap(map))
    }

    /// Makes one record of each, or filters it.
    pub fn filter_map<O, F>(self, map: F) -> Stream<E, P, O, Then<Op, FlatMap<F>>>
    where
        F: Fn(&I, EventTime, &Context<'_, P>) -> Option<O>,
    {
        self.then(FlatMap(map))
    }

    /// Goes on with the records of both streams, for each event first with those of this one. Both are of the same job,
    /// whose name and description are taken from this one.
    pub fn union<B>(self, other: Stream<E, P, I, B>) -> Stream<E, P, I, Union<Op, B>> {
        Stream {
            descriptor: self.descriptor,
            op: Union { first: self.op, second: other.op },
            types: self.types,
        }
    }

    /// Goes on in two ways, which meet again: `yes` for records that satisfy the predicate, `no` for the others.
    ///
    /// ```
    /// use millrace_core::params::NoParams;
    /// use millrace_core::stream::job;
    ///
    /// job::<i64, NoParams>("sizes", "Large numbers are halved, others dropped unless they are even.")
    ///     .source(|n: &i64| Some(n))
    ///     .split(|n, _| *n > 100, |large| large.map(|n, _, _| n / 2), |small| small.filter(|n, _| n % 2 == 0))
    ///     .to(|_| ("sizes", ""));
    /// ```
    #[allow(clippy::type_complexity)]
    pub fn split<O, F, A, B>(
        self,
        predicate: F,
        yes: impl FnOnce(Stream<E, P, I, Identity>) -> Stream<E, P, O, A>,
        no: impl FnOnce(Stream<E, P, I, Identity>) -> Stream<E, P, O, B>,
    ) -> Stream<E, P, O, Then<Op, Split<F, A, B>>>
    where
        F: Fn(&I, &P) -> bool,
        A: Operator<P, I, Out = O>,
        B: Operator<P, I, Out = O>,
    {
        let branch = || Stream { descriptor: self.descriptor.clone(), op: Identity, types: self.types };
        let (yes, no) = (yes(branch()).op, no(branch()).op);
        self.then(Split { predicate, yes, no })
    }

    /// Writes what satisfies the predicate to the topic and key that `route` names, and goes on with the rest.
    pub fn side_output<F, R>(self, predicate: F, route: R) -> Stream<E, P, I, Then<Op, SideOutput<F, R>>>
    where
        I: Serialize,
        F: Fn(&I, &P) -> bool,
        R: Fn(&I) -> (&'static str, &str),
    {
        self.then(SideOutput { predicate, route })
    }
}

#[cfg(test)]
mod tests {
    use crate::params::NoParams;
    use crate::stream::{Job, job};
    use crate::testing::Harness;
    use crate::window::{Aggregate, WindowSpec};
    use crate::{EventTime, invariant::Stats};

    struct Count;

    impl Aggregate<i64> for Count {
        type Acc = u64;
        type Out = u64;

        fn create(&self) -> u64 {
            0
        }

        fn add(&self, acc: &mut u64, _: &i64, _: EventTime) {
            *acc += 1;
        }

        fn merge(&self, acc: &mut u64, other: &u64) {
            *acc += other;
        }

        fn result(&self, acc: &u64) -> u64 {
            *acc
        }
    }

    /// n copies of n; odd ones counted in windows, others handed on, zeros filtered.
    fn copies() -> Box<dyn Job<i64>> {
        let negative = job::<i64, NoParams>("copies", "").source(|n: &i64| Some(n)).filter(|n, _| *n < 0);
        job::<i64, NoParams>("copies", "")
            .source(|n: &i64| Some(n))
            .flat_map(|n, _, _| std::iter::repeat_n(*n, usize::try_from(*n).unwrap_or(0)))
            .split(
                |n, _| n % 2 == 1,
                |odd| {
                    odd.key_by(|_| "odd")
                        .window(|_| WindowSpec::tumbling(10))
                        .aggregate(Count)
                        .map(|window, _, _| window.value as i64 * 1_000)
                },
                |even| even.filter(|n, _| *n != 4),
            )
            .union(negative)
            .side_output(|n, _| *n == -1, |_| ("minus-one", ""))
            .to(|_| ("out", ""))
    }

    #[test]
    fn every_part_of_a_record_ends_somewhere() {
        let mut test = Harness::new(copies);
        for n in [0, 2, 3, 4, -1, -2, 1] {
            test.record(&n, 5);
        }
        assert_eq!(
            (test.emitted("out"), test.emitted("minus-one")),
            (vec![2.into(), 2.into(), (-2).into()], vec![(-1).into()])
        );
        let (stats, pending) = (test.job().stats(), test.job().pending());
        // Seven for each of two branches, and six more copies.
        let expected =
            Stats { records: 20, filtered: 12, done: 4, emitted: 4, windowed: 4, ..Stats::default() };
        assert_eq!((stats, pending), (expected, 4));
        test.restore();
        test.watermark(9);
        assert_eq!(test.emitted("out"), [4_000]);
        test.record(&3, 5);
        let stats = test.job().stats();
        assert_eq!((stats.late, test.job().pending(), stats.balances(0)), (3, 0, true));
        assert!(test.state_is_empty());
    }
}
