use millrace_core::Task;
use millrace_service::clock;
use millrace_wire::telemetry;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of manifest and files.
pub const FORMAT: u32 = 2;

/// What a checkpoint is made of and where it stands. Timers are not in it: they follow from the windows in the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub version: u32,
    /// App.
    pub app: String,
    /// Partition of the task.
    pub partition: i32,
    /// Rising per task.
    pub id: u64,
    /// When it was begun, epoch ms.
    pub created_ms: i64,
    /// Begun to durable (the files; the manifest comes after), microseconds.
    pub duration_us: u64,
    /// Next offset of each source.
    pub offsets: Vec<(String, i64)>,
    /// Offset of the changelog from which the state has to be continued.
    pub changelog_offset: i64,
    /// Event-time watermark, epoch ms.
    pub watermark_ms: Option<i64>,
    /// Versions of the jobs' parameters in force.
    pub params: Vec<(String, i64)>,
    /// Entries of keyed state.
    pub entries: u64,
    /// The files, the base first: of each key the last one that has it counts.
    pub files: Vec<File>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name, in the folder of the manifest.
    pub name: String,
    /// Its entries.
    pub entries: u64,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

/// A manifest that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not a manifest.
    #[error("its manifest can't be read ({0})")]
    Json(String),
    /// Of another build.
    #[error("it is of version {0}, this build reads {FORMAT}")]
    Version(u32),
    /// Changed since it was written.
    #[error("the checksum of its manifest is wrong")]
    Checksum,
}

/// A text with its checksum, as JSON.
#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    manifest: T,
    sha256: String,
}

/// The JSON of a manifest, with its checksum.
///
/// # Errors
/// Never: manifests are plain data.
pub fn seal<T: Serialize>(manifest: &T) -> serde_json::Result<Vec<u8>> {
    let sha256 = digest(&serde_json::to_vec(manifest)?);
    serde_json::to_vec_pretty(&Sealed { manifest, sha256 })
}

/// The manifest that [`seal`] wrote.
///
/// # Errors
/// It is not readable as such, or not what was written.
pub fn unseal<T: Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let json = |error: serde_json::Error| Unreadable::Json(error.to_string());
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(json)?;
    let inner = value.get("manifest").unwrap_or(&value);
    let Version { version } = Version::deserialize(inner).map_err(json)?;
    if version != FORMAT {
        return Err(Unreadable::Version(version));
    }
    let Sealed { manifest, sha256 } = serde_json::from_value::<Sealed<T>>(value).map_err(json)?;
    let text = serde_json::to_vec(&manifest).map_err(json)?;
    if digest(&text) == sha256 { Ok(manifest) } else { Err(Unreadable::Checksum) }
}

/// SHA-256, hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes as text.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Manifest {
    /// Of a task's committed state, without files yet.
    pub fn of(task: &mut dyn Task, app: &str, partition: i32, changelog_offset: i64) -> Self {
        Self {
            version: FORMAT,
            app: app.to_owned(),
            partition,
            id: 0,
            created_ms: clock::now_ms(),
            duration_us: 0,
            offsets: task.offsets().into_iter().map(|(topic, offset)| (topic.to_owned(), offset)).collect(),
            changelog_offset,
            watermark_ms: task.watermark().get(),
            params: task.jobs().into_iter().map(|job| (job.name.to_owned(), job.params_version)).collect(),
            entries: task.entries() as u64,
            files: Vec::new(),
        }
    }

    /// Length of its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Its file names are `<stem>.json`, `<stem>.base` or `<stem>.delta`. The time keeps apart what two owners of the
    /// task wrote under one id.
    pub fn stem(&self) -> String {
        format!("{:012}-{}", self.id, self.created_ms)
    }

    /// As telemetry tells it. `blocked_ms` is how long processing was held up.
    pub fn telemetry(&self, blocked_ms: f64, error: Option<String>) -> telemetry::Checkpoint {
        telemetry::Checkpoint {
            app: self.app.clone(),
            partition: self.partition,
            id: self.id,
            at_ms: clock::now_ms(),
            duration_ms: self.duration_us as f64 / 1_000.0,
            blocked_ms,
            bytes: self.bytes(),
            entries: self.entries,
            offset: self.offsets.first().map_or(0, |(_, offset)| *offset),
            error,
            written_bytes: self.files.last().map_or(0, |file| file.bytes),
            files: u32::try_from(self.files.len()).unwrap_or(u32::MAX),
        }
    }
}

/// The id at the head of a file's name.
pub fn id_of(name: &str) -> Option<u64> {
    name.split(['-', '.']).next()?.parse().ok()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Of an empty task.
    pub fn manifest(id: u64) -> Manifest {
        Manifest {
            version: FORMAT,
            app: "sensors".into(),
            partition: 3,
            id,
            created_ms: 1_000,
            duration_us: 12_345,
            offsets: vec![("iot-sensors".into(), 7)],
            changelog_offset: 5,
            watermark_ms: None,
            params: vec![("mold-filter".into(), 3)],
            entries: 0,
            files: Vec::new(),
        }
    }

    #[test]
    fn any_changed_digit_is_seen() {
        let text = seal(&manifest(7)).unwrap();
        assert_eq!(unseal::<Manifest>(&text), Ok(manifest(7)));
        for at in (0..text.len()).filter(|&at| text[at].is_ascii_digit()) {
            let mut changed = text.clone();
            changed[at] = if changed[at] == b'9' { b'8' } else { changed[at] + 1 };
            assert!(unseal::<Manifest>(&changed).is_err(), "{}", String::from_utf8_lossy(&changed));
        }
        assert!(matches!(unseal::<Manifest>(&text[..text.len() - 1]), Err(Unreadable::Json(_))));
        assert_eq!(unseal::<Manifest>(br#"{"version": 1, "app": "sensors"}"#), Err(Unreadable::Version(1)));
    }

    #[test]
    fn names_tell_ids() {
        assert_eq!(id_of(&format!("{}.json", manifest(7).stem())), Some(7));
        assert_eq!(id_of("000000000005.state"), Some(5), "of format 1");
        assert_eq!(id_of("readme.txt"), None);
    }
}
