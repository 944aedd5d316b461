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
            entry.refs = entry.refs.saturating_sub(1);
            if entry.refs > 0 {
                return;
            }
            let (event, before) = (entry.event, entry.before);
            self.entries.remove(id);
            if let Some(stored) = self.events.get_mut(event) {
                stored.refs = stored.refs.saturating_sub(1);
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
        // No chain is longer, however damaged.
        .take(self.entries.len)
    }

    /// Whether taking and releasing can have led here, with these references from outside. A chain goes back in the
    /// order of events, so none runs in a circle.
    pub(crate) fn is_sound(&self, outside: impl Iterator<Item = EntryId>) -> bool {
        let mut entries = vec![0_u32; self.entries.places.len()];
        let mut events = vec![0_u32; self.events.places.len()];
        let seq = |entry: &Taken| self.events.get(entry.event).map(|stored| stored.seq);
        let chained = self.entries.iter().all(|(_, entry)| {
            count(&mut events, entry.event);
            let before = entry.before.map(|id| {
                count(&mut entries, id);
                self.entries.get(id).and_then(seq)
            });
            match (seq(entry), before) {
                (Some(_), None) => true,
                (Some(seq), Some(Some(before))) => before < seq,
                _ => false,
            }
        });
        outside.for_each(|id| count(&mut entries, id));
        let referred = |refs: &[u32], at: u32| refs.get(at as usize).copied().filter(|refs| *refs > 0);
        chained
            && self.entries.is_sound()
            && self.events.is_sound()
            && self.entries.iter().all(|(id, entry)| referred(&entries, id) == Some(entry.refs))
            && self.events.iter().all(|(id, event)| referred(&events, id) == Some(event.refs))
    }
}

fn count(refs: &mut [u32], at: u32) {
    if let Some(refs) = refs.get_mut(at as usize) {
        *refs += 1;
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

    fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.places).filter_map(|(at, place)| Some((at, place.as_ref()?)))
    }

    /// Whether what is free is told, each place once.
    fn is_sound(&self) -> bool {
        let mut free = vec![0_u32; self.places.len()];
        self.free.iter().for_each(|at| count(&mut free, *at));
        let places = || self.places.iter().map(Option::is_some);
        self.len == places().filter(|taken| *taken).count()
            && self.len + self.free.len() == self.places.len()
            && places().zip(&free).all(|(taken, free)| *free == u32::from(!taken))
    }

    fn remove(&mut self, at: u32) {
        if self.places.get_mut(at as usize).and_then(Option::take).is_some() {
            self.len = self.len.saturating_sub(1);
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
    use proptest::prelude::*;

    use super::*;
    use crate::state::{decode, encode};

    /// Bytes of a buffer that may or may not be one, as far as its types go.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let event = (any::<char>(), 0..4_u64, 0..3_u32);
        let entry = (0..3_u32, 0..2_u16, prop::option::of(0..4_u32), 0..3_u32);
        let events = (prop::collection::vec(prop::option::of(event), 0..4), free(), 0..5_usize);
        let entries = (prop::collection::vec(prop::option::of(entry), 0..5), free(), 0..6_usize);
        (events, entries).prop_map(|buffer| {
            let mut bytes = Vec::new();
            encode(&buffer, &mut bytes);
            bytes
        })
    }

    fn free() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(0..5_u32, 0..3)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_damaged_buffer_is_walked_to_an_end(bytes in bytes(), from in 0..5_u32) {
            let mut buffer: SharedBuffer<char> = decode(&bytes).unwrap();
            let sound = buffer.is_sound([from].into_iter());
            prop_assert!(buffer.latest_first(Some(from)).count() <= buffer.entries.len);
            buffer.release(from);
            prop_assert!(!sound || (buffer.len(), buffer.entries.len) == (0, 0), "{buffer:?}");
            let event = buffer.store('e', 9);
            let taken = buffer.take(event, 0, Some(from));
            buffer.release(taken);
            buffer.release(taken);
        }

        #[test]
        fn what_was_taken_and_released_is_sound(steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..40)) {
            let (mut buffer, mut held) = (SharedBuffer::default(), Vec::<EntryId>::new());
            for (seq, (what, which)) in (0..).zip(steps) {
                let one = (!held.is_empty()).then(|| which.index(held.len()));
                match (what, one) {
                    (0, Some(one)) => buffer.release(held.swap_remove(one)),
                    (1, Some(one)) => {
                        buffer.retain(held[one]);
                        held.push(held[one]);
                    }
                    (_, one) => {
                        let event = buffer.store('e', seq);
                        held.push(buffer.take(event, 0, one.map(|one| held[one])));
                    }
                }
                prop_assert!(buffer.is_sound(held.iter().copied()), "{buffer:?} {held:?}");
                if let Some(first) = held.first().copied() {
                    prop_assert!(!buffer.is_sound(held.iter().skip(1).copied()), "a reference is missing");
                    prop_assert!(!buffer.is_sound(held.iter().copied().chain([first])), "one too many");
                }
            }
            held.drain(..).for_each(|entry| buffer.release(entry));
            prop_assert_eq!((buffer.len(), buffer.entries.len), (0, 0));
        }
    }

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
