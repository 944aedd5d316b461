use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::{Enriched, Held, InvalidJoin};
use crate::state::{SortedState, Table};
use crate::stream::{Context, Operator};
use crate::time::{EventTime, Watermark};
use crate::timer::Deadlines;

/// A version of a key's reference data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Version<'a, T> {
    /// The key.
    pub key: &'a str,
    /// From when on it is valid, until the next version is.
    pub from: EventTime,
    /// The data; `None` means that the key has none from then on.
    pub value: Option<&'a T>,
}

/// Which versions are kept: of each key the newest ones, and those among them that were valid after the watermark less
/// some time. A record from before them finds nothing. That a key has been deleted is forgotten likewise: a version from
/// before the deletion that comes after that counts as new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    versions: usize,
    behind: i64,
}

impl Retention {
    /// At most so many versions of a key; those that were valid up to `behind` ms before the watermark.
    ///
    /// # Errors
    /// No version, or less than 0 ms.
    pub fn new(versions: usize, behind: i64) -> Result<Self, InvalidJoin> {
        if versions == 0 || behind < 0 {
            return Err(InvalidJoin::Retention);
        }
        Ok(Self { versions, behind })
    }
}

/// Joins a stream with the versions of a table that a reference topic keeps up to date.
pub struct TemporalJoin<K, R, E, T> {
    key: K,
    reference: R,
    retention: Retention,
    versions: SortedState<i64, Option<T>>,
    /// Per key, the watermark at which its first version is no longer kept.
    deadlines: Deadlines<Arc<str>>,
    events: PhantomData<fn(E)>,
}

impl<K, R, E, T: Held> TemporalJoin<K, R, E, T> {
    pub(super) fn new(key: K, retention: Retention, reference: R) -> Self {
        Self {
            key,
            reference,
            retention,
            versions: SortedState::default(),
            deadlines: Deadlines::default(),
            events: PhantomData,
        }
    }

    /// The first version goes when the second covers all that is kept, or, if it says that there is nothing, when it
    /// does so itself.
    fn plan(&mut self, key: &str) {
        let Some(shared) = self.versions.shared(key).cloned() else { return };
        let goes = {
            let mut versions = self.versions.range(key, ..);
            match (versions.next(), versions.next()) {
                (Some((from, None)), _) | (Some(_), Some((from, _))) => Some(*from),
                _ => None,
            }
        };
        if let Some(from) = goes {
            let deadline = from.saturating_add(self.retention.behind);
            self.deadlines.no_later_than(&shared, deadline, || shared.clone());
        }
    }

    fn retire(&mut self, watermark: Watermark) {
        while let Some((_, key)) = self.deadlines.pop(watermark.0) {
            // A version that came later may have moved the deadline.
            let first = self.versions.first(&key).map(|(from, value)| (*from, value.is_none()));
            let second = self.versions.range(&key, ..).nth(1).map(|(from, _)| *from);
            if let Some((first, is_nothing)) = first {
                let covered_by = if is_nothing { Some(first) } else { second };
                if covered_by.is_some_and(|from| from.saturating_add(self.retention.behind) <= watermark.0) {
                    self.versions.remove(&key, &first);
                }
            }
            self.plan(&key);
        }
    }
}

