use std::cell::RefCell;
use std::ops::Bound;
use std::rc::Rc;

use anyhow::anyhow;
use fjall::{Database, Guard, Keyspace, Readable, Slice, Snapshot};
use millrace_core::state::{Cold, StateError, Visit, decode, encode};
use millrace_service::clock;

use super::Stamp;
use crate::checkpoint::Changes;

/// The key of the stamp: entries begin with a version, which is not 0.
const STAMP: [u8; 1] = [0];
/// What entries are behind.
const ENTRIES: [u8; 1] = [1];

/// The entries of a task.
pub struct TaskStore {
    database: Database,
    /// The Kafka cluster whose changelog it follows.
    cluster: String,
    entries: Rc<Entries>,
    /// What has changed and is not written yet.
    pending: Changes,
}

/// What the task sees of them.
struct Entries {
    keyspace: Keyspace,
    /// The first error of a read.
    failed: RefCell<Option<anyhow::Error>>,
}

impl TaskStore {
    pub(super) fn new(database: Database, keyspace: Keyspace, cluster: &str) -> Self {
        let entries = Rc::new(Entries { keyspace, failed: RefCell::default() });
        Self { database, cluster: cluster.to_owned(), entries, pending: Changes::default() }
    }

    /// How far it is; `None`: it is empty, or was never completed.
    ///
    /// # Errors
    /// The disk, or no stamp of this build.
    pub fn stamp(&self) -> anyhow::Result<Option<Stamp>> {
        let stamp = self.entries.keyspace.get(STAMP)?;
        Ok(stamp.map(|bytes| decode(&bytes)).transpose()?)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// The disk.
    pub fn clear(&mut self) -> anyhow::Result<()> {
        self.pending = Changes::default();
        Ok(self.entries.keyspace.clear()?)
    }

    /// An entry has changed. Written with the next [`TaskStore::write`].
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.pending.put(key, value);
    }

    /// How many entries are to be written.
    pub fn pending(&self) -> usize {
        self.pending.count()
    }

    /// Writes what has changed, all or nothing. With an `offset` it is what the changelog has before that.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&mut self, offset: Option<i64>) -> anyhow::Result<()> {
        let mut batch = self.database.batch();
        let keyspace = &self.entries.keyspace;
        for (key, value) in std::mem::take(&mut self.pending).into_entries() {
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        if let Some(offset) = offset {
            let stamp = Stamp { cluster: self.cluster.clone(), offset, at_ms: clock::now_ms() };
            let mut bytes = Vec::new();
            encode(&stamp, &mut bytes);
            batch.insert(keyspace, STAMP, bytes);
        }
        Ok(batch.commit()?)
    }

    /// For the task.
    pub fn cold(&self) -> Rc<dyn Cold> {
        self.entries.clone()
    }

    /// Whether the task could read what it asked for. If not, nothing that followed may be committed.
    ///
    /// # Errors
    /// It could not.
    pub fn check(&self) -> anyhow::Result<()> {
        self.entries.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// Everything as it is now, whatever is written later.
    pub fn whole(&self) -> Whole {
        Whole { snapshot: self.database.snapshot(), keyspace: self.entries.keyspace.clone() }
    }
}

impl Entries {
    fn failed(&self, error: impl Into<anyhow::Error>) {
        self.failed.borrow_mut().get_or_insert_with(|| error.into().context("the local state can't be read"));
    }
}

impl Cold for Entries {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) {
        match self.keyspace.get(key) {
            Ok(Some(value)) => found(&value),
            Ok(None) => {}
            Err(error) => self.failed(error),
        }
    }

    fn each(&self, prefix: &[u8], after: &[u8], entry: &mut Visit<'_>) {
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        for read in self.keyspace.range::<&[u8], _>((from, Bound::Unbounded)).map(Guard::into_inner) {
            match read {
                Ok((key, value)) if key.starts_with(prefix) => {
                    if entry(&key, &value).is_break() {
                        return;
                    }
                }
                Ok(_) => return,
                Err(error) => return self.failed(error),
            }
        }
    }

