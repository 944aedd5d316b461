use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Current, ProcessContext, ProcessFunction, Timer};
use crate::state::{KeyedState, Moment, State, Table, Ttl, ValueState};
use crate::stream::{Context, Operator};
use crate::time::EventTime;
use crate::time::TimeDomain;
use crate::timer::Timers;

/// Runs a process function. Flink's `KeyedProcessOperator`.
pub struct Process<K, F, S, O> {
    key: K,
    function: F,
    state: ValueState<S>,
    timers: Timers,
    /// Results of one call, on their way.
    outputs: Vec<(O, EventTime)>,
    /// The watermark and the clock up to which timers have fired. While they fire, time passes through theirs.
    fired: (i64, i64),
}

impl<K, F, S, O> Process<K, F, S, O>
where
    S: Default + PartialEq + Serialize + DeserializeOwned,
{
    pub(super) fn new(key: K, ttl: Option<Ttl>, function: F) -> Self {
        Self {
            key,
            function,
            state: ValueState::new(KeyedState::default(), ttl),
            timers: Timers::default(),
            outputs: Vec::new(),
            fired: (i64::MIN, i64::MIN),
        }
    }

    fn fire<P, I>(
        &mut self,
        domain: TimeDomain,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&O, EventTime, &mut Context<'_, P>),
    ) where
        F: ProcessFunction<P, I, State = S, Out = O>,
    {
        let clock = match domain {
            TimeDomain::Event => ctx.watermark.0,
            TimeDomain::Processing => ctx.now,
        };
        while let Some((time, key)) = self.timers.pop(domain, clock) {
            let mut moment = Moment::of(EventTime(time), ctx);
            match domain {
                TimeDomain::Event => moment.watermark = time.max(self.fired.0),
                TimeDomain::Processing => moment.now = time.max(self.fired.1),
            }
            let Self { function, state, timers, outputs, .. } = self;
            state.access(&key, moment, |slot| {
                let mut current = Current::take(slot);
                let mut process = ProcessContext { ctx: &mut *ctx, key: &key, moment, timers, outputs };
                function.timer(Timer { domain, time }, &mut current, &mut process);
                (current.put_back(slot), ())
            });
            ctx.derive(|ctx| outputs.drain(..).for_each(|(result, at)| out(&result, at, ctx)));
        }
        self.fired = (ctx.watermark.0, ctx.now);
        let moment = Moment::of(EventTime(i64::MIN), ctx);
        self.state.expire(moment);
        self.function.states(&mut |state| state.expire(moment));
    }
}

impl<P, I, K, F> Operator<P, I> for Process<K, F, F::State, F::Out>
where
    K: Fn(&I) -> &str,
    F: ProcessFunction<P, I>,
{
    type Out = F::Out;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&F::Out, EventTime, &mut Context<'_, P>),
    ) {
        let Self { key, function, state, timers, outputs, .. } = self;
        let (key, moment) = (key(record), Moment::of(at, ctx));
        state.access(key, moment, |slot| {
            let mut current = Current::take(slot);
            let mut process = ProcessContext { ctx: &mut *ctx, key, moment, timers, outputs };
            function.record(record, at, &mut current, &mut process);
            (current.put_back(slot), ())
        });
        // Without a result the record is done, not filtered: the function has seen it.
        if outputs.len() > 1 {
            ctx.fan_out(outputs.len() as u64);
        }
        outputs.drain(..).for_each(|(result, at)| out(&result, at, ctx));
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&F::Out, EventTime, &mut Context<'_, P>),
    ) {
        self.fire(TimeDomain::Event, ctx, out);
    }

    fn processing_time(
        &mut self,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&F::Out, EventTime, &mut Context<'_, P>),
    ) {
        self.fire(TimeDomain::Processing, ctx, out);
    }

    fn start(&mut self, ctx: &mut Context<'_, P>) {
        self.fired = (ctx.watermark.0, ctx.now);
        self.params_changed(ctx);
    }

    fn params_changed(&mut self, ctx: &mut Context<'_, P>) {
        if let Some(ttl) = self.function.ttl(ctx.params) {
            self.state.set_ttl(ttl);
        }
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        visit(&mut self.state);
        visit(&mut self.timers);
        self.function.states(&mut |state| visit(state));
    }
}
