//! Where things lie in a data folder.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The data folder at `path`, which need not exist.
    pub fn new(path: &Path) -> Result<Self> {
        let root =
            std::path::absolute(path).with_context(|| format!("the data folder {}", path.display()))?;
        Ok(Self { root })
    }

    /// Creates the folder and the ones in it that belong to the launcher.
    pub fn create(&self) -> Result<()> {
        let why = || {
            format!(
                "cannot create the data folder {}: choose another with --data, or make it writable for this user",
                self.root.display()
            )
        };
        if !self.root.exists() {
            fs::create_dir_all(&self.root).with_context(why)?;
            // Elasticsearch's unprivileged user passes through; every file in here is readable by its owner only.
            fs::set_permissions(&self.root, fs::Permissions::from_mode(0o711)).with_context(why)?;
        }
        for dir in [self.logs(), self.run(), self.checkpoints(), self.local_states()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(why)?;
        }
        Ok(())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// What the folder remembers.
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }
    /// Generated secrets.
    pub fn credentials(&self) -> PathBuf {
        self.root.join("credentials.json")
    }
    /// Logs of every component.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    /// One component's log.
    pub fn log(&self, component: &str) -> PathBuf {
        self.logs().join(format!("{component}.log"))
    }
    /// What exists only while the cluster runs.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }
    /// The supervisor's control socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("supervisor.sock")
    }
    /// Held by the supervisor.
    pub fn lock(&self) -> PathBuf {
        self.run().join("millrace.lock")
    }
    /// Checkpoints of the processor.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
    /// State that workers keep on disk.
    pub fn local_states(&self) -> PathBuf {
        self.root.join("state")
    }
    /// Broker `n`'s files.
    pub fn broker(&self, n: u16) -> PathBuf {
        self.root.join(format!("kafka-{n}"))
    }
    /// Whether a launcher made this folder.
    pub fn is_ours(&self) -> bool {
        self.lock().is_file()
    }
    /// Everything that a cluster may have put here. Nothing else in the folder is ever removed.
    pub fn owns(name: &str) -> bool {
        const NAMES: [&str; 13] = [
            "state.json",
            "credentials.json",
            "client.properties",
            "librdkafka.properties",
            "env",
            "logs",
            "run",
            "checkpoints",
            "state",
            "elasticsearch",
            "kafka-1",
            "kafka-2",
            "kafka-3",
        ];
        NAMES.contains(&name) || name.starts_with("gateway.db") || name.ends_with(".new")
    }
    /// Users, sessions and audit of the gateway.
    pub fn gateway_database(&self) -> PathBuf {
        self.root.join("gateway.db")
    }
    /// `gateway.db` as sqlx wants it.
    pub fn gateway_database_url(&self) -> String {
        format!("sqlite://{}?mode=rwc", self.gateway_database().display())
    }
}

/// `path` with more at its end.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Writes a file that only its owner can read, all or nothing.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let new = with_suffix(path, ".new");
    let write = || -> std::io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_files_are_private() {
        let dir = std::env::temp_dir().join(format!("millrace-layout-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("secret.txt");
        fs::write(&path, "old").unwrap();
        write_private(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&dir).unwrap();
    }
}
