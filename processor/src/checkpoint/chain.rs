use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use object_store::path::Path;
use sha2::Digest;
use tokio::sync::mpsc;

use super::manifest::{digest, hexadecimal, id_of, seal};
use super::pieces::Sent;
use super::{Changes, Encoded, File, Manifest, RETAINED, ReadError, Store};
use crate::store::Whole;

/// Deltas behind a base at the most.
const DELTAS: usize = 8;

/// The checkpoints of a task, as who writes them sees them: the files of the newest one, and what is not in it yet.
pub struct Chain {
    store: Store,
    folder: Path,
    /// Largest id so far; `None`: to be looked up.
    id: Option<u64>,
    files: Vec<File>,
    /// Of checkpoints that failed.
    unwritten: Changes,
    /// Manifests that have been read or written, by name.
    known: BTreeMap<String, Manifest>,
    /// The files are lost: the next checkpoint needs the whole state.
    lost: bool,
}

/// What a checkpoint writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The changes, behind the files that there are.
    Delta,
    /// Everything that there is, in one file.
    Base,
}

impl Next {
    fn name(self, manifest: &Manifest) -> String {
        let ending = if self == Self::Base { "base" } else { "delta" };
        format!("{}.{ending}", manifest.stem())
    }
}

/// A base when there is none, when there are many deltas, or when they are half as large as it.
fn next(files: &[File]) -> Next {
    match files {
        [] => Next::Base,
        [base, deltas @ ..] => {
            let bytes: u64 = deltas.iter().map(|delta| delta.bytes).sum();
            if deltas.len() >= DELTAS || bytes > base.bytes / 2 { Next::Base } else { Next::Delta }
        }
    }
}

impl Chain {
    /// Behind the checkpoint that the task was restored from, if there was one.
    pub fn new(
        store: Store,
        app: &str,
        partition: i32,
        largest_id: Option<u64>,
        restored: Option<Manifest>,
    ) -> Self {
        let folder = store.folder(app, partition);
        let files = restored.map(|manifest| manifest.files).unwrap_or_default();
        let (unwritten, known) = (Changes::default(), BTreeMap::new());
        Self { store, folder, id: largest_id, files, unwritten, known, lost: false }
    }

    /// Whether the next changes have to be the whole state. Asked once: whoever asks provides.
    pub fn take_lost(&mut self) -> bool {
        let lost = std::mem::take(&mut self.lost);
        if lost {
            self.begin_anew();
        }
        lost
    }

    /// The next checkpoint is a base, whatever there was.
    pub fn begin_anew(&mut self) {
        self.files.clear();
        self.unwritten = Changes::default();
    }

    /// Writes a checkpoint that has `changes` beyond the one before, and removes what is no longer needed. A base is read
    /// from the `whole` state if that is given, otherwise it is made of the files that there are. Completes the
    /// manifest. After an error the checkpoints before are untouched and the changes are part of the next one.
    ///
    /// # Errors
    /// The store refuses or does not answer, or what it has is damaged.
    pub async fn write(
        &mut self,
        manifest: &mut Manifest,
        changes: Changes,
        whole: Option<Whole>,
        begun: Instant,
    ) -> anyhow::Result<()> {
        let (next, bounded) = (next(&self.files), whole.is_some());
        let whole = whole.filter(|_| next == Next::Base);
        if whole.is_none() {
            self.unwritten.absorb(changes);
        }
        let id = match self.id {
            Some(id) => id,
            None => self.store.names(&self.folder).await?.last().and_then(|name| id_of(name)).unwrap_or(0),
        };
        manifest.id = id + 1;
        self.id = Some(manifest.id);
        let file = match whole {
            Some(whole) => self.stream(manifest, whole).await,
            None => self.merge(manifest, next).await,
        };
        // Changes would pile up with each failure, where the whole state can be had instead.
        let file = file.inspect_err(|_| {
            if bounded {
                self.begin_anew();
            }
        })?;
        manifest.files = if next == Next::Base { Vec::new() } else { self.files.clone() };
        manifest.files.push(file);
        manifest.duration_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let name = format!("{}.json", manifest.stem());
        self.store.put(&self.folder, &name, seal(manifest)?).await?;
        self.unwritten = Changes::default();
        self.files.clone_from(&manifest.files);
        self.known.insert(name, manifest.clone());
        if let Err(error) = self.collect_garbage().await {
            tracing::warn!(folder = %self.folder, error = format!("{error:#}"), "old checkpoints could not be removed");
        }
        Ok(())
    }

