use std::hash::Hash;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::kinds::delegate;
use super::ttl::{AT_ONCE, Expiry};
use super::{Change, ColdTable, Moment, SortedState, State, StateError, Table, Timed, Ttl, decode};

/// What a second key must be able to do.
pub trait MapKey: Ord + Hash + Clone + Serialize + DeserializeOwned {}

impl<K: Ord + Hash + Clone + Serialize + DeserializeOwned> MapKey for K {}

/// Values per key by a second key, in its order; each entry lives and expires on its own. Flink's `MapState`.
#[derive(Debug)]
pub struct MapState<K, V> {
    entries: SortedState<K, Timed<V>>,
    expiry: Expiry<(Arc<str>, K)>,
}

impl<K, V> Default for MapState<K, V> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<K, V> MapState<K, V> {
    /// In memory.
    pub fn new(ttl: Option<Ttl>) -> Self {
        Self { entries: SortedState::default(), expiry: Expiry::new(ttl) }
    }

    /// In memory, with a time to live.
    pub fn with_ttl(ttl: Ttl) -> Self {
        Self::new(Some(ttl))
    }
}

impl<K: MapKey, V: DeserializeOwned> MapState<K, V> {
    /// The value of an entry.
    pub fn get(&mut self, key: &str, at: &K, moment: Moment) -> Option<&V> {
        self.read(key, at..=at, moment);
        let timed = self.entries.get(key, at)?;
        self.expiry.is_live(timed, moment).then_some(&timed.value)
    }

    /// Sets the value of an entry.
    pub fn set(&mut self, key: &str, at: K, value: V, moment: Moment) {
        self.entries.fetch(key);
        let mut timed = self.expiry.timed(value, moment);
        if let Some(before) = self.entries.get(key, &at).filter(|before| self.expiry.is_live(before, moment))
        {
            timed.accessed = timed.accessed.max(before.accessed);
        }
        let accessed = timed.accessed;
        self.entries.set(key, at.clone(), timed);
        if let Some(shared) = self.entries.shared(key) {
            let place = (shared.clone(), at);
            self.expiry.plan(&place, accessed, || place.clone());
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &str, at: &K, moment: Moment) -> Option<V> {
        self.entries.fetch(key);
        let place = (self.entries.shared(key)?.clone(), at.clone());
        let timed = self.entries.remove(key, at)?;
        self.expiry.forget(&place);
        self.expiry.is_live(&timed, moment).then_some(timed.value)
    }

    /// The entries of a key, in order.
    pub fn entries(&mut self, key: &str, moment: Moment) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.read(key, .., moment);
        let Self { entries, expiry } = self;
        let live = entries.range(key, ..).filter(move |(_, timed)| expiry.is_live(timed, moment));
        live.map(|(at, timed)| (at, &timed.value))
    }

    /// Forgets the key.
    pub fn clear(&mut self, key: &str) {
        self.entries.fetch(key);
        let Some(shared) = self.entries.shared(key).cloned() else { return };
        for (at, _) in self.entries.range(key, ..) {
            self.expiry.forget(&(shared.clone(), at.clone()));
        }
        self.entries.clear(key);
    }

    fn read<'a>(&mut self, key: &str, range: impl std::ops::RangeBounds<K> + 'a, moment: Moment)
    where
        K: 'a,
    {
        let Self { entries, expiry } = self;
        entries.fetch(key);
        if expiry.refreshes_on_read() {
            entries
                .update(key, range, |_, timed| expiry.is_live(timed, moment) && expiry.read(timed, moment));
        }
    }
}

impl<K: MapKey, V: Serialize + DeserializeOwned> State for MapState<K, V> {
    fn expire(&mut self, moment: Moment) {
        let Self { entries, expiry } = self;
        let mut expired = Vec::new();
        entries.some(expiry.due(entries.len(), moment), &mut |key, at, timed| {
            if !expiry.is_live(timed, moment) {
                expired.push((key, at));
            }
        });
        for (key, at) in expired {
            entries.fetch(&key);
            // In memory it may be newer.
            if entries.get(&key, &at).is_some_and(|timed| !expiry.is_live(timed, moment)) {
                entries.remove(&key, &at);
            }
        }
        for _ in 0..AT_ONCE {
            let Some(place) = self.expiry.pop(moment) else { break };
            match self.entries.get(&place.0, &place.1) {
                Some(timed) if self.expiry.is_live(timed, moment) => {
                    self.expiry.plan(&place, timed.accessed, || place.clone());
                }
                _ => {
                    self.entries.remove(&place.0, &place.1);
                }
            }
        }
    }
}

impl<K: MapKey, V: Serialize + DeserializeOwned> Table for MapState<K, V> {
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.entries.owner(key)
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        self.entries.changes(change);
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        self.entries.snapshot(entry);
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        self.entries.load(key, value)?;
        if !self.expiry.has_ttl() {
            return Ok(());
        }
        let place: (Arc<str>, K) = decode(key)?;
        self.expiry.forget(&place);
        if let Some(timed) = self.entries.get(&place.0, &place.1) {
            self.expiry.plan(&place, timed.accessed, || place.clone());
        }
        Ok(())
    }

    fn attach(&mut self, cold: ColdTable) {
        self.expiry.without_index();
        self.entries.leave_in(cold);
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

/// Values per key in the order in which they came; each lives and expires on its own. Flink's `ListState`.
#[derive(Debug)]
pub struct ListState<V> {
    state: MapState<u64, V>,
}

impl<V> Default for ListState<V> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<V> ListState<V> {
    /// In memory.
    pub fn new(ttl: Option<Ttl>) -> Self {
        Self { state: MapState::new(ttl) }
    }
}

impl<V: DeserializeOwned> ListState<V> {
    /// Adds a value at the end.
    pub fn add(&mut self, key: &str, value: V, moment: Moment) {
        self.state.entries.fetch(key);
        let next = self.state.entries.last(key).map_or(0, |(last, _)| last + 1);
        self.state.set(key, next, value, moment);
    }

    /// The values of a key.
    pub fn elements(&mut self, key: &str, moment: Moment) -> impl DoubleEndedIterator<Item = &V> {
        self.state.entries(key, moment).map(|(_, value)| value)
    }

    /// Forgets the key.
    pub fn clear(&mut self, key: &str) {
        self.state.clear(key);
    }
}

delegate!(ListState<V>, [V], V: Serialize + DeserializeOwned);
