//! A job: a chain of operators with its parameters, its accounts and where its results go, as its task sees it.
//!
//! ```
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//!
//! fn even() -> Box<dyn Job<u32>> {
//!     job::<u32, NoParams>("even", "Even numbers.")
//!         .topics(&["numbers"], &["even-numbers"])
//!         .source(|n: &u32| Some(n))
//!         .filter(|n, _| n % 2 == 0)
//!         .to(|_| ("even-numbers", "all"))
//! }
//! assert_eq!((even().descriptor().name, even().descriptor().outputs), ("even", &["even-numbers"][..]));
//! let mut test = Harness::new(even);
//! (1..=5).for_each(|n| test.record(&n, 1_000));
//! let stats = test.job().stats();
//! assert_eq!((stats.records, stats.filtered, stats.emitted), (5, 3, 2));
//! ```

use std::any::Any;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cep::LivePattern;
use crate::invariant::{Stats, Violation};
use crate::params::{Params, Refused, merge};
use crate::repartition::SecondStage;
use crate::state::Table;
use crate::stream::{Context, Operator, Scope};
use crate::time::{EventTime, Watermark};

/// What a job is, for people and for forms.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// Its name, unique in its app.
    pub name: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// Topics that it reads.
    pub inputs: &'static [&'static str],
    /// Topics that it writes.
    pub outputs: &'static [&'static str],
    /// JSON Schema of its parameters.
    pub schema: Value,
    /// Whether all of its results are alerts.
    pub alerts: bool,
}

/// A job, as its task sees it.
pub trait Job<E> {
    /// What it is.
    fn descriptor(&self) -> &Descriptor;
    /// A record.
    fn record(&mut self, event: &E, at: EventTime, scope: &mut Scope<'_>);
    /// A record of a reference topic, as the app parsed it.
    fn reference(&mut self, event: &dyn Any);
    /// The watermark has risen.
    fn watermark(&mut self, scope: &mut Scope<'_>);
    /// The processing-time clock has moved.
    fn processing_time(&mut self, scope: &mut Scope<'_>);
    /// A commit follows: what is held for the time between two commits goes on.
    fn flush(&mut self, scope: &mut Scope<'_>);
    /// The state is loaded; records follow.
    fn start(&mut self, scope: &mut Scope<'_>);
    /// Puts parameters in force.
    ///
    /// # Errors
    /// They can't be read or are outside of their limits; the ones in force stay.
    fn set_params(
        &mut self,
        version: i64,
        values: &Map<String, Value>,
        scope: &mut Scope<'_>,
    ) -> Result<(), Refused>;
    /// Puts back parameters from the state, before [`Job::start`].
    ///
    /// # Errors
    /// This build's limits refuse them.
    fn load_params(&mut self, version: i64, values: &Map<String, Value>) -> Result<(), Refused>;
    /// Parameters in force.
    fn params(&self) -> Map<String, Value>;
    /// Their version; -1 for the defaults.
    fn params_version(&self) -> i64;
    /// Visits the tables of state, always in the same order.
    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table));
    /// Visits its patterns, always in the same order.
    fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>));
    /// What became of its records.
    fn stats(&self) -> Stats;
    /// Continues counting.
    fn restore_stats(&mut self, stats: Stats);
    /// Records held in open windows.
    fn pending(&self) -> u64;
    /// What follows on a repartition topic, if the job has one.
    fn second_stage(&mut self) -> Option<&mut dyn SecondStage> {
        None
    }
}

/// Where a chain ends.
pub(crate) trait Sink<P, I> {
    /// A record that came through.
    fn take(&mut self, record: &I, at: EventTime, ctx: &mut Context<'_, P>);
}

/// Results, to the topic and key that a function names.
pub(crate) struct To<F>(pub F);

impl<P, I: Serialize, F: Fn(&I) -> (&'static str, &str)> Sink<P, I> for To<F> {
    fn take(&mut self, record: &I, _: EventTime, ctx: &mut Context<'_, P>) {
        let (topic, key) = (self.0)(record);
        ctx.side(topic, key, record);
    }
}

/// A job without a repartition topic, or what is before it or behind it.
pub(crate) struct Chain<P, Op, S> {
    descriptor: Descriptor,
    op: Op,
    sink: S,
    params: P,
    version: i64,
    stats: Stats,
    /// The last that it was given.
    watermark: Watermark,
}

impl<P: Params, Op, S> Chain<P, Op, S> {
    pub(crate) fn new(descriptor: Descriptor, op: Op, sink: S) -> Self {
        Self {
            descriptor,
            op,
            sink,
            params: P::default(),
            version: -1,
            stats: Stats::default(),
            watermark: Watermark::NONE,
        }
    }

