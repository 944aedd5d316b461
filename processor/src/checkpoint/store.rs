use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::manifest::{digest, id_of, unseal};
use super::{File, Manifest};

/// What an object is written in, piece by piece: the least that S3 takes.
const PART: usize = 5 << 20;

/// Where checkpoints are kept.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: Path,
}

/// Why an object can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not what it was: asking again does not help.
    #[error("{0}")]
    Damaged(String),
    /// It is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// The store does not answer.
    #[error("the store does not answer: {0}")]
    Away(#[from] object_store::Error),
}

/// A checkpoint that has been read and verified.
#[derive(Debug)]
pub struct Loaded {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its files, the base first.
    pub files: Vec<Vec<u8>>,
}

/// What there is of a task's checkpoints.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest usable one.
    pub loaded: Option<Loaded>,
    /// The newer ones, and why each is not usable.
    pub passed_over: Vec<String>,
    /// The largest id there is; `None`: not known, as the store does not answer.
    pub largest_id: Option<u64>,
    /// The store does not answer: there is no point in asking again now.
    pub away: bool,
}

impl Store {
    /// At `file:///..` or `s3://bucket/prefix`; S3's endpoint and credentials come from the usual `AWS_` variables.
    ///
    /// # Errors
    /// The URL is of no kind that is known here, or the variables do not go with it.
    pub fn open(url: &url::Url) -> anyhow::Result<Self> {
        let (objects, root) = match url.scheme() {
            "file" => {
                let (objects, root) = object_store::parse_url(url)
                    .with_context(|| format!("checkpoints can't be kept at {url}"))?;
                (Arc::from(objects), root)
            }
            "s3" => (s3(url)?, Path::from_url_path(url.path())?),
            _ => bail!(
                "checkpoints can't be kept at {url}: give a folder, as in file:///var/lib/millrace/checkpoints, or a \
                 bucket, as in s3://bucket/prefix"
            ),
        };
        Ok(Self { objects, root })
    }

    /// The folder of everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a task's checkpoints.
    pub fn folder(&self, app: &str, partition: i32) -> Path {
        self.root.clone().join(app).join(partition.to_string())
    }

    /// Writes an object, all or nothing.
    ///
    /// # Errors
    /// The store refuses or does not answer.
    pub async fn put(&self, folder: &Path, name: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.objects.put(&folder.clone().join(name), PutPayload::from(bytes)).await?;
        Ok(())
    }

