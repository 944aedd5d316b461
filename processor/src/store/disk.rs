use std::path::Path;

use anyhow::{Context, bail};
use fjall::{Database, KeyspaceCreateOptions};

use super::TaskStore;

/// Blocks of all stores that are held in memory.
const BLOCKS: u64 = 16 << 20;
/// What a store gathers in memory before it writes a table.
const MEMTABLE: u64 = 2 << 20;
/// The least that fjall takes: the journals of all stores, on disk.
const JOURNALS: u64 = 64 << 20;
/// Files that are held open.
const FILES: usize = 200;

/// The stores of a worker: one database, in a folder that is its own.
///
/// In memory it holds 16 MiB of blocks, and for each task 2 MiB of entries that are not in a table yet (while those are
/// being written, a multiple of it), and 10 bits of filter per entry.
pub struct Disk {
    database: Database,
}

impl Disk {
    /// Opens the folder, or makes it. What can't be read is removed: it is only a copy.
    ///
    /// # Errors
    /// It can't be written, or another process has it.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let open = || {
            Database::builder(dir)
                .cache_size(BLOCKS)
                .max_journaling_size(JOURNALS)
                .max_cached_files(Some(FILES))
                .worker_threads(1)
                .open()
        };
        let database = match open() {
            Err(fjall::Error::Locked) => {
                bail!(
                    "{} is in use: each worker needs a folder of its own (MILLRACE_STATE_DIR)",
                    dir.display()
                )
            }
            Err(error) if dir.exists() => {
                tracing::warn!(%error, dir = %dir.display(), "the local state can't be read: it is discarded");
                std::fs::remove_dir_all(dir)
                    .with_context(|| format!("{} can't be removed", dir.display()))?;
                open()
            }
            opened => opened,
        };
        let database = database.with_context(|| format!("state can't be kept in {}", dir.display()))?;
        Ok(Self { database })
    }

    /// The store of a task, which follows the changelog in this Kafka cluster.
    ///
    /// # Errors
    /// The disk.
    pub fn task(&self, app: &str, partition: i32, cluster: &str) -> anyhow::Result<TaskStore> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
        let keyspace = self.database.keyspace(&format!("{app}-{partition}"), options)?;
        Ok(TaskStore::new(self.database.clone(), keyspace, cluster))
    }
}