    /// Writes the changes as a delta, or everything that there is as a base.
    async fn merge(&mut self, manifest: &Manifest, next: Next) -> anyhow::Result<File> {
        let mut before = Vec::new();
        if next == Next::Base {
            for file in &self.files {
                match self.store.file(&self.folder, file).await {
                    Ok(bytes) => before.push(bytes),
                    Err(error) => {
                        self.lost = !matches!(error, ReadError::Away(_));
                        return Err(error.into());
                    }
                }
            }
        }
        // Sorting and hashing take a while, and this thread has telemetry to send.
        let changes = std::mem::take(&mut self.unwritten);
        let encode = tokio::task::spawn_blocking(move || {
            let delta = Encoded::delta(&changes);
            let encoded = match next {
                Next::Delta => Ok(delta),
                Next::Base => {
                    let mut files: Vec<&[u8]> = before.iter().map(Vec::as_slice).collect();
                    files.push(&delta.bytes);
                    Encoded::base(&files)
                }
            };
            let sha256 = encoded.as_ref().map(|encoded| digest(&encoded.bytes)).unwrap_or_default();
            (changes, encoded, sha256)
        });
        let (changes, encoded, sha256) = match encode.await {
            Ok(encoded) => encoded,
            Err(error) => {
                self.lost = true;
                return Err(error.into());
            }
        };
        self.unwritten = changes;
        let Encoded { bytes, entries } = encoded.inspect_err(|_| self.lost = true)?;
        let name = next.name(manifest);
        let file = File { name, entries, bytes: bytes.len() as u64, sha256 };
        self.store.put(&self.folder, &file.name, bytes).await?;
        Ok(file)
    }

    /// Writes the whole state as a base, in pieces.
    async fn stream(&self, manifest: &Manifest, whole: Whole) -> anyhow::Result<File> {
        let name = Next::Base.name(manifest);
        let (send, pieces) = mpsc::channel(1);
        // The end of `send` is the end of the file.
        let read = tokio::task::spawn_blocking(move || Sent::to(&send, &whole));
        self.store.put_pieces(&self.folder, &name, pieces).await?;
        let Sent { entries, bytes, sha256 } = read.await?;
        Ok(File { name, entries, bytes, sha256: hexadecimal(&sha256.finalize()) })
    }

    /// Removes manifests that are no longer kept, then files that none of the kept ones names.
    async fn collect_garbage(&mut self) -> anyhow::Result<()> {
        let names = self.store.names(&self.folder).await?;
        let manifests: Vec<&String> = names.iter().rev().filter(|name| name.ends_with(".json")).collect();
        self.known.retain(|name, _| names.contains(name));
        for &name in &manifests {
            if !self.known.contains_key(name)
                && let Ok(manifest) = self.store.sealed(&self.folder, name).await
            {
                self.known.insert(name.clone(), manifest);
            }
        }
        for name in superfluous(&names, &self.known) {
            self.store.delete(&self.folder, &name).await?;
        }
        Ok(())
    }
}

