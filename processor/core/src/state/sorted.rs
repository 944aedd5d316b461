use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cold::Somewhere;
use super::{Change, ColdTable, StateError, Table, decode, encode};

/// Values per key, in the order of a second key: a look at a range touches only what is in it.
#[derive(Debug)]
pub struct SortedState<K, V> {
    /// All of them, or those in use of what is [elsewhere](Elsewhere): a key with all of its entries, or not at all.
    keys: FxHashMap<Arc<str>, BTreeMap<K, Slot<V>>>,
    /// To tell the changelog, if they are still there.
    written: Vec<(Arc<str>, K)>,
    /// Gone, and the changelog knows them.
    removed: Vec<(Arc<str>, K)>,
    /// In memory or not.
    entries: usize,
    scratch: (Vec<u8>, Vec<u8>),
    elsewhere: Option<Elsewhere>,
}

/// Entries that are not in memory.
#[derive(Debug)]
struct Elsewhere {
    cold: ColdTable,
    /// Lengths of second keys, as bytes: a store has the entries of a key in one place for each of them.
    lengths: BTreeSet<usize>,
    /// What changed has been told since the last access: all of it can be let go.
    told: bool,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    dirty: bool,
    /// The changelog has an entry for it.
    known: bool,
}

impl<K, V> Default for SortedState<K, V> {
    fn default() -> Self {
        Self {
            keys: FxHashMap::default(),
            written: Vec::new(),
            removed: Vec::new(),
            entries: 0,
            scratch: Default::default(),
            elsewhere: None,
        }
    }
}

impl<K: Ord + Clone, V> SortedState<K, V> {
    /// The value at a place.
    pub fn get<Q: Ord + ?Sized>(&self, key: &str, at: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.keys.get(key)?.get(at).map(|slot| &slot.value)
    }

    /// The values in a range of places, in order. The start of the range must not be behind its end.
    pub fn range<R: RangeBounds<K>>(&self, key: &str, range: R) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        let entries = self.keys.get(key).map(|entries| entries.range(range));
        entries.into_iter().flatten().map(|(at, slot)| (at, &slot.value))
    }

    /// The first place of a key.
    pub fn first(&self, key: &str) -> Option<(&K, &V)> {
        self.keys.get(key)?.first_key_value().map(|(at, slot)| (at, &slot.value))
    }

    /// The last place of a key.
    pub fn last(&self, key: &str) -> Option<(&K, &V)> {
        self.keys.get(key)?.last_key_value().map(|(at, slot)| (at, &slot.value))
    }

    /// The keys that have values, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.keys.keys()
    }

    /// The key as it is held here, if it has values.
    pub fn shared(&self, key: &str) -> Option<&Arc<str>> {
        self.keys.get_key_value(key).map(|(key, _)| key)
    }

    /// Sets the value at a place.
    pub fn set(&mut self, key: &str, at: K, value: V) {
        let slot = Slot { value, dirty: true, known: false };
        let Some(entries) = self.keys.get_mut(key) else {
            let shared: Arc<str> = Arc::from(key);
            self.keys.insert(shared.clone(), BTreeMap::from([(at.clone(), slot)]));
            self.written.push((shared, at));
            self.entries += 1;
            return;
        };
        match entries.get_mut(&at) {
            Some(old) => {
                old.value = slot.value;
                if std::mem::replace(&mut old.dirty, true) {
                    return;
                }
            }
            None => {
                entries.insert(at.clone(), slot);
                self.entries += 1;
            }
        }
        self.written.extend(self.keys.get_key_value(key).map(|(key, _)| (key.clone(), at)));
    }

    /// Visits the values in a range of places; `update` says whether it has changed one.
    pub fn update<R: RangeBounds<K>>(
        &mut self,
        key: &str,
        range: R,
        mut update: impl FnMut(&K, &mut V) -> bool,
    ) {
        let Some(shared) = self.shared(key).cloned() else { return };
        let Some(entries) = self.keys.get_mut(key) else { return };
        for (at, slot) in entries.range_mut(range) {
            if update(at, &mut slot.value) && !std::mem::replace(&mut slot.dirty, true) {
                self.written.push((shared.clone(), at.clone()));
            }
        }
    }

    /// Removes the value at a place.
    pub fn remove(&mut self, key: &str, at: &K) -> Option<V> {
        let entries = self.keys.get_mut(key)?;
        let (at, slot) = entries.remove_entry(at)?;
        let empty = entries.is_empty();
        self.entries -= 1;
        if slot.known {
            self.removed.extend(self.shared(key).map(|key| (key.clone(), at)));
        }
        // Elsewhere its entries still are: an empty key says that they are gone.
        if empty && self.elsewhere.is_none() {
            self.keys.remove(key);
        }
        Some(slot.value)
    }

    /// Removes all values of a key.
    pub fn clear(&mut self, key: &str) {
        let Some((shared, entries)) = self.keys.remove_entry(key) else { return };
        self.entries -= entries.len();
        let known = entries.into_iter().filter(|(_, slot)| slot.known);
        self.removed.extend(known.map(|(at, _)| (shared.clone(), at)));
        if self.elsewhere.is_some() {
            self.keys.insert(shared, BTreeMap::new());
        }
    }
}

impl<K, V> SortedState<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: DeserializeOwned,
{
    /// Gives an empty table entries that stay where they are. From then on a key has to be [fetched](Self::fetch) before
    /// anything is done with it.
    pub(super) fn leave_in(&mut self, cold: ColdTable) {
        let (mut lengths, mut bytes, mut somewhere) = (BTreeSet::new(), Vec::new(), Somewhere::default());
        self.entries = 0;
        cold.each(&mut |place, value| {
            let (_, at): (String, K) = decode(place)?;
            decode::<V>(value)?;
            encode(&at, &mut bytes);
            lengths.insert(bytes.len() - 1);
            somewhere.pass(place, value);
            self.entries += 1;
            Ok(())
        });
        self.elsewhere = Some(Elsewhere { cold: somewhere.begin(cold), lengths, told: false });
    }

