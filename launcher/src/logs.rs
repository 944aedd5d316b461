//! `millrace logs`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::layout::Layout;
use crate::logfile::tail;
use crate::out;

/// Shows the end of one log or of all, and goes on if asked.
pub async fn logs(layout: &Layout, component: Option<&str>, lines: usize, follow: bool) -> Result<ExitCode> {
    let all = names(layout);
    let chosen: Vec<String> = match component {
        Some(name) if all.contains(&name.to_owned()) => vec![name.to_owned()],
        Some(name) if all.is_empty() => bail!("there is no log of {name} yet"),
        Some(name) => bail!("there is no log of {name}; there are {}", all.join(", ")),
        None => all,
    };
    let prefix = |name: &str| if component.is_some() { String::new() } else { format!("{name:<14} | ") };
    let mut readers = BTreeMap::new();
    for name in &chosen {
        let reader = Follower::at_end(layout.log(name));
        for line in tail(&layout.log(name), lines) {
            out::line(format!("{}{line}", prefix(name)));
        }
        readers.insert(name.clone(), reader);
    }
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        for (name, reader) in &mut readers {
            for line in reader.news() {
                out::line(format!("{}{line}", prefix(name)));
            }
        }
    }
}

fn names(layout: &Layout) -> Vec<String> {
    let Ok(entries) = layout.logs().read_dir() else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Reads what is added to a file, also after it was turned over.
struct Follower {
    path: PathBuf,
    position: u64,
    rest: String,
}

impl Follower {
    fn at_end(path: PathBuf) -> Self {
        let position = path.metadata().map(|meta| meta.len()).unwrap_or(0);
        Self { path, position, rest: String::new() }
    }

    fn news(&mut self) -> Vec<String> {
        let mut read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            if file.metadata()?.len() < self.position {
                self.position = 0;
            }
            file.seek(SeekFrom::Start(self.position))?;
            let mut bytes = Vec::new();
            self.position += file.take(1 << 20).read_to_end(&mut bytes)? as u64;
            Ok(bytes)
        };
        self.rest.push_str(&String::from_utf8_lossy(&read().unwrap_or_default()));
        let Some(end) = self.rest.rfind('\n') else { return Vec::new() };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        lines.lines().map(str::to_owned).collect()
    }
}
