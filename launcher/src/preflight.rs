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

/// Finds Java: `$JAVA_HOME`, else the one on the path.
pub async fn java() -> Result<Java> {
    let program = std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|program| program.exists())
        .unwrap_or_else(|| PathBuf::from("java"));
    let advice = "Kafka and Elasticsearch need Java 17 or later: `apt install openjdk-17-jre-headless`, \
                  or set JAVA_HOME";
    let output = match Command::new(&program).args(["-XshowSettings:properties", "-version"]).output().await {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no `java`. {advice}"),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot run {}. {advice}", program.display()));
        }
    };
    let text = String::from_utf8_lossy(&output.stderr);
    let java =
        parse_java(&text).with_context(|| format!("{} says nothing known. {advice}", program.display()))?;
    if java.version < OLDEST_JAVA {
        bail!("{} is Java {}. {advice}", java.home.display(), java.version);
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

/// Complains if the disk of `dir` is nearly full.
pub fn disk(dir: &Path) -> Result<()> {
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let stat =
        statvfs(existing).with_context(|| format!("cannot see how full the disk of {} is", dir.display()))?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    if free < LEAST_DISK {
        bail!(
            "the disk of {} is nearly full: {} MiB free, at least {} MiB are needed. Free some, or choose another \
             folder with --data DIR",
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
    async fn a_taken_port_is_named_with_its_component() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = ports(&[("kafka-1".to_owned(), vec![port])]).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{port} (kafka-1)")), "{error}");
        assert!(error.contains("--port-base"), "{error}");
    }
}
