use std::any::Any;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::{KeyedState, Table};
use crate::stream::{Context, Keyed, Operator, Stream, Then};
use crate::time::EventTime;

/// A record with the reference data of its key.
#[derive(Debug, Clone, PartialEq)]
pub struct Enriched<I, T> {
    /// The record.
    pub record: I,
    /// Its reference data, as known when the record was processed.
    pub reference: Option<T>,
}

/// Joins a stream with a table that a reference topic keeps up to date.
pub struct Enrich<K, R, E, T> {
    key: K,
    reference: R,
    table: KeyedState<T>,
    events: PhantomData<fn(E)>,
}

impl<P, I, K, R, E, T> Operator<P, I> for Enrich<K, R, E, T>
where
    I: Clone,
    K: Fn(&I) -> &str,
    E: 'static,
    R: Fn(&E) -> Option<(&str, Option<&T>)>,
    T: Clone + PartialEq + Serialize + DeserializeOwned,
{
    type Out = Enriched<I, T>;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let reference = self.table.get((self.key)(record).as_bytes()).cloned();
        out(&Enriched { record: record.clone(), reference }, at, ctx);
    }

    fn reference(&mut self, event: &dyn Any) {
        if let Some((key, value)) = event.downcast_ref::<E>().and_then(&self.reference)
            && self.table.get(key.as_bytes()) != value
        {
            self.table.set(key.as_bytes(), value.cloned());
        }
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        visit(&mut self.table);
    }
}

impl<E, P, I, Op, K: Fn(&I) -> &str> Keyed<E, P, I, Op, K> {
    /// Adds the reference data of the key. `reference` names the key and the data of an event `A` of the app that is of a
    /// reference topic; no data means that the key is gone. Also behind a repartition topic: then the key is that of the
    /// second stage.
    #[allow(clippy::type_complexity)]
    pub fn enrich<A, T, R>(self, reference: R) -> Stream<E, P, Enriched<I, T>, Then<Op, Enrich<K, R, A, T>>>
    where
        I: Clone,
        A: 'static,
        R: Fn(&A) -> Option<(&str, Option<&T>)>,
        T: Clone + PartialEq + Serialize + DeserializeOwned,
    {
        let enrich = Enrich { key: self.key, reference, table: KeyedState::default(), events: PhantomData };
        self.stream.then(enrich)
    }
}
