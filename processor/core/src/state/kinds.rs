use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ttl::{AT_ONCE, Expiry};
use super::{Change, ColdTable, KeyedState, Moment, State, StateError, Store, Table, Timed, Ttl};
use crate::time::EventTime;
use crate::window::Aggregate;

/// What was done with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    None,
    Read,
    Write,
}

/// One value per key. Flink's `ValueState`.
#[derive(Debug)]
pub struct ValueState<V, S = KeyedState<Timed<V>>> {
    store: S,
    expiry: Expiry<Arc<[u8]>>,
    value: PhantomData<fn(V)>,
}

impl<V, S: Default> Default for ValueState<V, S> {
    fn default() -> Self {
        Self::new(S::default(), None)
    }
}

impl<V, S> ValueState<V, S> {
    /// Kept in `store`.
    pub fn new(store: S, ttl: Option<Ttl>) -> Self {
        Self { store, expiry: Expiry::new(ttl), value: PhantomData }
    }
}

impl<V> ValueState<V> {
    /// In memory, with a time to live.
    pub fn with_ttl(ttl: Ttl) -> Self {
        Self::new(KeyedState::default(), Some(ttl))
    }
}

impl<V, S: Store<Timed<V>>> ValueState<V, S> {
    /// Another time to live, for what is there too. State without one stays without.
    pub fn set_ttl(&mut self, ttl: Ttl) {
        self.expiry.change(ttl);
    }

    /// The value of a key.
    pub fn get(&mut self, key: &str, moment: Moment) -> Option<&V> {
        if self.expiry.refreshes_on_read() {
            self.access(key, moment, |_| (Access::Read, ()));
        }
        let timed = self.store.get(key.as_bytes())?;
        self.expiry.is_live(timed, moment).then_some(&timed.value)
    }

    /// Sets the value of a key; `None` removes it.
    pub fn set(&mut self, key: &str, value: Option<V>, moment: Moment) {
        self.update(key, moment, |slot| *slot = value);
    }

    /// Changes the value of a key in place; `None` is no value.
    pub fn update<R>(&mut self, key: &str, moment: Moment, update: impl FnOnce(&mut Option<V>) -> R) -> R {
        self.access(key, moment, |value| (Access::Write, update(value)))
    }

    /// Hands out the value of a key; `access` says what it did with it.
    pub(crate) fn access<R>(
        &mut self,
        key: &str,
        moment: Moment,
        access: impl FnOnce(&mut Option<V>) -> (Access, R),
    ) -> R {
        let Self { store, expiry, .. } = self;
        let bytes = key.as_bytes();
        let (planned, result) = store.modify(bytes, |slot| {
            let before = slot.take();
            let was_there = before.is_some();
            let (mut value, accessed) = match before.filter(|timed| expiry.is_live(timed, moment)) {
                Some(timed) => (Some(timed.value), Some(timed.accessed)),
                None => (None, None),
            };
            let (access, result) = access(&mut value);
            *slot = value.map(|value| {
                let mut timed = expiry.timed(value, moment);
                if let Some(accessed) = accessed {
                    timed.accessed =
                        if access == Access::Write { timed.accessed.max(accessed) } else { accessed };
                }
                timed
            });
            let changed = match (access, slot.as_mut()) {
                (Access::Write, Some(_)) => true,
                (Access::Read, Some(timed)) => expiry.read(timed, moment),
                (Access::None, Some(_)) => false,
                (_, None) => was_there,
            };
            (changed, ((was_there, slot.as_ref().map(|timed| timed.accessed)), result))
        });
        match planned {
            (_, Some(accessed)) => expiry.plan(bytes, accessed, || Arc::from(bytes)),
            (true, None) => expiry.forget(bytes),
            (false, None) => {}
        }
        result
    }
}

impl<V, S: Store<Timed<V>>> State for ValueState<V, S> {
    fn expire(&mut self, moment: Moment) {
        let Self { store, expiry, .. } = self;
        for _ in 0..AT_ONCE {
            let Some(key) = expiry.pop(moment) else { break };
            let accessed = store.modify(&key, |slot| match slot {
                Some(timed) if expiry.is_live(timed, moment) => (false, Some(timed.accessed)),
                Some(_) => {
                    *slot = None;
                    (true, None)
                }
                None => (false, None),
            });
            if let Some(accessed) = accessed {
                expiry.plan(&*key, accessed, || key.clone());
            }
        }
        let mut expired: Vec<Vec<u8>> = Vec::new();
        store.some(expiry.due(store.len(), moment), &mut |key, timed| {
            if !expiry.is_live(timed, moment) {
                expired.push(key.to_vec());
            }
        });
        for key in expired {
            // In memory it may be newer.
            store.modify(&key, |slot| {
                let gone = slot.take_if(|timed| !expiry.is_live(timed, moment)).is_some();
                (gone, ())
            });
        }
    }
}

