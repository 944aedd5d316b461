//! The events that partial matches refer to: each is stored once per key and freed with the last reference. Flink's
//! `SharedBuffer`, with a tree of references in the place of Dewey numbers.
//!
//! A partial match is the number of its last [`Taken`] entry; each entry points to the one before. Matches with the same
//! beginning share it.

use serde::{Deserialize, Serialize};

/// An entry of the tree.
pub(crate) type EntryId = u32;

/// An event that someone refers to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored<I> {
    pub(crate) event: I,
    /// Position in the order of (time, arrival).
    pub(crate) seq: u64,
    refs: u32,
}

/// An event, taken for a stage, behind what was taken before.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Taken {
    event: u32,
    stage: u16,
    before: Option<EntryId>,
    refs: u32,
}

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SharedBuffer<I> {
    events: Slab<Stored<I>>,
    entries: Slab<Taken>,
}

impl<I> Default for SharedBuffer<I> {
    fn default() -> Self {
        Self { events: Slab::default(), entries: Slab::default() }
    }
}

impl<I> SharedBuffer<I> {
    /// Number of events.
    pub(crate) fn len(&self) -> usize {
        self.events.len
    }

    /// Stores an event that nobody refers to yet: [`SharedBuffer::take`] follows.
    pub(crate) fn store(&mut self, event: I, seq: u64) -> u32 {
        self.events.insert(Stored { event, seq, refs: 0 })
    }

    /// Takes an event for a stage. The entry has one reference, the caller's.
    pub(crate) fn take(&mut self, event: u32, stage: u16, before: Option<EntryId>) -> EntryId {
        if let Some(stored) = self.events.get_mut(event) {
            stored.refs += 1;
        }
        if let Some(before) = before {
            self.retain(before);
        }
        self.entries.insert(Taken { event, stage, before, refs: 1 })
    }

    /// One more refers to the entry.
    pub(crate) fn retain(&mut self, entry: EntryId) {
        if let Some(entry) = self.entries.get_mut(entry) {
            entry.refs += 1;
        }
    }

    /// One less refers to the entry.
    pub(crate) fn release(&mut self, entry: EntryId) {
        let mut next = Some(entry);
        while let Some(id) = next {
            let Some(entry) = self.entries.get_mut(id) else { return };
            entry.refs -= 1;
            if entry.refs > 0 {
                return;
            }
            let (event, before) = (entry.event, entry.before);
            self.entries.remove(id);
            if let Some(stored) = self.events.get_mut(event) {
                stored.refs -= 1;
                if stored.refs == 0 {
                    self.events.remove(event);
                }
            }
            next = before;
        }
    }

    /// What was taken, latest first, with its stage.
    pub(crate) fn latest_first(&self, entry: Option<EntryId>) -> impl Iterator<Item = (u16, &Stored<I>)> {
        let mut next = entry;
        std::iter::from_fn(move || {
            let entry = self.entries.get(next?)?;
            next = entry.before;
            Some((entry.stage, self.events.get(entry.event)?))
        })
    }
}

/// A vector whose free places are used again.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    fn get(&self, at: u32) -> Option<&T> {
        self.places.get(at as usize)?.as_ref()
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.places.get_mut(at as usize)?.as_mut()
    }

    fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(at) = self.free.pop()
            && let Some(place) = self.places.get_mut(at as usize)
        {
            *place = Some(value);
            return at;
        }
        self.places.push(Some(value));
        // Limits keep the number far below.
        u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
    }

    fn remove(&mut self, at: u32) {
        if let Some(place) = self.places.get_mut(at as usize) {
            *place = None;
            self.len -= 1;
            self.free.push(at);
        }
        if self.len == 0 {
            self.places.clear();
            self.free.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_stored_once_and_freed_with_its_last_reference() {
        let mut buffer = SharedBuffer::default();
        let a = buffer.store('a', 1);
        let first = buffer.take(a, 0, None);
        let b = buffer.store('b', 2);
        let (one, two) = (buffer.take(b, 1, Some(first)), buffer.take(b, 2, Some(first)));
        buffer.release(first);
        assert_eq!(buffer.len(), 2);
        let taken: Vec<_> = buffer.latest_first(Some(two)).map(|(s, e)| (s, e.event)).collect();
        assert_eq!(taken, [(2, 'b'), (0, 'a')]);
        buffer.release(one);
        assert_eq!(buffer.len(), 2);
        buffer.release(two);
        assert_eq!((buffer.len(), buffer.entries.len), (0, 0));
    }
}
