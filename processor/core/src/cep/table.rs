//! What the operator keeps, and its way to the changelog and back.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::matcher::Matcher;
use super::nfa::Nfa;
use super::operator::{CepOperator, Counts};
use crate::state::{Change, StateError, Table, decode, encode};

#[derive(Serialize, Deserialize)]
pub(super) struct KeyState<I> {
    /// In the order of (time, arrival).
    pub(super) waiting: VecDeque<Waiting<I>>,
    pub(super) matcher: Matcher<I>,
    /// When the key is among the operator's deadlines.
    #[serde(skip)]
    pub(super) scheduled: Option<i64>,
    #[serde(skip)]
    pub(super) dirty: bool,
    /// The changelog has it: a key that comes and goes between two commits is never told.
    #[serde(skip)]
    stored: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Waiting<I> {
    pub(super) at: i64,
    /// Source records that it stands for.
    pub(super) records: u64,
    pub(super) event: I,
}

/// What is not of one key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The pattern in force, as JSON; empty if there is none.
    pub(super) pattern: String,
    pub(super) counts: Counts,
}

#[derive(Serialize, Deserialize)]
pub(super) enum EntryKey<'a> {
    Meta,
    Key(&'a str),
}

impl<I> Default for KeyState<I> {
    fn default() -> Self {
        let (scheduled, dirty, stored) = (None, false, false);
        Self { waiting: VecDeque::new(), matcher: Matcher::default(), scheduled, dirty, stored }
    }
}

impl<I> KeyState<I> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.matcher.is_empty()
    }

    /// Whether it can have come about: damaged bytes may decode to what can't.
    fn is_sound(&self) -> bool {
        let Matcher { buffer, runs, held, step } = &self.matcher;
        let taken = runs.iter().map(|run| run.taken).chain(held.iter().map(|held| Some(held.taken)));
        let counted = self.waiting.iter().all(|waiting| waiting.records <= 1);
        let complete = taken.clone().all(|taken| taken.is_some());
        // So many events nobody has seen: there is room to count on.
        counted && complete && *step <= u64::from(u32::MAX) << 16 && buffer.is_sound(taken.flatten())
    }

    pub(super) fn schedule(&mut self, key: &Arc<str>, nfa: &Nfa, deadlines: &mut BTreeSet<(i64, Arc<str>)>) {
        let due = nfa.deadline(&self.matcher);
        match (self.scheduled, due) {
            // One that is too early does no harm and is cheaper than moving it with each first partial match.
            (Some(before), Some(due)) if before <= due => return,
            (None, None) => return,
            (Some(before), _) => {
                deadlines.remove(&(before, key.clone()));
            }
            (None, Some(_)) => {}
        }
        if let Some(due) = due {
            deadlines.insert((due, key.clone()));
        }
        self.scheduled = due;
    }
}

impl EntryKey<'_> {
    /// It borrows from the bytes, so it is read without the helper for owned types.
    fn read(key: &[u8]) -> Result<EntryKey<'_>, StateError> {
        let Some((_, rest)) = key.split_first() else { return Err(StateError::Damaged("no key".to_owned())) };
        postcard::from_bytes(rest).map_err(|e| StateError::Damaged(e.to_string()))
    }
}

impl<K, F, I: Serialize + DeserializeOwned> Table for CepOperator<K, F, I> {
    fn owner(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(match EntryKey::read(key)? {
            EntryKey::Meta => None,
            EntryKey::Key(key) => Some(key.as_bytes().to_vec()),
        })
    }

    fn count_anew(&mut self) {
        (self.meta.counts, self.work.dropped, self.meta_dirty) = (Counts::default(), 0, true);
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        let (mut key_bytes, mut value) = std::mem::take(&mut self.scratch);
        let counts = self.counts();
        if std::mem::take(&mut self.meta_dirty) || counts != self.meta.counts {
            self.meta.counts = counts;
            self.work.dropped = 0;
            encode(&EntryKey::Meta, &mut key_bytes);
            encode(&self.meta, &mut value);
            change(&key_bytes, Some(&value));
        }
        for key in self.dirty.drain(..) {
            encode(&EntryKey::Key(&key), &mut key_bytes);
            match self.keys.get_mut(&key) {
                Some(state) if !state.is_empty() => {
                    (state.dirty, state.stored) = (false, true);
                    encode(&*state, &mut value);
                    change(&key_bytes, Some(&value));
                }
                // A key that has become empty stays until here, so that one with many events is not made again for each.
                Some(state) => {
                    if state.stored {
                        change(&key_bytes, None);
                    }
                    self.keys.remove(&key);
                }
                None => {}
            }
        }
        self.scratch = (key_bytes, value);
    }

    fn snapshot(&self, entry: &mut Change<'_>) {
        let (mut key_bytes, mut value) = (Vec::new(), Vec::new());
        let meta = Meta { counts: self.counts(), ..self.meta.clone() };
        if meta != Meta::default() {
            encode(&EntryKey::Meta, &mut key_bytes);
            encode(&meta, &mut value);
            entry(&key_bytes, Some(&value));
        }
        for (key, state) in self.keys.iter().filter(|(_, state)| !state.is_empty()) {
            encode(&EntryKey::Key(key), &mut key_bytes);
            encode(state, &mut value);
            entry(&key_bytes, Some(&value));
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        match EntryKey::read(key)? {
            EntryKey::Meta => self.meta = value.map(decode).transpose()?.unwrap_or_default(),
            EntryKey::Key(key) => {
                let loaded = value.map(decode::<KeyState<I>>).transpose()?;
                if loaded.as_ref().is_some_and(|state| !state.is_sound()) {
                    return Err(StateError::Damaged(format!("the partial matches of key {key:?}")));
                }
                let records = |state: &KeyState<I>| state.waiting.iter().map(|w| w.records).sum::<u64>();
                if let Some(before) = self.keys.remove(key) {
                    self.pending = self.pending.saturating_sub(records(&before));
                }
                if let Some(state) = loaded {
                    let state = KeyState { stored: true, ..state };
                    self.pending = self.pending.saturating_add(records(&state));
                    self.keys.insert(key.into(), state);
                }
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.keys.values().filter(|state| !state.is_empty()).count()
    }
}
