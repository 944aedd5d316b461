use std::fmt;
use std::hash::Hasher;
use std::ops::ControlFlow;
use std::rc::Rc;

use rustc_hash::FxHasher;
use serde::de::DeserializeOwned;

use super::{StateError, decode};

/// Where the entries of a task are that are not in memory, under the keys of [`Task::changes`](crate::Task::changes).
///
/// It is read only. Whoever owns the task writes to it what `changes` told, once that is committed and before the task
/// takes another input.
pub trait Cold {
    /// Hands the value of a key to `found`, if there is one.
    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8]));

    /// Hands the entries whose keys begin with `prefix` and are greater than `after` to `entry`, in the order of keys, until it
    /// breaks.
    fn each(&self, prefix: &[u8], after: &[u8], entry: &mut Visit<'_>);

    /// An entry can't be read. The task goes on as if it were not there, so its owner must not commit what follows.
    fn failed(&self, error: StateError);
}

/// Receives an entry: its key and its value. Says whether it wants more.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Receives an entry that it may not be able to read.
pub type Take<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StateError> + 'a;

/// The entries of one table in a [`Cold`] store.
#[derive(Clone)]
pub struct ColdTable {
    store: Rc<dyn Cold>,
    /// What the keys of the task's entries have before the length of the table's key.
    prefix: Vec<u8>,
    /// Entries that the table may hold in memory between two commits.
    cached: usize,
    /// The key at hand.
    scratch: Vec<u8>,
    /// The last key that [`ColdTable::some`] has seen.
    seen: Vec<u8>,
}

impl fmt::Debug for ColdTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColdTable").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl ColdTable {
    /// The entries whose keys begin with `prefix`, the length of the table's key, and that key.
    pub(crate) fn new(store: Rc<dyn Cold>, prefix: Vec<u8>, cached: usize) -> Self {
        Self { store, prefix, cached, scratch: Vec::new(), seen: Vec::new() }
    }

    /// Whether so many entries in memory are too many.
    pub(super) fn is_full(&self, held: usize) -> bool {
        held > self.cached
    }

    /// The value of a key.
    pub(super) fn get<V: DeserializeOwned>(&mut self, key: &[u8]) -> Option<V> {
        self.name(key.len(), key);
        let mut value = None;
        self.store.get(&self.scratch, &mut |bytes| value = self.read(decode(bytes)));
        value
    }

    /// Hands every entry to `entry`.
    pub fn each(&self, entry: &mut Take<'_>) {
        self.visit(&self.prefix, entry);
    }

    /// Hands some entries to `entry`: those that come after the ones of the last call; after the last one, the first.
    pub(super) fn some(&mut self, mut entries: usize, entry: &mut Take<'_>) {
        while entries > 0 {
            let after = std::mem::take(&mut self.seen);
            let mut seen = Vec::new();
            self.store.each(&self.prefix, &after, &mut |key, value| {
                self.read(self.own(key).and_then(|own| entry(own, value)));
                entries -= 1;
                if entries > 0 {
                    return ControlFlow::Continue(());
                }
                seen.extend_from_slice(key);
                ControlFlow::Break(())
            });
            self.seen = seen;
            // From the first to the last: there are no others.
            if after.is_empty() {
                break;
            }
        }
    }

    /// [`ColdTable::some`] goes on behind this key.
    pub(super) fn go_on_behind(&mut self, key: &[u8]) {
        self.name(key.len(), key);
        self.seen.clone_from(&self.scratch);
    }

    /// Hands the entries to `entry` whose keys have `length` bytes and begin with `start`.
    pub(super) fn each_of(&mut self, (length, start): (usize, &[u8]), entry: &mut Take<'_>) {
        self.name(length, start);
        self.visit(&self.scratch, entry);
    }

    fn visit(&self, prefix: &[u8], entry: &mut Take<'_>) {
        self.store.each(prefix, &[], &mut |key, value| {
            self.read(self.own(key).and_then(|own| entry(own, value)));
            ControlFlow::Continue(())
        });
    }

    /// The table's own key.
    fn own<'k>(&self, key: &'k [u8]) -> Result<&'k [u8], StateError> {
        let own = key.strip_prefix(self.prefix.as_slice()).unwrap_or_default();
        postcard::from_bytes(own).map_err(|e| StateError::Damaged(e.to_string()))
    }

    /// A key of `length` bytes that begins with `start`, as the task's entries have it.
    fn name(&mut self, length: usize, start: &[u8]) {
        self.scratch.clone_from(&self.prefix);
        // Writing to memory fails only for types without a length.
        if let Ok(bytes) = postcard::to_extend(&length, std::mem::take(&mut self.scratch)) {
            self.scratch = bytes;
        }
        self.scratch.extend_from_slice(start);
    }

    fn read<T>(&self, read: Result<T, StateError>) -> Option<T> {
        read.map_err(|error| self.store.failed(error)).ok()
    }
}

/// Where to begin with [`ColdTable::some`]: a key that depends on all entries and on nothing else. A task that is restarted
/// often looks at others each time.
#[derive(Default)]
pub(super) struct Somewhere {
    entries: u64,
    hasher: FxHasher,
    key: Vec<u8>,
}

impl Somewhere {
    /// An entry, which is chosen with a probability of one in those so far.
    pub fn pass(&mut self, key: &[u8], value: &[u8]) {
        self.entries += 1;
        self.hasher.write(value);
        if self.hasher.finish().is_multiple_of(self.entries) {
            self.key.clear();
            self.key.extend_from_slice(key);
        }
    }

    /// The table, which begins there.
    pub fn begin(self, mut table: ColdTable) -> ColdTable {
        table.go_on_behind(&self.key);
        table
    }
}