    /// Splits into the operators with their context, and the end of the chain.
    fn parts<'a>(&'a mut self, scope: &'a mut Scope<'_>) -> (&'a mut Op, Context<'a, P>, &'a mut S) {
        if scope.watermark < self.watermark {
            self.stats.violation(Violation::WatermarkFell);
        }
        self.watermark = scope.watermark;
        let ctx = Context::new(&self.params, scope, &mut self.stats, self.descriptor.name);
        (&mut self.op, ctx, &mut self.sink)
    }
}

impl<E, P, I, Op, S> Job<E> for Chain<P, Op, S>
where
    E: 'static,
    P: Params,
    Op: Operator<P, E, Out = I>,
    S: Sink<P, I>,
{
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn record(&mut self, event: &E, at: EventTime, scope: &mut Scope<'_>) {
        self.stats.records += 1;
        let (op, mut ctx, sink) = self.parts(scope);
        op.record(event, at, &mut ctx, &mut |result, at, ctx| sink.take(result, at, ctx));
        ctx.settle();
    }

    fn reference(&mut self, event: &dyn Any) {
        self.op.reference(event);
    }

    fn watermark(&mut self, scope: &mut Scope<'_>) {
        let (op, mut ctx, sink) = self.parts(scope);
        ctx.derive(|ctx| op.watermark(ctx, &mut |result, at, ctx| sink.take(result, at, ctx)));
    }

    fn processing_time(&mut self, scope: &mut Scope<'_>) {
        let (op, mut ctx, sink) = self.parts(scope);
        ctx.derive(|ctx| op.processing_time(ctx, &mut |result, at, ctx| sink.take(result, at, ctx)));
    }

    fn flush(&mut self, scope: &mut Scope<'_>) {
        let (op, mut ctx, sink) = self.parts(scope);
        ctx.derive(|ctx| op.flush(ctx, &mut |result, at, ctx| sink.take(result, at, ctx)));
    }

    fn start(&mut self, scope: &mut Scope<'_>) {
        let (op, mut ctx, _) = self.parts(scope);
        op.start(&mut ctx);
    }

    fn set_params(
        &mut self,
        version: i64,
        values: &Map<String, Value>,
        scope: &mut Scope<'_>,
    ) -> Result<(), Refused> {
        self.params = merge(values)?;
        self.version = version;
        let (op, mut ctx, _) = self.parts(scope);
        op.params_changed(&mut ctx);
        Ok(())
    }

    fn load_params(&mut self, version: i64, values: &Map<String, Value>) -> Result<(), Refused> {
        self.params = merge(values)?;
        self.version = version;
        Ok(())
    }

    fn params(&self) -> Map<String, Value> {
        self.params.to_map()
    }

    fn params_version(&self) -> i64 {
        self.version
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        self.op.tables(visit);
    }

    fn patterns(&self, visit: &mut dyn FnMut(LivePattern<'_>)) {
        self.op.patterns(visit);
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn restore_stats(&mut self, stats: Stats) {
        self.stats = stats;
    }

    fn pending(&self) -> u64 {
        self.op.pending()
    }
}
