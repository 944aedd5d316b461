//! Kafka and Elasticsearch from Maven Central: fetched once, verified, shared by every data folder.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256, Sha512};
use tokio::process::Command;

use crate::board::Board;

const POM: &str = include_str!("../services/pom.xml");
const SHA512: &str = include_str!("../services/sha512");

/// The services on disk, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    dir: PathBuf,
}

impl Services {
    /// Java class path of Kafka.
    pub fn kafka_class_path(&self) -> String {
        self.dir.join("kafka").join("*").display().to_string()
    }

    /// `ES_HOME`.
    pub fn elasticsearch(&self) -> PathBuf {
        self.dir.join("elasticsearch")
    }
}

/// Makes sure that the services are in `cache`, fetching them if need be.
pub async fn ensure(cache: &Path, board: &Board) -> Result<Services> {
    let dir = cache.join(format!("services-{}", key()));
    let services = Services { dir: dir.clone() };
    if dir.exists() {
        return Ok(services);
    }
    fs::create_dir_all(cache)
        .with_context(|| format!("cannot create the cache folder {}", cache.display()))?;
    let lock = File::create(cache.join("lock"))?;
    while let Err(error) = lock.try_lock() {
        let TryLockError::WouldBlock = error else { bail!("cannot lock {}: {error}", cache.display()) };
        board.phase("waiting for another Millrace that is fetching Kafka and Elasticsearch");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    if dir.exists() {
        return Ok(services);
    }
    crate::preflight::disk(cache, "XDG_CACHE_HOME")?;
    let new = cache.join("fetching");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    fs::create_dir_all(&new)?;
    board.phase("fetching Kafka and Elasticsearch from Maven Central (about 150 MB, once)");
    maven(&new).await?;
    board.phase("verifying what was fetched");
    let kafka = new.join("kafka");
    let verified = kafka.clone();
    tokio::task::spawn_blocking(move || verify(&verified, &parse(SHA512)?)).await??;
    board.phase("unpacking Elasticsearch");
    unpack(&kafka, &new).await?;
    // Atomic: a folder of that name is complete.
    fs::rename(&new, &dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(services)
}

/// Changes with every version and checksum.
fn key() -> String {
    let digest = Sha256::new().chain_update(POM).chain_update(SHA512).finalize();
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

async fn maven(dir: &Path) -> Result<()> {
    let pom = dir.join("pom.xml");
    fs::write(&pom, POM)?;
    let result = Command::new("mvn")
        .args(["--batch-mode", "--no-transfer-progress", "--file"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", dir.join("kafka").display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = match result {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no `mvn`, which fetches Kafka and Elasticsearch from Maven Central: `apt install maven`"
        ),
        Err(error) => return Err(error).context("cannot run mvn"),
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let errors: Vec<_> = text.lines().filter(|line| line.contains("ERROR")).take(4).collect();
        bail!("mvn could not fetch Kafka and Elasticsearch:\n{}", errors.join("\n"));
    }
    Ok(())
}

/// Lines of `sha512sum`: name to lower-case hexadecimal.
fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (sum, name) = line.split_once("  ").with_context(|| format!("not a checksum: {line}"))?;
        if sum.len() != 128 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) || name.contains('/') {
            bail!("not a SHA-512: {line}");
        }
        sums.insert(name.to_owned(), sum.to_ascii_lowercase());
    }
    Ok(sums)
}

/// The folder must hold exactly the pinned files.
fn verify(dir: &Path, pinned: &BTreeMap<String, String>) -> Result<()> {
    let mut missing = pinned.clone();
    for entry in dir.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(expected) = missing.remove(&name) else {
            bail!("{name} came from Maven, but launcher/services/sha512 does not know it");
        };
        let mut digest = Sha512::new();
        std::io::copy(&mut File::open(entry.path())?, &mut digest)?;
        let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != expected {
            bail!(
                "{name} is not the file that was pinned (SHA-512 {found}, expected {expected}): it was changed on \
                 the way or in ~/.m2; remove it there and try again"
            );
        }
    }
    if !missing.is_empty() {
        bail!("Maven did not deliver {}", missing.into_keys().collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

async fn unpack(kafka: &Path, dir: &Path) -> Result<()> {
    let zip = kafka
        .read_dir()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "zip"))
        .context("the Elasticsearch archive is missing")?;
    run("unzip", &["-q", &zip.to_string_lossy(), "-d", &dir.to_string_lossy()]).await?;
    let stem = zip.file_stem().context("the archive has no name")?.to_owned();
    fs::rename(dir.join(stem), dir.join("elasticsearch"))?;
    fs::remove_file(zip)?;
    // Whatever the umask is, Elasticsearch's user reads it.
    run("chmod", &["-R", "a+rX", &dir.to_string_lossy()]).await
}

async fn run(program: &str, args: &[&str]) -> Result<()> {
    let result = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output().await;
    match result {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no `{program}`: `apt install {program}`")
        }
        Err(error) => Err(error).with_context(|| format!("cannot run {program}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_pinned() {
        let pinned = parse(SHA512).unwrap();
        assert!(pinned.len() > 90);
        for name in ["kafka_2.13-4.1.0.jar", "kafka-tools-4.1.0.jar", "elasticsearch-8.19.0.zip"] {
            assert!(pinned.contains_key(name), "{name}");
        }
    }

    #[test]
    fn damaged_pins_are_refused() {
        assert!(parse("abc  kafka.jar").is_err());
        assert!(parse("kafka.jar").is_err());
        assert!(parse("# a comment\n\n").unwrap().is_empty());
    }

    #[test]
    fn changed_extra_and_missing_files_are_refused() {
        let dir = std::env::temp_dir().join(format!("millrace-fetch-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("a.jar"), "a").unwrap();
        let sum: String = Sha512::digest("a").iter().map(|byte| format!("{byte:02x}")).collect();
        let pin = |name: &str, sum: &str| (name.to_owned(), sum.to_owned());
        let says =
            |pins: Vec<(String, String)>| verify(&dir, &pins.into_iter().collect()).unwrap_err().to_string();
        assert!(verify(&dir, &[pin("a.jar", &sum)].into_iter().collect()).is_ok());
        assert!(says(vec![pin("a.jar", &"0".repeat(128))]).contains("not the file that was pinned"));
        assert!(says(vec![]).contains("does not know it"));
        assert!(says(vec![pin("a.jar", &sum), pin("b.jar", &sum)]).contains("did not deliver b.jar"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