impl<V, S: Store<Timed<V>>> Table for ValueState<V, S> {
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.store.owner(key)
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        self.store.changes(change);
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        self.store.snapshot(entry);
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        self.store.load(key, value)?;
        if !self.expiry.has_ttl() {
            return Ok(());
        }
        self.expiry.forget(key);
        if let Some(timed) = self.store.get(key) {
            self.expiry.plan(key, timed.accessed, || Arc::from(key));
        }
        Ok(())
    }

    fn attach(&mut self, cold: ColdTable) {
        self.expiry.without_index();
        self.store.attach(cold);
    }

    fn len(&self) -> usize {
        self.store.len()
    }
}

/// One value per key that each addition is folded into. Flink's `ReducingState`.
#[derive(Debug)]
pub struct ReducingState<V, F> {
    state: ValueState<V>,
    reduce: F,
}

impl<V: Serialize + DeserializeOwned, F: Fn(&V, &V) -> V> ReducingState<V, F> {
    /// `reduce` makes one value of two: what was there, and the addition.
    pub fn new(reduce: F, ttl: Option<Ttl>) -> Self {
        Self { state: ValueState::new(KeyedState::default(), ttl), reduce }
    }

    /// Folds a value in.
    pub fn add(&mut self, key: &str, value: V, moment: Moment) {
        self.state.update(key, moment, |slot| {
            *slot = Some(match slot.as_ref() {
                Some(before) => (self.reduce)(before, &value),
                None => value,
            });
        });
    }

    /// The value so far.
    pub fn get(&mut self, key: &str, moment: Moment) -> Option<&V> {
        self.state.get(key, moment)
    }

    /// Forgets the key.
    pub fn clear(&mut self, key: &str, moment: Moment) {
        self.state.set(key, None, moment);
    }
}

/// One accumulator per key. Flink's `AggregatingState`.
#[derive(Debug)]
pub struct AggregatingState<A, Acc> {
    state: ValueState<Acc>,
    aggregate: A,
}

impl<A, Acc: Serialize + DeserializeOwned> AggregatingState<A, Acc> {
    /// Folds with `aggregate`.
    pub fn new(aggregate: A, ttl: Option<Ttl>) -> Self {
        Self { state: ValueState::new(KeyedState::default(), ttl), aggregate }
    }

    /// Folds a record in.
    pub fn add<I>(&mut self, key: &str, record: &I, moment: Moment)
    where
        A: Aggregate<I, Acc = Acc>,
    {
        self.state.update(key, moment, |slot| {
            let acc = slot.get_or_insert_with(|| self.aggregate.create());
            self.aggregate.add(acc, record, EventTime(moment.at));
        });
    }

    /// The result so far.
    pub fn get<I>(&mut self, key: &str, moment: Moment) -> Option<A::Out>
    where
        A: Aggregate<I, Acc = Acc>,
    {
        self.state.get(key, moment).map(|acc| self.aggregate.result(acc))
    }

    /// Forgets the key.
    pub fn clear(&mut self, key: &str, moment: Moment) {
        self.state.set(key, None, moment);
    }
}

/// State that is another one with a different face.
macro_rules! delegate {
    ($type:ty, [$($generic:tt)*], $($bound:tt)*) => {
        impl<$($generic)*> Table for $type where $($bound)* {
            fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
                self.state.owner(key)
            }

            fn changes(&mut self, change: &mut Change<'_>) {
                self.state.changes(change);
            }

            fn snapshot(&self, entry: &mut Change<'_>) {
                self.state.snapshot(entry);
            }

            fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
                self.state.load(key, value)
            }

            fn attach(&mut self, cold: ColdTable) {
                self.state.attach(cold);
            }

            fn len(&self) -> usize {
                self.state.len()
            }
        }

        impl<$($generic)*> State for $type where $($bound)* {
            fn expire(&mut self, moment: Moment) {
                self.state.expire(moment);
            }
        }
    };
}
pub(super) use delegate;

delegate!(ReducingState<V, F>, [V, F], V: Serialize + DeserializeOwned);
delegate!(AggregatingState<A, Acc>, [A, Acc], Acc: Serialize + DeserializeOwned);
