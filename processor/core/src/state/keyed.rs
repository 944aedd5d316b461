use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, StateError, Store, Table, decode, encode};

/// One value per key.
#[derive(Debug)]
pub struct KeyedState<V> {
    entries: FxHashMap<Arc<[u8]>, Slot<V>>,
    dirty: Vec<Arc<[u8]>>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Slot<V> {
    /// `None`: removed, and the changelog does not know it yet.
    value: Option<V>,
    dirty: bool,
}

impl<V> Default for KeyedState<V> {
    fn default() -> Self {
        Self { entries: FxHashMap::default(), dirty: Vec::new(), scratch: Vec::new() }
    }
}

impl<V> KeyedState<V> {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        self.entries.get(key)?.value.as_ref()
    }

    /// Sets the value of a key; `None` removes it.
    pub fn set(&mut self, key: &[u8], value: Option<V>) {
        self.change(key, |slot| {
            *slot = value;
            (true, ())
        });
    }

    fn change<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Option<V>) -> (bool, R)) -> R {
        let Some(slot) = self.entries.get_mut(key) else {
            let mut value = None;
            let (_, result) = change(&mut value);
            if value.is_some() {
                let key: Arc<[u8]> = key.into();
                self.entries.insert(key.clone(), Slot { value, dirty: true });
                self.dirty.push(key);
            }
            return result;
        };
        let (changed, result) = change(&mut slot.value);
        if changed && !std::mem::replace(&mut slot.dirty, true) {
            // A second look-up instead of a new copy of the key.
            self.dirty.extend(self.entries.get_key_value(key).map(|(key, _)| key.clone()));
        }
        result
    }
}

impl<V: Serialize + DeserializeOwned> Store<V> for KeyedState<V> {
    fn get(&mut self, key: &[u8]) -> Option<&V> {
        Self::get(self, key)
    }

    fn modify<R>(&mut self, key: &[u8], change: impl FnOnce(&mut Option<V>) -> (bool, R)) -> R {
        self.change(key, change)
    }
}

impl<V: Serialize + DeserializeOwned> Table for KeyedState<V> {
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
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        let mut bytes = Vec::new();
        for (key, slot) in &self.entries {
            if let Some(value) = &slot.value {
                encode(value, &mut bytes);
                entry(key, Some(&bytes));
            }
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        match value {
            Some(bytes) => {
                let slot = Slot { value: Some(decode(bytes)?), dirty: false };
                self.entries.insert(key.into(), slot);
            }
            None => {
                self.entries.remove(key);
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.entries.values().filter(|slot| slot.value.is_some()).count()
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
        assert_eq!((state.get(b"a"), state.len()), (Some(&300), 1));
    }
}
