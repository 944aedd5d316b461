use std::ops::RangeBounds;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state::SortedState;

/// A record that waits for partners.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record<T> {
    pub value: T,
    /// Source records that it counts for.
    owned: u64,
    pub matched: bool,
}

/// Time, and order of arrival.
pub(super) type Place = (i64, u64);

/// The records of a side, per key in the order of time, then of arrival.
pub(super) struct Buffer<T> {
    pub records: SortedState<Place, Record<T>>,
    /// Larger than that of any record held.
    next: u64,
    pending: u64,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { records: SortedState::default(), next: 0, pending: 0 }
    }
}

impl<T: Serialize + DeserializeOwned> Buffer<T> {
    pub fn push(&mut self, key: &str, at: i64, value: T, matched: bool, owned: u64) {
        self.records.set(key, (at, self.next), Record { value, owned, matched });
        self.next += 1;
        self.pending = self.pending.saturating_add(owned);
    }

    /// The key, shared with the records if there are some.
    pub fn key(&self, key: &str) -> Arc<str> {
        self.records.shared(key).map_or_else(|| Arc::from(key), Arc::clone)
    }

    /// Time of the first record of a key.
    pub fn first(&self, key: &str) -> Option<i64> {
        self.records.first(key).map(|((at, _), _)| *at)
    }

    /// The records of a key in the given times.
    pub fn values(&self, key: &str, range: impl RangeBounds<Place>) -> Vec<&T> {
        self.records.range(key, range).map(|(_, record)| &record.value).collect()
    }

    /// Removes the first record of a key if its time is the given one or earlier. Returns it, its time, and how many
    /// source records are done with it.
    pub fn drop_first(&mut self, key: &str, until: i64) -> Option<(Record<T>, i64, u64)> {
        let place = *self.records.first(key).filter(|((at, _), _)| *at <= until)?.0;
        let record = self.records.remove(key, &place)?;
        self.pending = self.pending.saturating_sub(record.owned);
        let owned = record.owned;
        Some((record, place.0, owned))
    }

    /// Source records that are held.
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// After loading: derives the rest from the records.
    pub fn start(&mut self) {
        let all = || self.records.keys().flat_map(|key| self.records.range(key, ..));
        let next = all().map(|((_, number), _)| number + 1).max().unwrap_or(0);
        let pending = all().map(|(_, record)| record.owned).sum();
        (self.next, self.pending) = (next, pending);
    }
}