    /// Writes an object piece by piece, all or nothing: with an error among the `pieces` there is no object.
    ///
    /// # Errors
    /// One of the pieces is one; or the store refuses or does not answer.
    pub async fn put_pieces(
        &self,
        folder: &Path,
        name: &str,
        mut pieces: mpsc::Receiver<anyhow::Result<Vec<u8>>>,
    ) -> anyhow::Result<()> {
        let path = folder.clone().join(name);
        let mut object = BufWriter::with_capacity(self.objects.clone(), path, PART).with_max_concurrency(1);
        while let Some(piece) = pieces.recv().await {
            let written = match piece {
                Ok(piece) => object.write_all(&piece).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                // The reason is the error before.
                let _ = object.abort().await;
                return Err(error);
            }
        }
        Ok(object.shutdown().await?)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// It is not there, or the store does not answer.
    pub async fn get(&self, folder: &Path, name: &str) -> Result<Vec<u8>, ReadError> {
        let object = self.objects.get(&folder.clone().join(name)).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => ReadError::Missing(name.to_owned()),
            error => ReadError::Away(error),
        })?;
        Ok(object.bytes().await?.into())
    }

    /// Removes an object.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn delete(&self, folder: &Path, name: &str) -> anyhow::Result<()> {
        Ok(self.objects.delete(&folder.clone().join(name)).await?)
    }

    /// Names in a folder that begin with an id, in order: oldest first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn names(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let listing = self.objects.list_with_delimiter(Some(folder)).await?;
        let names = listing.objects.iter().filter_map(|object| object.location.filename());
        let mut names: Vec<String> = names.filter(|name| id_of(name).is_some()).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Names of the folders in a folder, in order.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn folders(&self, folder: &Path) -> anyhow::Result<Vec<String>> {
        let listing = self.objects.list_with_delimiter(Some(folder)).await?;
        let names = listing.common_prefixes.iter().filter_map(|path| path.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads what [`seal`](super::seal) wrote.
    ///
    /// # Errors
    /// It is missing or damaged, or the store does not answer.
    pub async fn sealed<T: Serialize + DeserializeOwned>(
        &self,
        folder: &Path,
        name: &str,
    ) -> Result<T, ReadError> {
        unseal(&self.get(folder, name).await?).map_err(|error| ReadError::Damaged(error.to_string()))
    }

    /// Reads a file and verifies it.
    ///
    /// # Errors
    /// It is damaged or missing, or the store does not answer.
    pub async fn file(&self, folder: &Path, file: &File) -> Result<Vec<u8>, ReadError> {
        let bytes = self.get(folder, &file.name).await?;
        if bytes.len() as u64 != file.bytes {
            let text = format!("{} has {} bytes of {}", file.name, bytes.len(), file.bytes);
            return Err(ReadError::Damaged(text));
        }
        if digest(&bytes) != file.sha256 {
            return Err(ReadError::Damaged(format!("the checksum of {} is wrong", file.name)));
        }
        Ok(bytes)
    }

    /// The newest checkpoint of a task that can be read and satisfies `usable`. One that is torn, damaged or incomplete
    /// is passed over for the one before it. Without any there is still the changelog, so nothing here is an error.
    pub async fn newest(
        &self,
        app: &str,
        partition: i32,
        usable: impl Fn(&Manifest) -> Result<(), String>,
    ) -> Found {
        let folder = self.folder(app, partition);
        let mut found = Found::default();
        let names = match self.names(&folder).await {
            Ok(names) => names,
            Err(error) => {
                let reason = format!("the checkpoints can't be listed: {error:#}");
                tracing::warn!(app, partition, reason, "no checkpoint is used");
                found.passed_over.push(reason);
                found.away = true;
                return found;
            }
        };
        found.largest_id = Some(names.last().and_then(|name| id_of(name)).unwrap_or(0));
        for name in names.iter().rev().filter(|name| name.ends_with(".json")) {
            match self.load(&folder, name, &usable).await {
                Ok(loaded) => {
                    found.loaded = Some(loaded);
                    break;
                }
                Err(error) => {
                    let (id, reason) = (id_of(name).unwrap_or(0), error.to_string());
                    tracing::warn!(app, partition, id, reason, "a checkpoint was passed over");
                    found.passed_over.push(format!("checkpoint {id}: {reason}"));
                    found.away = matches!(error, ReadError::Away(_));
                    if found.away {
                        break;
                    }
                }
            }
        }
        found
    }

    async fn load(
        &self,
        folder: &Path,
        name: &str,
        usable: &impl Fn(&Manifest) -> Result<(), String>,
    ) -> Result<Loaded, ReadError> {
        let manifest: Manifest = self.sealed(folder, name).await?;
        usable(&manifest).map_err(ReadError::Damaged)?;
        let mut files = Vec::new();
        for file in &manifest.files {
            files.push(self.file(folder, file).await?);
        }
        Ok(Loaded { manifest, files })
    }
}

/// A bucket. A store that is away is found out after seconds: the changelog alone will do for a recovery, and a
/// checkpoint that failed is part of the next one.
fn s3(url: &url::Url) -> anyhow::Result<Arc<dyn ObjectStore>> {
    // There already is one if this is the second store of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry =
        RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() };
    let objects = AmazonS3Builder::from_env()
        .with_url(url.as_str())
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), "3s")
        .with_retry(retry)
        .build();
    let why = || {
        format!(
            "checkpoints can't be kept at {url}: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION say how to reach \
             it, AWS_ENDPOINT_URL where it is not Amazon's"
        )
    };
    Ok(Arc::new(objects.with_context(why)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_no_store_is_refused_with_what_would_be_one() {
        let error = Store::open(&url::Url::parse("ftp://somewhere/else").unwrap()).err().unwrap();
        assert!(error.to_string().contains("file:///"), "{error}");
    }
}
