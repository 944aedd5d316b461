use rustc_hash::FxHashMap;

/// The newest value of every key that has changed (`None`: it is gone). A key that changes again takes no new memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    newest: FxHashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Changes {
    /// A key has a new value, or is gone.
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        match (self.newest.get_mut(key), value) {
            (Some(Some(old)), Some(new)) => {
                old.clear();
                old.extend_from_slice(new);
            }
            (Some(old), new) => *old = new.map(<[u8]>::to_vec),
            (None, new) => drop(self.newest.insert(key.to_vec(), new.map(<[u8]>::to_vec))),
        }
    }

    /// Adds what has changed later.
    pub fn absorb(&mut self, later: Self) {
        if self.newest.is_empty() {
            *self = later;
        } else {
            self.newest.extend(later.newest);
        }
    }

    /// How many keys have changed.
    pub fn count(&self) -> usize {
        self.newest.len()
    }

    /// Every key with its newest value, in no order.
    pub fn into_entries(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.newest.into_iter()
    }

    /// By key.
    pub fn sorted(&self) -> Vec<(&[u8], Option<&[u8]>)> {
        let mut all: Vec<_> = self.newest.iter().map(|(k, v)| (k.as_slice(), v.as_deref())).collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all
    }
}
