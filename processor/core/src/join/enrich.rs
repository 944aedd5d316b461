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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::params::NoParams;
    use crate::stream::{Job, job};
    use crate::testing::Harness;

    enum Event {
        Order(String, u32),
        Price(String, Option<u32>),
    }

    type Order = (String, u32);

    fn priced() -> Box<dyn Job<Event>> {
        job::<Event, NoParams>("priced", "Orders with the price of their article.")
            .source(|event: &Event| Some(event))
            .filter_map(|event, _, _| match event {
                Event::Order(article, number) => Some((article.clone(), *number)),
                Event::Price(..) => None,
            })
            .key_by(|order: &Order| &order.0)
            .enrich(|event: &Event| match event {
                Event::Price(article, price) => Some((article.as_str(), price.as_ref())),
                Event::Order(..) => None,
            })
            .map(|order, _, _| (order.record.1, order.reference))
            .to(|_| ("out", ""))
    }

    fn order(test: &mut Harness<Event>, number: u32, at: i64) -> Vec<Value> {
        test.record(&Event::Order("pen".to_owned(), number), at);
        test.emitted("out")
    }

    #[test]
    fn a_record_finds_what_is_known_when_it_is_processed() {
        let mut test = Harness::new(priced);
        let price = |price| Event::Price("pen".to_owned(), price);
        assert_eq!(order(&mut test, 1, 500), [json!([1, null])], "nothing is known, and the record goes on");
        test.reference(&price(Some(3)));
        test.reference(&Event::Price("ink".to_owned(), Some(9)));
        assert_eq!(order(&mut test, 2, 10), [json!([2, 3])], "whatever its time");
        test.restore();
        assert_eq!(order(&mut test, 3, 20), [json!([3, 3])]);
        test.reference(&price(Some(4)));
        assert_eq!(order(&mut test, 4, 15), [json!([4, 4])], "the newest, also for an older record");
        test.reference(&price(None));
        assert_eq!(order(&mut test, 5, 30), [json!([5, null])]);
        test.reference(&Event::Price("ink".to_owned(), None));
        assert!(test.state_is_empty());
        let stats = test.job().stats();
        assert_eq!((stats.records, stats.done, stats.late), (5, 5, 0));
    }

    #[test]
    fn what_is_the_same_as_before_is_not_told_again() {
        let mut test = Harness::new(priced);
        let told = |test: &mut Harness<Event>, price: Option<u32>| {
            test.reference(&Event::Price("pen".to_owned(), price));
            let mut entries = 0;
            test.job().tables(&mut |table| table.changes(&mut |_, _| entries += 1));
            entries
        };
        let changes = [Some(3), Some(3), Some(4), None, None].map(|price| told(&mut test, price));
        assert_eq!(changes, [1, 0, 1, 1, 0]);
    }
}
