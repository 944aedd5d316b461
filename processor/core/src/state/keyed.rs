use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cold::Somewhere;
use super::{Change, ColdTable, StateError, Store, Table, decode, encode};

/// One value per key.
#[derive(Debug)]
pub struct KeyedState<V> {
    /// All of them, or those in use of [`KeyedState::cold`].
    entries: FxHashMap<Arc<[u8]>, Slot<V>>,
    dirty: Vec<Arc<[u8]>>,
    scratch: Vec<u8>,
    /// Number of values, in memory or not.
    len: usize,
    cold: Option<ColdTable>,
    /// What changed has been told since the last access: all of it can be let go.
    told: bool,
}

#[derive(Debug)]
struct Slot<V> {
    /// `None`: removed, and the changelog does not know it yet.
    value: Option<V>,
    dirty: bool,
    /// It was used again since it came, or since the last clearing up.
    used: bool,
}

impl<V> Default for KeyedState<V> {
    fn default() -> Self {
        let (entries, dirty, scratch) = (FxHashMap::default(), Vec::new(), Vec::new());
        Self { entries, dirty, scratch, len: 0, cold: None, told: false }
    }
}

impl<V: DeserializeOwned> KeyedState<V> {
    /// The value of a key.
    pub fn get(&mut self, key: &[u8]) -> Option<&V> {
        self.fetch(key);
        self.entries.get(key)?.value.as_ref()
    }

    /// Sets the value of a key; `None` removes it.
    pub fn set(&mut self, key: &[u8], value: Option<V>) {
        self.change(key, |slot| {
            *slot = value;
            (true, ())
        });
    }

    /// Brings the entry of a key into memory, if there is one elsewhere.
    fn fetch(&mut self, key: &[u8]) {
        let Some(cold) = &mut self.cold else { return };
        if std::mem::take(&mut self.told) && cold.is_full(self.entries.len()) {
            self.entries.retain(|_, slot| std::mem::take(&mut slot.used) || slot.dirty);
            if cold.is_full(self.entries.len()) {
                self.entries.retain(|_, slot| slot.dirty);
            }
        }
        if let Some(slot) = self.entries.get_mut(key) {
            slot.used = true;
        } else if let Some(value) = cold.get(key) {
            self.entries.insert(key.into(), Slot { value: Some(value), dirty: false, used: false });
        }
    }

    fn change<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Option<V>) -> (bool, R)) -> R {
        self.fetch(key);
        let Some(slot) = self.entries.get_mut(key) else {
            let mut value = None;
            let (_, result) = change(&mut value);
            if value.is_some() {
                let key: Arc<[u8]> = key.into();
                self.entries.insert(key.clone(), Slot { value, dirty: true, used: false });
                self.dirty.push(key);
                self.len += 1;
            }
            return result;
        };
        let before = slot.value.is_some();
        let (changed, result) = change(&mut slot.value);
        self.len = self.len + usize::from(slot.value.is_some()) - usize::from(before);
        if changed && !std::mem::replace(&mut slot.dirty, true) {
            // A second look-up instead of a new copy of the key.
            self.dirty.extend(self.entries.get_key_value(key).map(|(key, _)| key.clone()));
        }
        result
    }
}

impl<V: Serialize + DeserializeOwned> Store<V> for KeyedState<V> {
    fn some(&mut self, entries: usize, entry: &mut dyn FnMut(&[u8], &V)) {
        let Some(cold) = &mut self.cold else { return };
        cold.some(entries, &mut |key, bytes| {
            entry(key, &decode(bytes)?);
            Ok(())
        });
    }

    fn get(&mut self, key: &[u8]) -> Option<&V> {
        Self::get(self, key)
    }

    fn modify<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Option<V>) -> (bool, R)) -> R {
        self.change(key, change)
    }
}

impl<V: Serialize + DeserializeOwned> Table for KeyedState<V> {
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(Some(key.to_vec()))
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        for key in self.dirty.drain(..) {
            if let Entry::Occupied(mut entry) = self.entries.entry(key.clone()) {
                entry.get_mut().dirty = false;
                match &entry.get().value {
                    Some(value) => {
                        encode(value, &mut self.scratch);
                        change(&key, Some(&self.scratch));
                    }
                    None => {
                        entry.remove();
                        change(&key, None);
                    }
                }
            }
        }
        self.told = true;
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        let mut bytes = Vec::new();
        for (key, slot) in &self.entries {
            if let Some(value) = &slot.value {
                encode(value, &mut bytes);
                entry(key, Some(&bytes));
            }
        }
        if let Some(cold) = &self.cold {
            cold.each(&mut |key, bytes| {
                if !self.entries.contains_key(key) {
                    entry(key, Some(bytes));
                }
                Ok(())
            });
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let before = match value {
            Some(bytes) => {
                let slot = Slot { value: Some(decode(bytes)?), dirty: false, used: false };
                self.entries.insert(key.into(), slot)
            }
            None => self.entries.remove(key),
        };
        let before = before.is_some_and(|slot| slot.value.is_some());
        self.len = self.len + usize::from(value.is_some()) - usize::from(before);
        Ok(())
    }

    fn attach(&mut self, cold: ColdTable) {
        let (mut len, mut somewhere) = (0, Somewhere::default());
        cold.each(&mut |key, bytes| {
            decode::<V>(bytes)?;
            somewhere.pass(key, bytes);
            len += 1;
            Ok(())
        });
        (self.len, self.cold) = (len, Some(somewhere.begin(cold)));
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::VERSION;

    fn changes(state: &mut KeyedState<u32>) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut seen = Vec::new();
        state.changes(&mut |k, v| seen.push((k.to_vec(), v.map(<[u8]>::to_vec))));
        seen
    }

    #[test]
    fn only_the_last_change_of_a_key_is_told_once() {
        let mut state = KeyedState::default();
        state.set(b"a", Some(1));
        state.set(b"a", Some(300));
        state.set(b"b", Some(2));
        state.set(b"b", None);
        assert_eq!(
            changes(&mut state),
            [(b"a".to_vec(), Some(vec![VERSION, 0xac, 2])), (b"b".to_vec(), None)]
        );
        assert_eq!(changes(&mut state), []);
        assert_eq!((state.get(b"a").copied(), state.len()), (Some(300), 1));
    }
}