/// What can be removed of `names` (the oldest first), manifests before files. `known` are the manifests that can be
/// read.
fn superfluous(names: &[String], known: &BTreeMap<String, Manifest>) -> Vec<String> {
    let manifests: Vec<&String> = names.iter().rev().filter(|name| name.ends_with(".json")).collect();
    let mut kept: Vec<&String> = manifests.iter().copied().take(RETAINED).collect();
    let base_of = |name: &str| known.get(name)?.files.first();
    // The newest of the chain before, if the newest ones rest on one base.
    let newest = kept.iter().find_map(|name| base_of(name));
    if kept.iter().all(|name| base_of(name).is_none_or(|base| Some(base) == newest)) {
        kept.extend(
            manifests
                .iter()
                .copied()
                .find(|name| base_of(name).is_some_and(|base| newest.is_some_and(|newest| newest != base))),
        );
    }
    let mut gone: Vec<String> =
        manifests.iter().filter(|name| !kept.contains(name)).map(|&name| name.clone()).collect();
    // What a manifest names that can't be read is not known: then every file stays for now. And so does what is newer
    // than the newest manifest: a checkpoint may be under way.
    if kept.iter().all(|name| known.contains_key(*name)) {
        let files = kept.iter().filter_map(|name| known.get(*name)).flat_map(|manifest| &manifest.files);
        let named: BTreeSet<&str> = files.map(|file| file.name.as_str()).collect();
        let newest = manifests.first().and_then(|name| id_of(name));
        let files = names.iter().filter(|name| !name.ends_with(".json"));
        gone.extend(files.filter(|name| !named.contains(name.as_str()) && id_of(name) < newest).cloned());
    }
    gone
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::manifest::tests::manifest;
    use crate::checkpoint::{Found, merged};

    struct Stage {
        dir: tempfile::TempDir,
        store: Store,
        chain: Chain,
    }

    impl Stage {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(&url::Url::from_directory_path(dir.path()).unwrap()).unwrap();
            let chain = Chain::new(store.clone(), "sensors", 3, Some(0), None);
            Self { dir, store, chain }
        }

        /// Checkpoint with these changes.
        async fn write(&mut self, changes: &[(&str, Option<&str>)]) -> anyhow::Result<Manifest> {
            let mut all = Changes::default();
            for (key, value) in changes {
                all.put(key.as_bytes(), value.map(str::as_bytes));
            }
            let mut manifest = manifest(0);
            self.chain.write(&mut manifest, all, None, Instant::now()).await.map(|()| manifest)
        }

        /// A large base, then `deltas` checkpoints that each change one key to their number.
        async fn written(deltas: usize) -> Self {
            let mut stage = Self::new();
            let padding = "x".repeat(1_000);
            stage.write(&[("n", Some("0")), ("padding", Some(&padding))]).await.unwrap();
            for n in 1..=deltas {
                stage.write(&[("n", Some(&n.to_string()))]).await.unwrap();
            }
            stage
        }

        async fn newest(&self) -> Found {
            self.store.newest("sensors", 3, |_| Ok(())).await
        }

        /// Id of the newest usable checkpoint, its value of `n`, and what was passed over.
        async fn found(&self) -> (Option<u64>, Option<String>, Vec<String>) {
            let found = self.newest().await;
            let n = found.loaded.as_ref().and_then(|loaded| {
                let files: Vec<&[u8]> = loaded.files.iter().map(Vec::as_slice).collect();
                let mut all = merged(&files).map(Result::unwrap);
                all.find(|(key, _)| *key == b"n")
                    .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            });
            (found.loaded.map(|l| l.manifest.id), n, found.passed_over)
        }

        fn path(&self, id: u64, ending: &str) -> PathBuf {
            self.dir.path().join(format!("sensors/3/{id:012}-1000.{ending}"))
        }

        fn names(&self) -> Vec<String> {
            let folder = std::fs::read_dir(self.dir.path().join("sensors/3")).unwrap();
            let mut names: Vec<_> = folder.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
            names.sort_unstable();
            names
        }
    }

    #[tokio::test]
    async fn deltas_follow_a_base_until_there_are_many() {
        let mut stage = Stage::written(DELTAS).await;
        let found = stage.newest().await.loaded.unwrap().manifest;
        assert_eq!(found.files.len(), 1 + DELTAS);
        assert!(found.files.iter().skip(1).all(|file| file.bytes < 20), "{found:?}");
        let compacted = stage.write(&[("n", None)]).await.unwrap();
        assert_eq!(compacted.files.len(), 1);
        assert_eq!(compacted.files[0].entries, 1, "what is gone is gone");
        assert_eq!(stage.found().await, (Some(10), None, vec![]));
    }

    #[test]
    fn large_deltas_become_a_base() {
        let file = |bytes| File { name: String::new(), entries: 1, bytes, sha256: String::new() };
        assert_eq!(next(&[]), Next::Base);
        assert_eq!(next(&[file(100)]), Next::Delta);
        assert_eq!(next(&[file(100), file(25), file(25)]), Next::Delta);
        assert_eq!(next(&[file(100), file(25), file(26)]), Next::Base);
    }

    #[tokio::test]
    async fn three_are_kept_and_the_newest_of_the_chain_before() {
        let mut stage = Stage::written(DELTAS + 1).await;
        assert_eq!(stage.newest().await.loaded.unwrap().manifest.files.len(), 1, "the tenth is a base");
        stage.write(&[("n", Some("a"))]).await.unwrap();
        let manifests = |stage: &Stage| {
            let names = stage.names();
            names.iter().filter(|n| n.ends_with(".json")).filter_map(|n| id_of(n)).collect::<Vec<_>>()
        };
        assert_eq!(manifests(&stage), [9, 10, 11]);
        for n in ["b", "c", "d"] {
            stage.write(&[("n", Some(n))]).await.unwrap();
        }
        assert_eq!(manifests(&stage), [9, 12, 13, 14]);
        let files = stage.names().len() - 4;
        assert_eq!(files, (1 + DELTAS) + 5, "the whole chain before, and this one");
        // The base of this chain is damaged: the one before it takes over.
        std::fs::write(stage.path(10, "base"), b"something else").unwrap();
        let (id, n, passed_over) = stage.found().await;
        assert_eq!((id, n.as_deref()), (Some(9), Some("8")));
        assert_eq!(passed_over.len(), 3, "{passed_over:?}");
    }

    #[tokio::test]
    async fn a_damaged_one_falls_back_to_the_one_before_and_says_so() {
        let stage = Stage::written(3).await;
        assert_eq!(stage.found().await, (Some(4), Some("3".into()), vec![]));
        // Torn.
        let bytes = std::fs::read(stage.path(4, "delta")).unwrap();
        std::fs::write(stage.path(4, "delta"), &bytes[..bytes.len() - 1]).unwrap();
        let torn = "checkpoint 4: 000000000004-1000.delta has 9 bytes of 10".to_owned();
        assert_eq!(stage.found().await, (Some(3), Some("2".into()), vec![torn.clone()]));
        // Missing, and with it what rests on it.
        std::fs::remove_file(stage.path(3, "delta")).unwrap();
        let missing = "checkpoint 3: 000000000003-1000.delta is missing".to_owned();
        assert_eq!(
            stage.found().await.2,
            [
                torn.replace(
                    "000000000004-1000.delta has 9 bytes of 10",
                    "000000000003-1000.delta is missing"
                ),
                missing
            ]
        );
        // A manifest.
        std::fs::write(stage.path(2, "json"), b"{").unwrap();
        let (id, _, passed_over) = stage.found().await;
        assert_eq!((id, passed_over.len()), (None, 3), "{passed_over:?}");
        assert!(passed_over[2].contains("manifest"), "{passed_over:?}");
        assert_eq!(stage.newest().await.largest_id, Some(4), "ids keep rising");
    }

    #[tokio::test]
    async fn a_checkpoint_that_failed_is_part_of_the_next_one() {
        let mut stage = Stage::written(1).await;
        let folder = stage.dir.path().join("sensors/3");
        let away = stage.dir.path().join("away");
        std::fs::rename(&folder, &away).unwrap();
        std::fs::write(&folder, b"no folder").unwrap();
        assert!(stage.write(&[("n", Some("2")), ("m", Some("1"))]).await.is_err());
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(&away, &folder).unwrap();
        assert!(!stage.chain.take_lost());
        let written = stage.write(&[("m", None)]).await.unwrap();
        assert_eq!(written.files.last().unwrap().entries, 2);
        assert_eq!(stage.found().await.1.as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn without_its_files_a_chain_asks_for_the_whole_state() {
        let mut stage = Stage::written(DELTAS).await;
        std::fs::remove_file(stage.path(1, "base")).unwrap();
        let error = stage.write(&[("n", Some("x"))]).await.unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        assert!(stage.chain.take_lost() && !stage.chain.take_lost());
        let written = stage.write(&[("n", Some("x"))]).await.unwrap();
        assert_eq!((written.files.len(), written.id), (1, 11));
        assert_eq!(stage.found().await, (Some(11), Some("x".into()), vec![]));
    }

    #[tokio::test]
    async fn a_task_that_was_restored_goes_on_with_the_chain() {
        let stage = Stage::written(2).await;
        let Found { loaded, largest_id, .. } = stage.newest().await;
        let manifest = loaded.map(|loaded| loaded.manifest);
        let chain = Chain::new(stage.store.clone(), "sensors", 3, largest_id, manifest);
        let mut stage = Stage { chain, ..stage };
        let written = stage.write(&[("n", Some("9"))]).await.unwrap();
        assert_eq!((written.id, written.files.len()), (4, 4));
        // The store did not answer then: ids still rise.
        stage.chain = Chain::new(stage.store.clone(), "sensors", 3, None, None);
        let written = stage.write(&[("n", Some("10"))]).await.unwrap();
        assert_eq!((written.id, written.files.len()), (5, 1));
    }

    proptest! {
        /// Whatever manifests there are, readable or not: what a kept one names stays, and so does what is newer.
        #[test]
        fn garbage_collection_never_removes_what_is_named(
            chains in prop::collection::vec((1_usize..5, prop::bool::weighted(0.8)), 0..6),
        ) {
            let (mut names, mut known, mut id) = (Vec::new(), BTreeMap::new(), 0);
            for (length, readable) in chains {
                let mut files = Vec::new();
                for n in 0..length {
                    id += 1;
                    let mut manifest = manifest(id);
                    let ending = if n == 0 { "base" } else { "delta" };
                    let name = format!("{}.{ending}", manifest.stem());
                    files.push(File { name: name.clone(), entries: 0, bytes: 1, sha256: String::new() });
                    manifest.files.clone_from(&files);
                    let json = format!("{}.json", manifest.stem());
                    names.extend([name, json.clone()]);
                    if readable {
                        known.insert(json, manifest);
                    }
                }
            }
            names.push(format!("{}.delta", manifest(id + 1).stem()));
            names.sort_unstable();
            let gone = superfluous(&names, &known);
            let left: Vec<&String> = names.iter().filter(|name| !gone.contains(name)).collect();
            let kept: Vec<_> = left.iter().filter(|n| n.ends_with(".json")).collect();
            prop_assert!(kept.len() >= RETAINED.min(id as usize) && kept.len() <= RETAINED + 1);
            for manifest in kept.iter().filter_map(|name| known.get(**name)) {
                for file in &manifest.files {
                    prop_assert!(left.contains(&&file.name), "{} is named by {}", file.name, manifest.id);
                }
            }
            prop_assert!(left.contains(&names.last().unwrap()), "a checkpoint under way");
        }
    }
}
