use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Current, ProcessContext};
use crate::state::{State, Ttl};
use crate::time::EventTime;
use crate::time::TimeDomain;

/// A timer that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// Its clock.
    pub domain: TimeDomain,
    /// When it was to fire, epoch ms; its clock may be ahead.
    pub time: i64,
}

/// What is done with each record of a keyed stream.
pub trait ProcessFunction<P, I> {
    /// State of a key; the default is no state.
    type State: Default + PartialEq + Serialize + DeserializeOwned;
    /// What it hands on.
    type Out;

    /// A record, with the state of its key.
    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        state: &mut Current<Self::State>,
        ctx: &mut ProcessContext<'_, '_, P, Self::Out>,
    );

    /// A timer of a key, with the state of that key. A timer that is set for a time that has been reached fires with the
    /// next advance of its clock, or still in this one: one that sets itself again must do so for later.
    fn timer(
        &mut self,
        _timer: Timer,
        _state: &mut Current<Self::State>,
        _ctx: &mut ProcessContext<'_, '_, P, Self::Out>,
    ) {
    }

    /// How long state lives, under these parameters. State of a function that says none under the default parameters
    /// lives for ever; otherwise a change counts for what is there too.
    fn ttl(&self, _params: &P) -> Option<Ttl> {
        None
    }

    /// Visits further tables of state that the function has, always in the same order.
    fn states(&mut self, _visit: &mut dyn FnMut(&mut dyn State)) {}
}

/// A closure over a record and the state of its key.
pub struct MapWithState<F, T, S, O> {
    map: F,
    ttl: Option<T>,
    types: PhantomData<fn(S) -> O>,
}

impl<F, T, S, O> MapWithState<F, T, S, O> {
    pub(super) fn new(map: F, ttl: Option<T>) -> Self {
        Self { map, ttl, types: PhantomData }
    }
}

impl<P, I, S, O, F, T> ProcessFunction<P, I> for MapWithState<F, T, S, O>
where
    S: Default + PartialEq + Serialize + DeserializeOwned,
    T: Fn(&P) -> Ttl,
    F: Fn(&I, &mut Current<S>, EventTime, &P) -> Option<O>,
{
    type State = S;
    type Out = O;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        state: &mut Current<S>,
        ctx: &mut ProcessContext<'_, '_, P, O>,
    ) {
        if let Some(result) = (self.map)(record, state, at, ctx.params()) {
            ctx.collect(result);
        }
    }

    fn ttl(&self, params: &P) -> Option<Ttl> {
        self.ttl.as_ref().map(|ttl| ttl(params))
    }
}
