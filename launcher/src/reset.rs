//! `millrace reset`.

use std::fs;
use std::io::{BufRead, ErrorKind};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::layout::Layout;
use crate::out;
use crate::state::State;
use crate::supervisor;

/// Removes everything that the cluster keeps; asks first.
pub fn reset(layout: &Layout, yes: bool) -> Result<ExitCode> {
    let root = layout.root();
    // Only a folder that a launcher made is removed.
    if !layout.is_ours() {
        out::line(format!("there is nothing to reset in {}", root.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(_lock) = supervisor::lock(layout)? else {
        bail!("the cluster runs on {}: `millrace down` first", root.display());
    };
    if !yes {
        out::line(format!("Remove every topic, result, checkpoint and user in {}? [y/N]", root.display()));
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            out::line("nothing was removed");
            return Ok(ExitCode::FAILURE);
        }
    }
    // A folder of another version has no state that could be read; what lies outside is then left.
    let outside = State::load(layout).ok().flatten().and_then(|state| state.elasticsearch);
    if let Some(dir) = outside.filter(|dir| !dir.starts_with(root)) {
        remove(&dir)?;
        if let Some(parent) = dir.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
    for entry in root.read_dir()? {
        let entry = entry?;
        if Layout::owns(&entry.file_name().to_string_lossy()) {
            remove(&entry.path())?;
        }
    }
    // Other people's files, or a mount point, stay.
    let _ = fs::remove_dir(root);
    out::line(format!("{} is reset", root.display()));
    Ok(ExitCode::SUCCESS)
}

fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
