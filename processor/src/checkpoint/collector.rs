use std::sync::Arc;
use std::time::Instant;

use millrace_core::Task;
use millrace_wire::telemetry;
use tokio::sync::Mutex;

use super::{Chain, Changes, Manifest};
use crate::store::Whole;

/// Changes that are held for a task whose whole state can be read from its store.
const MOST: usize = 20_000;

/// A task's checkpoints, as its worker sees them: what has changed since the last one.
pub struct Collector {
    changes: Collected,
    chain: Arc<Mutex<Chain>>,
}

/// What has changed.
enum Collected {
    /// These.
    All(Changes),
    /// These, for as long as they are few.
    Few(Changes),
    /// So much that the whole state is written.
    Many,
}

impl Collector {
    /// Of a task in memory. `changes` is what the chain does not have yet: the changelog that was read behind its newest
    /// checkpoint.
    pub fn new(chain: Chain, changes: Changes) -> Self {
        Self { changes: Collected::All(changes), chain: Arc::new(Mutex::new(chain)) }
    }

    /// Of a task on disk, whose first checkpoint is the whole state.
    pub fn of_disk(chain: Chain) -> Self {
        Self { changes: Collected::Many, chain: Arc::new(Mutex::new(chain)) }
    }

    /// An entry has changed. It counts from the next commit on: a transaction that fails takes the task with it.
    pub fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        match &mut self.changes {
            Collected::All(changes) => changes.put(key, value),
            Collected::Few(changes) if changes.count() < MOST => changes.put(key, value),
            Collected::Few(_) => self.changes = Collected::Many,
            Collected::Many => {}
        }
    }

    /// Begins a checkpoint of a task whose state is committed: hands over what has changed, and for a task on disk its
    /// `whole` state, to be read when it is needed. The rest is done by what is returned, wherever that is run. `None`: the
    /// checkpoint before is still being written.
    pub fn begin(
        &mut self,
        task: &mut dyn Task,
        whole: Option<Whole>,
        app: &str,
        partition: i32,
        changelog_offset: i64,
    ) -> Option<impl Future<Output = telemetry::Checkpoint> + Send + use<>> {
        let begun = Instant::now();
        let mut chain = self.chain.clone().try_lock_owned().ok()?;
        let lost = chain.take_lost();
        let changes = match &mut self.changes {
            Collected::All(changes) if lost => {
                *changes = Changes::default();
                task.snapshot(&mut |key, value| changes.put(key, value));
                std::mem::take(changes)
            }
            Collected::All(changes) => std::mem::take(changes),
            Collected::Few(changes) => std::mem::take(changes),
            Collected::Many => {
                self.changes = Collected::Few(Changes::default());
                chain.begin_anew();
                Changes::default()
            }
        };
        let mut manifest = Manifest::of(task, app, partition, changelog_offset);
        let blocked_ms = begun.elapsed().as_secs_f64() * 1_000.0;
        Some(async move {
            let error = chain.write(&mut manifest, changes, whole, begun).await.err();
            let error = error.map(|error| format!("{error:#}"));
            if let Some(error) = &error {
                let Manifest { app, partition, id, .. } = &manifest;
                tracing::error!(app, partition, id, error, "a checkpoint failed; the ones before are kept");
            }
            manifest.telemetry(blocked_ms, error)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use millrace_core::{Application, Effects, Input, Record};

    use super::*;
    use crate::apps::commerce;
    use crate::checkpoint::{Store, merged};

    fn order(i: u32) -> String {
        format!(
            r#"{{"orderId":"o{i}","customerId":"c{}","amount":12.5,"category":"x","timestamp":{}}}"#,
            i % 100_000,
            1_700_000_000_000_i64 + i64::from(i)
        )
    }

    /// All of them have changed. The promise is 20 ms; `--nocapture` shows the figure. And what is written is what is there.
    #[test]
    fn handing_over_100_000_keys_holds_up_nothing() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&url::Url::from_directory_path(dir.path()).unwrap()).unwrap();
        let chain = Chain::new(store.clone(), "commerce", 0, Some(0), None);
        let mut collector = Collector::new(chain, Changes::default());
        let mut task = commerce::APP.task(0).unwrap();
        task.start();
        let mut effects = Effects::default();
        for round in 1..=2 {
            for i in 0..100_000 {
                let value = order(round * 100_000 + i);
                let offset = i64::from(round * 100_000 + i);
                let record = Record { source: 0, offset, key: None, value: Some(value.as_bytes()) };
                task.step(Input::Record(record), &mut effects).unwrap();
                effects.clear();
            }
            let mut changed = 0_u32;
            let (mut encoding, mut collecting) = (Duration::ZERO, Duration::ZERO);
            let begun = Instant::now();
            task.changes(&mut |key, value| {
                let begun = Instant::now();
                collector.put(key, value);
                collecting += begun.elapsed();
                changed += 1;
            });
            encoding += begun.elapsed() - collecting;
            assert!(changed >= 100_000, "{changed}");
            let begun = Instant::now();
            let write = collector.begin(&mut *task, None, "commerce", 0, 7).unwrap();
            let blocked = begun.elapsed();
            assert!(collector.begin(&mut *task, None, "commerce", 0, 7).is_none(), "one at a time");
            let begun = Instant::now();
            let mut whole = 0_usize;
            task.snapshot(&mut |key, value| whole += key.len() + value.map_or(0, <[u8]>::len));
            let snapshot = begun.elapsed();
            let told = runtime.block_on(write);
            println!(
                "{changed} entries, {} bytes: blocked {blocked:?}; collected in {collecting:?} of {:?} at the commit; \
                 written after {} ms; a snapshot would take {snapshot:?}",
                told.bytes,
                encoding + collecting,
                told.duration_ms
            );
            assert_eq!(told.error, None);
            assert!(blocked < snapshot / 4, "{blocked:?}, a snapshot {snapshot:?}");
        }
        let found = runtime.block_on(store.newest("commerce", 0, |_| Ok(())));
        let files = found.loaded.unwrap().files;
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let mut restored = commerce::APP.task(0).unwrap();
        for entry in merged(&files) {
            let (key, value) = entry.unwrap();
            assert!(restored.load(key, Some(value)).unwrap());
        }
        restored.start();
        let state = |task: &mut dyn Task| {
            let mut all = BTreeMap::new();
            task.snapshot(&mut |key, value| drop(all.insert(key.to_vec(), value.unwrap().to_vec())));
            all
        };
        let (expected, restored) = (state(&mut *task), state(&mut *restored));
        let lost = expected.iter().find(|(key, value)| restored.get(*key) != Some(value));
        assert!(lost.is_none(), "{lost:?}");
        assert_eq!(restored.len(), expected.len());
    }
}
