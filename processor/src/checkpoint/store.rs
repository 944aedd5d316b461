use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use millrace_wire::telemetry;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};

use super::{FORMAT, Manifest, RETAINED, Snapshot};

/// Where checkpoints are kept.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: Path,
}

/// A checkpoint that has been read and verified.
#[derive(Debug)]
pub struct Loaded {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its state file.
    pub state: Vec<u8>,
}

impl Store {
    /// # Errors
    /// The URL is of no kind that is known here.
    pub fn open(url: &url::Url) -> anyhow::Result<Self> {
        let (objects, root) = object_store::parse_url(url)
            .with_context(|| format!("checkpoints can't be kept at {url}: give the URL of a folder, as in file:///var/lib/millrace/checkpoints"))?;
        Ok(Self { objects: objects.into(), root })
    }

    fn folder(&self, app: &str, partition: i32) -> Path {
        self.root.clone().join(app).join(partition.to_string())
    }

    fn file(&self, app: &str, partition: i32, id: u64, ending: &str) -> Path {
        self.folder(app, partition).join(format!("{id:012}.{ending}"))
    }

    /// Writes a checkpoint and says what became of it. `blocked_ms` is how long processing was held up.
    pub async fn complete(
        &self,
        mut manifest: Manifest,
        snapshot: Snapshot,
        begun: Instant,
        blocked_ms: f64,
    ) -> telemetry::Checkpoint {
        let error = self.write(&mut manifest, snapshot, begun).await.err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            let Manifest { app, partition, id, .. } = &manifest;
            tracing::error!(app, partition, id, error, "a checkpoint failed; the ones before are kept");
        }
        manifest.telemetry(blocked_ms, error)
    }

    /// Writes a checkpoint and takes away the ones that are no longer kept. Completes the manifest.
    ///
    /// # Errors
    /// The store refuses; the checkpoints before are untouched.
    pub async fn write(
        &self,
        manifest: &mut Manifest,
        snapshot: Snapshot,
        begun: Instant,
    ) -> anyhow::Result<()> {
        manifest.sha256 = hex(&Sha256::digest(&snapshot.bytes));
        manifest.bytes = snapshot.bytes.len() as u64;
        manifest.entries = snapshot.entries;
        let (app, partition, id) = (manifest.app.clone(), manifest.partition, manifest.id);
        self.objects.put(&self.file(&app, partition, id, "state"), PutPayload::from(snapshot.bytes)).await?;
        manifest.duration_ms = begun.elapsed().as_secs_f64() * 1_000.0;
        let text = serde_json::to_vec_pretty(manifest)?;
        self.objects.put(&self.file(&app, partition, id, "json"), PutPayload::from(text)).await?;
        for old in self.ids(&app, partition).await?.into_iter().skip(RETAINED) {
            // The manifest first: a state file alone is no checkpoint.
            for ending in ["json", "state"] {
                if let Err(error) = self.objects.delete(&self.file(&app, partition, old, ending)).await {
                    tracing::warn!(%error, app, partition, id = old, "an old checkpoint could not be removed");
                }
            }
        }
        Ok(())
    }

    /// Ids of the complete checkpoints of a task, newest first.
    async fn ids(&self, app: &str, partition: i32) -> anyhow::Result<Vec<u64>> {
        let listing = self.objects.list_with_delimiter(Some(&self.folder(app, partition))).await?;
        let names =
            listing.objects.iter().filter_map(|object| object.location.filename()?.strip_suffix(".json"));
        let mut ids: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// The newest checkpoint of a task that can be read and satisfies `usable`. One that is torn or damaged is passed
    /// over, with a word in the log. Also returns the largest id there is, so that ids keep rising.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn newest(
        &self,
        app: &str,
        partition: i32,
        usable: impl Fn(&Manifest) -> Result<(), String>,
    ) -> anyhow::Result<(Option<Loaded>, u64)> {
        let ids = self.ids(app, partition).await.context("the checkpoints can't be listed")?;
        for &id in &ids {
            match self.read(app, partition, id).await {
                Ok(loaded) => match usable(&loaded.manifest) {
                    Ok(()) => return Ok((Some(loaded), ids.first().copied().unwrap_or(0))),
                    Err(reason) => tracing::warn!(app, partition, id, reason, "a checkpoint was passed over"),
                },
                Err(error) => {
                    tracing::warn!(
                        app,
                        partition,
                        id,
                        error = format!("{error:#}"),
                        "a checkpoint was passed over"
                    );
                }
            }
        }
        Ok((None, ids.first().copied().unwrap_or(0)))
    }

    async fn read(&self, app: &str, partition: i32, id: u64) -> anyhow::Result<Loaded> {
        let get = async |ending| -> anyhow::Result<Vec<u8>> {
            let object = self.objects.get(&self.file(app, partition, id, ending)).await?;
            Ok(object.bytes().await?.to_vec())
        };
        let manifest: Manifest =
            serde_json::from_slice(&get("json").await?).context("its manifest can't be read")?;
        if manifest.version != FORMAT {
            bail!("it is of version {}, this build reads {FORMAT}", manifest.version);
        }
        let state = get("state").await.context("its state file can't be read")?;
        ensure!(
            manifest.bytes == state.len() as u64,
            "its state file has {} bytes of {}",
            state.len(),
            manifest.bytes
        );
        ensure!(manifest.sha256 == hex(&Sha256::digest(&state)), "the checksum of its state file is wrong");
        Ok(Loaded { manifest, state })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(id: u64) -> Manifest {
        Manifest {
            version: FORMAT,
            app: "sensors".into(),
            partition: 3,
            id,
            created_ms: 0,
            duration_ms: 0.0,
            offsets: vec![("iot-sensors".into(), 7)],
            changelog_offset: 5,
            watermark_ms: None,
            params: Vec::new(),
            entries: 0,
            bytes: 0,
            sha256: String::new(),
        }
    }

    #[tokio::test]
    async fn three_are_kept_and_a_damaged_one_falls_back_to_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&url::Url::from_directory_path(dir.path()).unwrap()).unwrap();
        assert!(store.newest("sensors", 3, |_| Ok(())).await.unwrap().0.is_none());
        for id in 1..=5 {
            let mut snapshot = Snapshot::default();
            snapshot.push(b"key", &id.to_string().into_bytes());
            store.write(&mut manifest(id), snapshot, Instant::now()).await.unwrap();
        }
        let folder = dir.path().join("sensors/3");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 6);
        let newest = async || {
            let (loaded, largest) = store.newest("sensors", 3, |_| Ok(())).await.unwrap();
            (loaded.map(|l| l.manifest.id), largest)
        };
        assert_eq!(newest().await, (Some(5), 5));
        std::fs::write(folder.join("000000000005.state"), b"something else").unwrap();
        assert_eq!(newest().await, (Some(4), 5));
        std::fs::remove_file(folder.join("000000000004.state")).unwrap();
        assert_eq!(newest().await, (Some(3), 5));
        std::fs::write(folder.join("000000000003.json"), b"{").unwrap();
        assert_eq!(newest().await, (None, 5));
    }
}
