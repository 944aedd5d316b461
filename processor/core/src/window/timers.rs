use std::collections::BTreeMap;
use std::sync::Arc;

/// Which keys have something to do, and when: one bucket per time, put in order of keys only when it is due.
///
/// A timer says "look at the key then". What is due is the key's own knowledge, so a timer that has become needless
/// stays and does nothing: a session that grows with every record needs no new timer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    buckets: BTreeMap<i64, Vec<Arc<str>>>,
}

impl Timers {
    /// The earliest timer.
    pub fn first(&self) -> Option<i64> {
        self.buckets.first_key_value().map(|(&at, _)| at)
    }

    /// Adds a timer, unless `planned`, the time of the key's earliest timer, is not later.
    pub fn plan(&mut self, planned: &mut Option<i64>, due: Option<i64>, key: &Arc<str>) {
        if let Some(due) = due
            && planned.is_none_or(|planned| due < planned)
        {
            *planned = Some(due);
            self.buckets.entry(due).or_default().push(key.clone());
        }
    }

    /// Takes the keys of a time, in order. One may come twice.
    pub fn take(&mut self, at: i64) -> Vec<Arc<str>> {
        let mut keys = self.buckets.remove(&at).unwrap_or_default();
        // Mostly in order already: keys that fired together were planned together.
        keys.sort();
        keys
    }

    pub fn clear(&mut self) {
        self.buckets.clear();
    }
}