impl<P, I, K, R, E, T> Operator<P, I> for TemporalJoin<K, R, E, T>
where
    I: Clone,
    K: Fn(&I) -> &str,
    E: 'static,
    R: Fn(&E) -> Option<Version<'_, T>>,
    T: Held + PartialEq,
{
    type Out = Enriched<I, T>;

    fn record(
        &mut self,
        record: &I,
        at: EventTime,
        ctx: &mut Context<'_, P>,
        out: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        let valid = self.versions.range((self.key)(record), ..=at.0).next_back();
        let reference = valid.and_then(|(_, value)| value.clone());
        out(&Enriched { record: record.clone(), reference }, at, ctx);
    }

    fn reference(&mut self, event: &dyn Any) {
        let Some(version) = event.downcast_ref::<E>().and_then(&self.reference) else { return };
        let Version { key, from: EventTime(from), value } = version;
        if self.versions.get(key, &from).is_some_and(|known| known.as_ref() == value) {
            return;
        }
        self.versions.set(key, from, value.cloned());
        if self.versions.range(key, ..).count() > self.retention.versions
            && let Some(first) = self.versions.first(key).map(|(from, _)| *from)
        {
            self.versions.remove(key, &first);
        }
        self.plan(key);
    }

    fn watermark(
        &mut self,
        ctx: &mut Context<'_, P>,
        _: &mut impl FnMut(&Self::Out, EventTime, &mut Context<'_, P>),
    ) {
        self.retire(ctx.watermark);
    }

    fn start(&mut self, _: &mut Context<'_, P>) {
        self.deadlines.clear();
        let keys: Vec<Arc<str>> = self.versions.keys().cloned().collect();
        keys.iter().for_each(|key| self.plan(key));
    }

    fn tables(&mut self, visit: &mut dyn FnMut(&mut dyn Table)) {
        visit(&mut self.versions);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::params::NoParams;
    use crate::stream::{Job, job};
    use crate::testing::Harness;

    enum Event {
        Trade(String),
        Rate(String, i64, Option<u32>),
    }

    fn trades(versions: usize, behind: i64) -> Box<dyn Job<Event>> {
        job::<Event, NoParams>("trades", "Trades with the rate of their time.")
            .source(|event: &Event| Some(event))
            .filter_map(|event, _, _| match event {
                Event::Trade(key) => Some(key.clone()),
                Event::Rate(..) => None,
            })
            .key_by(|key: &String| key)
            .temporal_join(Retention::new(versions, behind).unwrap(), |event: &Event| match event {
                Event::Rate(key, from, rate) => {
                    Some(Version { key, from: EventTime(*from), value: rate.as_ref() })
                }
                Event::Trade(_) => None,
            })
            .map(|trade, _, _| trade.reference)
            .to(|_| ("out", ""))
    }

    fn rate(test: &mut Harness<Event>, at: i64) -> Vec<Value> {
        test.record(&Event::Trade("k".to_owned()), at);
        test.emitted("out")
    }

    #[test]
    fn a_record_finds_the_version_of_its_time() {
        let mut test = Harness::new(|| trades(3, 100));
        for (from, rate) in [(30, Some(3)), (10, Some(1)), (20, Some(2))] {
            test.reference(&Event::Rate("k".to_owned(), from, rate));
        }
        assert_eq!(
            [9, 10, 29, 1_000].map(|at| rate(&mut test, at)),
            [[json!(null)], [json!(1)], [json!(2)], [json!(3)]]
        );
        test.reference(&Event::Rate("k".to_owned(), 40, Some(4)));
        assert_eq!(rate(&mut test, 10), [json!(null)], "the oldest of four is gone");
        test.watermark(129);
        assert_eq!(rate(&mut test, 20), [json!(2)]);
        test.watermark(130);
        assert_eq!(rate(&mut test, 20), [json!(null)], "version 30 covers all that is kept");
        test.reference(&Event::Rate("k".to_owned(), 50, None));
        assert_eq!([rate(&mut test, 49), rate(&mut test, 50)], [[json!(4)], [json!(null)]]);
        test.watermark(150);
        assert!(test.state_is_empty(), "a key without data leaves nothing behind");
        assert!(Retention::new(0, 1).is_err() && Retention::new(1, -1).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_retired_would_not_have_been_found(
            behind in 0..30_i64, steps in prop::collection::vec((0..5_u8, 0..2_u8, 0..100_i64), 1..80)
        ) {
            let mut test = Harness::new(move || trades(1_000, behind));
            let (mut model, mut watermark) = (BTreeMap::<(String, i64), Option<u32>>::new(), i64::MIN);
            for (number, (what, key, time)) in steps.into_iter().enumerate() {
                let key = format!("k{key}");
                match what {
                    0 | 1 if time >= watermark.saturating_sub(behind) => {
                        let value = (time % 3 > 0).then_some(number as u32);
                        test.reference(&Event::Rate(key.clone(), time, value));
                        model.insert((key, time), value);
                    }
                    2 => {
                        test.record(&Event::Trade(key.clone()), time);
                        let found = test.emitted("out");
                        let valid = model.range((key.clone(), i64::MIN)..=(key, time)).next_back();
                        if time >= watermark.saturating_sub(behind) {
                            prop_assert_eq!(found, [json!(valid.and_then(|(_, value)| *value))]);
                        }
                    }
                    3 => {
                        watermark = watermark.max(time);
                        test.watermark(watermark);
                    }
                    4 => {
                        test.restore();
                    }
                    _ => {}
                }
            }
            test.watermark(1_000);
            let keys: std::collections::BTreeMap<_, _> = model.iter().map(|((key, _), value)| (key, value)).collect();
            let mut held = 0;
            test.job().tables(&mut |table| held += table.len());
            prop_assert_eq!(held, keys.values().filter(|value| value.is_some()).count());
        }
    }
}
