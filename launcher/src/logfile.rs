//! A component's log: appended to, turned over before it grows too large.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::layout::with_suffix;

/// Size at which a log becomes `<name>.log.1` and a new one is begun.
const LIMIT: u64 = 50 << 20;

/// An open log.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    limit: u64,
}

impl LogFile {
    /// Opens for appending.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Self::with_limit(path, LIMIT)
    }

    fn with_limit(path: &Path, limit: u64) -> std::io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written, limit })
    }

    /// Appends; a full disk loses log lines, never a process.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.written >= self.limit
            && std::fs::rename(&self.path, previous(&self.path)).is_ok()
            && let Ok(next) = Self::with_limit(&self.path, self.limit)
        {
            *self = next;
        }
        if self.file.write_all(bytes).is_ok() {
            self.written += bytes.len() as u64;
        }
    }
}

/// Where the older half goes.
pub fn previous(path: &Path) -> PathBuf {
    with_suffix(path, ".1")
}

/// The last `lines` lines of a file; empty if it cannot be read.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    const WINDOW: u64 = 256 << 10;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(WINDOW);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let mut last = VecDeque::with_capacity(lines);
    for line in String::from_utf8_lossy(&bytes).lines() {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    }
    last.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_over_at_the_limit_and_keeps_one_older_file() {
        let path = std::env::temp_dir().join(format!("millrace-log-{}.log", std::process::id()));
        let mut log = LogFile::with_limit(&path, 10).unwrap();
        for line in ["one one one\n", "two\n", "three three\n", "four\n"] {
            log.append(line.as_bytes());
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(std::fs::read_to_string(previous(&path)).unwrap(), "two\nthree three\n");
        assert_eq!(tail(&previous(&path), 1), ["three three"]);
        std::fs::remove_file(previous(&path)).unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
