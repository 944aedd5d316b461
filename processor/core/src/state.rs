//! Keyed state: typed values in memory, serialised only when they have changed, and only at a commit.
//!
//! A [`Table`] is named by its job and its place in the job. Its entries travel to the changelog and into snapshots as
//! bytes: a key that the table chooses, and a value that starts with [`VERSION`].
//!
//! Compatibility rule: fields of a state type may be added at its end only together with a new version that reads the
//! older ones; a table that a job no longer has is skipped on loading and counted.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First byte of every value.
pub const VERSION: u8 = 1;

/// State that can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StateError {
    /// Bytes of another version.
    #[error(
        "state of version {0} can't be read by this build, which knows up to {VERSION}: use the build that wrote it"
    )]
    Version(u8),
    /// Bytes that are no state.
    #[error("state can't be decoded ({0}): it is damaged or belongs to another job")]
    Damaged(String),
}

/// Receives an entry: its key, and its value or `None` if it is gone.
pub type Change<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// A table of state, as its owner sees it.
pub trait Table {
    /// Calls `change` for every entry that changed since the last call.
    fn changes(&mut self, change: &mut Change<'_>);
    /// Calls `entry` for every entry. Does not touch what [`Table::changes`] will say.
    fn snapshot(&self, entry: &mut Change<'_>);
    /// Puts an entry back, or takes it away.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError>;
    /// Number of entries.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes a value with its version into `out`, which is cleared first.
pub fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    // Writing to memory fails only for types without a length, which state types do not have; the reader would say so.
    if let Ok(bytes) = postcard::to_extend(value, std::mem::take(out)) {
        *out = bytes;
    }
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// Another version, or bytes that are no `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StateError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|e| StateError::Damaged(e.to_string())),
        Some((&version, _)) => Err(StateError::Version(version)),
        None => Err(StateError::Damaged("no bytes".to_owned())),
    }
}

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
        if let Some(slot) = self.entries.get_mut(key) {
            slot.value = value;
            if slot.dirty {
                return;
            }
            slot.dirty = true;
        } else if value.is_some() {
            self.entries.insert(key.into(), Slot { value, dirty: true });
        } else {
            return;
        }
        self.dirty.push(key.into());
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

    #[test]
    fn old_bytes_still_load() {
        // Written by version 1. This line never changes: a new version adds a line.
        let mut state = KeyedState::<(u32, String)>::default();
        state.load(b"k", Some(&[1, 5, 2, b'h', b'i'])).unwrap();
        assert_eq!(state.get(b"k"), Some(&(5, "hi".to_owned())));
        assert_eq!(state.load(b"k", Some(&[9, 5])), Err(StateError::Version(9)));
        assert!(matches!(state.load(b"k", Some(&[1, 0xff])), Err(StateError::Damaged(_))));
        state.load(b"k", None).unwrap();
        assert!(state.is_empty());
    }
}
