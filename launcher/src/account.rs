//! The unprivileged user that Elasticsearch insists on, and which folders that user can reach.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use nix::unistd::{Gid, Uid, User};

/// Made when the launcher runs as root.
const NAME: &str = "millrace";

/// A system user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: Uid,
    /// Group id.
    pub gid: Gid,
}

impl Account {
    fn find(name: &str) -> Option<Self> {
        let user = User::from_name(name).ok()??;
        Some(Self { name: user.name, uid: user.uid, gid: user.gid })
    }

    /// The user for services that refuse to run as root; `None` if the launcher itself is unprivileged.
    pub fn for_services() -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Some(account) = Self::find(NAME) {
            return Ok(Some(account));
        }
        // Two launchers may race: whoever loses finds the winner's user. Containers without useradd have `nobody`.
        let _ = Command::new("useradd")
            .args(["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "--user-group", NAME])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        match Self::find(NAME).or_else(|| Self::find("nobody")) {
            Some(account) => Ok(Some(account)),
            None => bail!(
                "Elasticsearch refuses to run as root, and there is no user `{NAME}` and no `nobody`: \
                 create one with `useradd --system {NAME}`"
            ),
        }
    }

    fn may_pass(&self, dir: &Path) -> bool {
        let Ok(meta) = dir.metadata() else { return false };
        let bit = if meta.uid() == self.uid.as_raw() {
            0o100
        } else if meta.gid() == self.gid.as_raw() {
            0o010
        } else {
            0o001
        };
        meta.is_dir() && meta.mode() & bit != 0
    }

    /// Whether this user can pass through `dir` and every folder above it.
    pub fn reaches(&self, dir: &Path) -> bool {
        let Ok(dir) = dir.canonicalize() else { return false };
        dir.ancestors().all(|ancestor| self.may_pass(ancestor))
    }

    /// Gives a whole tree to this user.
    pub fn own(&self, dir: &Path) -> std::io::Result<()> {
        std::os::unix::fs::lchown(dir, Some(self.uid.as_raw()), Some(self.gid.as_raw()))?;
        if dir.symlink_metadata()?.is_dir() {
            for entry in dir.read_dir()? {
                self.own(&entry?.path())?;
            }
        }
        Ok(())
    }
}

/// Where fetched services are kept: `$XDG_CACHE_HOME/millrace` or `~/.cache/millrace`; `/var/cache/millrace` if
/// `account` cannot reach that, as is so with root's home.
pub fn cache(account: Option<&Account>) -> Result<PathBuf> {
    let home = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let Some(home) = home else { bail!("neither HOME nor XDG_CACHE_HOME is set") };
    let Some(account) = account else { return Ok(home.join("millrace")) };
    let existing = home.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let reachable = account.reaches(existing);
    Ok(if reachable { home.join("millrace") } else { PathBuf::from("/var/cache/millrace") })
}
