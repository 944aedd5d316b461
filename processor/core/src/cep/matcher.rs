//! What the NFA keeps per key, and what it gives out.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::nfa::Nfa;
use super::sharedbuffer::{EntryId, SharedBuffer};

/// A partial match.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What it has taken; `None` only until the event of the step is stored.
    pub(crate) taken: Option<EntryId>,
    pub(crate) state: u32,
    pub(crate) open: u64,
    /// No event has come since it was made.
    pub(crate) fresh: bool,
    /// Its first event.
    pub(crate) first: u64,
    /// Time of its first event.
    pub(crate) started: i64,
}

/// A complete match that is not emitted yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) taken: EntryId,
    pub(crate) first: u64,
    /// The step that completed it.
    pub(crate) step: u64,
    pub(crate) started: i64,
    pub(crate) ended: i64,
}

/// What the NFA keeps for one key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Matcher<I> {
    pub(crate) buffer: SharedBuffer<I>,
    /// In the order of their first events, so of their time limits too.
    pub(crate) runs: Vec<Run>,
    pub(crate) held: Vec<Held>,
    /// Steps so far; the number of an event in the order of (time, arrival).
    pub(crate) step: u64,
}

impl<I> Default for Matcher<I> {
    fn default() -> Self {
        Self { buffer: SharedBuffer::default(), runs: Vec::new(), held: Vec::new(), step: 0 }
    }
}

impl<I> Matcher<I> {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.held.is_empty()
    }
}

/// The events of a match, by stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages<I>(pub(crate) Vec<(Arc<str>, Vec<I>)>);

impl<I> Stages<I> {
    /// The events of a stage, in the order taken; empty if there are none.
    pub fn get(&self, stage: &str) -> &[I] {
        self.0.iter().find(|(name, _)| **name == *stage).map_or(&[], |(_, events)| events)
    }

    /// The stages that have events, in the order of the pattern.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[I])> {
        self.0.iter().map(|(name, events)| (&**name, events.as_slice()))
    }
}

impl<I: Serialize> Serialize for Stages<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A match or a timed-out partial match of one key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found<I> {
    pub(crate) stages: Stages<I>,
    pub(crate) started: i64,
    /// When it was completed, or timed out.
    pub(crate) ended: i64,
    pub(crate) timed_out: bool,
}

/// What is shared by all keys: counts and memory to work in.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Live partial matches per state.
    pub(crate) live: Vec<u64>,
    /// Partial and held-back matches that the limits took.
    pub(crate) dropped: u64,
    pub(super) next: Vec<Run>,
    pub(super) ended: Vec<EntryId>,
}

impl Work {
    pub(super) fn begins(&mut self, state: u32) {
        if let Some(count) = self.live.get_mut(state as usize) {
            *count += 1;
        }
    }

    pub(crate) fn ends(&mut self, state: u32) {
        if let Some(count) = self.live.get_mut(state as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// For a new pattern.
    pub(crate) fn reset(&mut self, nfa: &Nfa) {
        self.live.clear();
        self.live.resize(nfa.states.len(), 0);
    }
}