    fn failed(&self, error: StateError) {
        Self::failed(self, error);
    }
}

/// All entries of a store at a moment.
pub struct Whole {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl Whole {
    /// By ascending key.
    pub fn entries(&self) -> impl Iterator<Item = anyhow::Result<(Slice, Slice)>> + use<> {
        let entries = self.snapshot.range::<&[u8], _>(&self.keyspace, &ENTRIES[..]..);
        entries.map(|entry| entry.into_inner().map_err(|error| anyhow!(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Disk;

    fn task(disk: &Disk, partition: i32) -> TaskStore {
        disk.task("a", partition, "c").unwrap()
    }

    fn offset(store: &TaskStore) -> Option<i64> {
        store.stamp().unwrap().map(|stamp| stamp.offset)
    }

    fn all(store: &TaskStore) -> Vec<(Vec<u8>, Vec<u8>)> {
        store.whole().entries().map(|e| e.unwrap()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect()
    }

    fn entry(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (key.to_vec(), value.to_vec())
    }

    #[test]
    fn entries_and_stamp_are_there_together_and_only_when_written() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut store = task(&disk, 0);
        assert_eq!(offset(&store), None);
        store.put(b"\x01k", Some(b"1"));
        store.put(b"\x01k", Some(b"2"));
        store.put(b"\x01gone", None);
        // The transaction was aborted: whoever comes next sees nothing of it.
        drop(store);
        let mut store = task(&disk, 0);
        assert_eq!((offset(&store), all(&store)), (None, vec![]));
        store.put(b"\x01k", Some(b"3"));
        store.put(b"\x01l", Some(b""));
        store.write(Some(5)).unwrap();
        let before = store.whole();
        store.put(b"\x01k", None);
        store.write(Some(6)).unwrap();
        assert_eq!(before.entries().count(), 2, "a snapshot stays as it is");
        drop((before, store, disk));
        let disk = Disk::open(dir.path()).unwrap();
        let mut store = task(&disk, 0);
        assert_eq!((offset(&store), all(&store)), (Some(6), vec![entry(b"\x01l", b"")]));
        assert_eq!(offset(&task(&disk, 1)), None, "each task has its own");
        store.clear().unwrap();
        assert_eq!((offset(&store), all(&store)), (None, vec![]));
    }

    /// The journal ends in the middle of a batch, as after a crash of the machine.
    #[test]
    fn a_torn_batch_is_not_there_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut store = task(&disk, 0);
        for n in 1..=2_u8 {
            for key in 0..100 {
                store.put(&[1, key], Some(&[n; 50]));
            }
            store.write(Some(i64::from(n))).unwrap();
        }
        drop((store, disk));
        let journals = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        let journal = journals.into_iter().find(|path| path.extension().is_some_and(|e| e == "jnl")).unwrap();
        let bytes = std::fs::read(&journal).unwrap();
        let second = bytes.windows(50).rposition(|window| window == [2; 50]).unwrap();
        std::fs::write(&journal, &bytes[..second]).unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let store = task(&disk, 0);
        assert_eq!(offset(&store), Some(1));
        assert!(all(&store).iter().all(|(_, value)| *value == [1; 50]) && all(&store).len() == 100);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_started_anew_and_one_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut store = task(&disk, 0);
        store.write(Some(1)).unwrap();
        assert!(Disk::open(dir.path()).err().unwrap().to_string().contains("in use"));
        drop((store, disk));
        std::fs::write(dir.path().join("version"), b"nonsense").unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        assert_eq!(offset(&task(&disk, 0)), None);
    }

    #[test]
    fn what_cannot_be_read_fails_the_next_check() {
        let dir = tempfile::tempdir().unwrap();
        let store = task(&Disk::open(dir.path()).unwrap(), 0);
        store.check().unwrap();
        store.cold().failed(StateError::Version(9));
        let error = format!("{:#}", store.check().unwrap_err());
        assert!(error.contains("local state") && error.contains("version 9"), "{error}");
        store.check().unwrap();
    }
}
