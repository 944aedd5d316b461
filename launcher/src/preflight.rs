//! What must be so before anything is started; each complaint says what to do.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::statvfs::statvfs;
use tokio::process::Command;

const LEAST_DISK: u64 = 2 << 30;
const OLDEST_JAVA: u32 = 17;

/// A Java runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Java {
    /// `JAVA_HOME`.
    pub home: PathBuf,
    /// Feature release: 17, 21, ..
    pub version: u32,
}

impl Java {
    /// `bin/java`.
    pub fn program(&self) -> PathBuf {
        self.home.join("bin/java")
    }
}

const JAVA_ADVICE: &str = "Kafka and Elasticsearch need Java 17 or later: `apt install openjdk-17-jre-headless`, or set \
                           JAVA_HOME";

/// Finds Java: `$JAVA_HOME`, else the one on the path.
pub async fn java() -> Result<Java> {
    let program = std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|program| program.exists())
        .unwrap_or_else(|| PathBuf::from("java"));
    java_at(&program).await
}

async fn java_at(program: &Path) -> Result<Java> {
    match Command::new(program).args(["-XshowSettings:properties", "-version"]).output().await {
        Ok(output) => recent_enough(program, &String::from_utf8_lossy(&output.stderr)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no `{}`. {JAVA_ADVICE}", program.display())
        }
        Err(error) => bail!("cannot run {}: {error}. {JAVA_ADVICE}", program.display()),
    }
}

/// Judges what a Java says about itself.
fn recent_enough(program: &Path, said: &str) -> Result<Java> {
    let Some(java) = parse_java(said) else {
        let said = said.lines().next().unwrap_or("nothing");
        bail!("{} does not work; it says: {said}. {JAVA_ADVICE}", program.display());
    };
    if java.version < OLDEST_JAVA {
        bail!("{} is Java {}. {JAVA_ADVICE}", java.home.display(), java.version);
    }
    Ok(java)
}

fn parse_java(settings: &str) -> Option<Java> {
    let value = |key: &str| {
        settings.lines().find_map(|line| line.trim().strip_prefix(key)?.trim().strip_prefix("= "))
    };
    let version = value("java.specification.version")?;
    let version = version.strip_prefix("1.").unwrap_or(version).parse().ok()?;
    Some(Java { home: PathBuf::from(value("java.home")?), version })
}

/// Complains if the disk of `dir` is nearly full; `elsewhere` is how to choose another folder.
pub fn disk(dir: &Path, elsewhere: &str) -> Result<()> {
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let stat =
        statvfs(existing).with_context(|| format!("cannot see how full the disk of {} is", dir.display()))?;
    enough_disk(dir, stat.blocks_available().saturating_mul(stat.fragment_size()), elsewhere)
}

fn enough_disk(dir: &Path, free: u64, elsewhere: &str) -> Result<()> {
    if free < LEAST_DISK {
        bail!(
            "the disk of {} is nearly full: {} MiB free, at least {} MiB are needed. Free some, or choose another \
             folder with {elsewhere}",
            dir.display(),
            free >> 20,
            LEAST_DISK >> 20
        );
    }
    Ok(())
}

/// Complains about ports that something else has; waits a moment for those of a cluster that is just going down.
pub async fn ports(wanted: &[(String, Vec<u16>)]) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(4);
    loop {
        let taken: Vec<String> = wanted
            .iter()
            .flat_map(|(name, ports)| ports.iter().map(move |port| (name, *port)))
            .filter_map(|(name, port)| match TcpListener::bind(("127.0.0.1", port)) {
                Ok(_) => None,
                Err(error) if error.kind() == ErrorKind::AddrInUse => Some(format!("{port} ({name})")),
                Err(error) => Some(format!("{port} ({name}: {error})")),
            })
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "another program has port {} of 127.0.0.1. Stop it, or move every port with --port-base, for example \
                 --port-base 20000",
                taken.join(", ")
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_java_says_about_itself() {
        let settings =
            "Property settings:\n    java.home = /usr/lib/jvm/java-17\n    java.specification.version = 17\n";
        assert_eq!(
            parse_java(settings),
            Some(Java { home: PathBuf::from("/usr/lib/jvm/java-17"), version: 17 })
        );
        let old = "    java.home = /opt/jre\n    java.specification.version = 1.8\n";
        assert_eq!(parse_java(old).map(|java| java.version), Some(8));
        assert_eq!(parse_java("command not found"), None);
    }

    #[tokio::test]
    async fn a_java_that_is_missing_or_does_not_work_is_told_with_what_to_do() {
        for (program, wrong) in [
            ("/nowhere/bin/java", "there is no `/nowhere/bin/java`. "),
            ("/", "cannot run /: Permission denied"),
            ("false", "false does not work; it says: nothing. "),
        ] {
            let error = java_at(Path::new(program)).await.unwrap_err().to_string();
            assert!(error.starts_with(wrong), "{error}");
            assert!(error.contains("`apt install openjdk-17-jre-headless`, or set JAVA_HOME"), "{error}");
        }
    }

    #[test]
    fn a_java_that_is_too_old_or_broken_is_named() {
        let said =
            |version| format!("    java.home = /opt/jre\n    java.specification.version = {version}\n");
        let judge = |said: &str| recent_enough(Path::new("java"), said).map_err(|error| error.to_string());
        assert_eq!(judge(&said("17")).map(|java| java.version), Ok(17));
        let error = judge(&said("11")).unwrap_err();
        assert!(
            error.starts_with("/opt/jre is Java 11. ") && error.contains("need Java 17 or later"),
            "{error}"
        );
        let error = judge("Error: could not find libjava.so\nError: more").unwrap_err();
        assert!(
            error.starts_with("java does not work; it says: Error: could not find libjava.so. "),
            "{error}"
        );
        assert!(error.contains("set JAVA_HOME"), "{error}");
    }

    #[test]
    fn a_full_disk_is_told_in_mebibytes_with_what_to_do() {
        let dir = Path::new("/data");
        assert!(enough_disk(dir, 2 << 30, "--data DIR").is_ok());
        let error = enough_disk(dir, (2 << 30) - 1, "--data DIR").unwrap_err().to_string();
        assert_eq!(
            error,
            "the disk of /data is nearly full: 2047 MiB free, at least 2048 MiB are needed. Free some, or choose another \
             folder with --data DIR"
        );
        // A file system that really has nothing left.
        let error = disk(Path::new("/proc/nowhere"), "XDG_CACHE_HOME").unwrap_err().to_string();
        assert!(
            error.contains(": 0 MiB free") && error.ends_with("another folder with XDG_CACHE_HOME"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_component() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = ports(&[("kafka-1".to_owned(), vec![port])]).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{port} (kafka-1)")), "{error}");
        assert!(error.contains("--port-base"), "{error}");
    }
}