    /// Shows some of the entries that are elsewhere, other ones with each call.
    pub(super) fn some(&mut self, entries: usize, entry: &mut dyn FnMut(Arc<str>, K, &V)) {
        let Some(Elsewhere { cold, .. }) = &mut self.elsewhere else { return };
        cold.some(entries, &mut |place, value| {
            let (key, at): (Arc<str>, K) = decode(place)?;
            entry(key, at, &decode(value)?);
            Ok(())
        });
    }

    /// Brings the entries of a key into memory, if they are elsewhere.
    pub(super) fn fetch(&mut self, key: &str) {
        let Some(Elsewhere { cold, lengths, told }) = &mut self.elsewhere else { return };
        if std::mem::take(told) && cold.is_full(self.keys.values().map(|entries| 1 + entries.len()).sum()) {
            self.keys.retain(|_, entries| entries.values().any(|slot| slot.dirty));
        }
        if self.keys.contains_key(key) {
            return;
        }
        let (start, mut entries) = (&mut self.scratch.0, BTreeMap::new());
        encode(&key, start);
        for length in &*lengths {
            cold.each_of((start.len() + length, start), &mut |place, value| {
                let (_, at): (String, K) = decode(place)?;
                entries.insert(at, Slot { value: decode(value)?, dirty: false, known: true });
                Ok(())
            });
        }
        if !entries.is_empty() {
            self.keys.insert(Arc::from(key), entries);
        }
    }
}

impl<K, V> Table for SortedState<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let (key, _): (String, K) = decode(key)?;
        Ok(Some(key.into_bytes()))
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        let (mut key_bytes, mut bytes) = std::mem::take(&mut self.scratch);
        for (key, at) in self.removed.drain(..) {
            // If it has come back, it is among the written ones.
            if !self.keys.get(&key).is_some_and(|entries| entries.contains_key(&at)) {
                encode(&(&*key, &at), &mut key_bytes);
                change(&key_bytes, None);
            }
        }
        for (key, at) in self.written.drain(..) {
            if let Some(slot) = self.keys.get_mut(&key).and_then(|entries| entries.get_mut(&at))
                && std::mem::take(&mut slot.dirty)
            {
                slot.known = true;
                if let Some(elsewhere) = &mut self.elsewhere {
                    encode(&at, &mut key_bytes);
                    elsewhere.lengths.insert(key_bytes.len() - 1);
                }
                encode(&(&*key, &at), &mut key_bytes);
                encode(&slot.value, &mut bytes);
                change(&key_bytes, Some(&bytes));
            }
        }
        self.scratch = (key_bytes, bytes);
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.told = true;
        }
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        let (mut key_bytes, mut bytes) = (Vec::new(), Vec::new());
        for (key, entries) in &self.keys {
            for (at, slot) in entries {
                encode(&(&**key, at), &mut key_bytes);
                encode(&slot.value, &mut bytes);
                entry(&key_bytes, Some(&bytes));
            }
        }
        if let Some(Elsewhere { cold, .. }) = &self.elsewhere {
            cold.each(&mut |place, value| {
                let (key, _): (String, K) = decode(place)?;
                if !self.keys.contains_key(key.as_str()) {
                    entry(place, Some(value));
                }
                Ok(())
            });
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let (key, at): (String, K) = decode(key)?;
        match value {
            Some(bytes) => {
                let slot = Slot { value: decode(bytes)?, dirty: false, known: true };
                let entries = self.keys.entry(Arc::from(key)).or_default();
                self.entries += usize::from(entries.insert(at, slot).is_none());
            }
            None => {
                self.remove(&key, &at);
                self.removed.clear();
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(state: &mut SortedState<u8, u32>) -> Vec<(Vec<u8>, bool)> {
        let mut seen = Vec::new();
        state.changes(&mut |key, value| seen.push((key.to_vec(), value.is_some())));
        seen
    }

    #[test]
    fn the_changelog_hears_only_of_what_it_knows_or_has_to_know() {
        let mut state = SortedState::default();
        state.set("k", 1, 10);
        state.set("k", 1, 11);
        state.set("k", 2, 20);
        assert_eq!(state.remove("k", &2), Some(20), "came and went between two commits");
        assert_eq!(changes(&mut state), [(vec![1, 1, b'k', 1], true)]);
        state.clear("k");
        state.set("k", 1, 12);
        assert_eq!(changes(&mut state), [(vec![1, 1, b'k', 1], true)]);
        state.update("k", .., |_, value| {
            *value += 1;
            true
        });
        state.remove("k", &1);
        assert_eq!(changes(&mut state), [(vec![1, 1, b'k', 1], false)]);
        assert_eq!((changes(&mut state), state.len(), state.keys().count()), (Vec::new(), 0, 0));
    }

    #[test]
    fn ranges_are_in_order() {
        let mut state = SortedState::default();
        for at in [5, 1, 3_u8] {
            state.set("k", at, u32::from(at) * 10);
        }
        assert_eq!(state.range("k", 2..).map(|(_, v)| *v).collect::<Vec<_>>(), [30, 50]);
        assert_eq!(
            (state.first("k"), state.last("k"), state.get("k", &3)),
            (Some((&1, &10)), Some((&5, &50)), Some(&30))
        );
        assert_eq!(state.range("other", ..).count(), 0);
    }
}
