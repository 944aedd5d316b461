use anyhow::{Context as _, bail};
use millrace_wire::Timestamp;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::{Context, say};
use crate::checkpoint::{Manifest, ReadError, Store};

/// Folder of the savepoints.
const FOLDER: &str = "savepoints";
/// The file that makes a savepoint complete.
pub const MANIFEST: &str = "savepoint.json";

/// A savepoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Savepoint {
    /// [`crate::checkpoint::FORMAT`].
    pub version: u32,
    /// Its name.
    pub name: String,
    /// When it was made, epoch ms.
    pub created_ms: i64,
    /// Its tasks, by app and partition, each with one file.
    pub tasks: Vec<Manifest>,
    /// How far tasks had written to the topics between them.
    pub handed_over: Vec<HandedOver>,
}

/// Where a repartition topic ended at the moment of a savepoint: what its reader had not read until there was under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOver {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Offset behind the last record.
    pub end: i64,
}

/// What there is under the name of a savepoint.
#[derive(Debug)]
pub enum State {
    /// A savepoint.
    Complete(Savepoint),
    /// What can't be restored, and why.
    Unusable(String),
}

/// A name goes into paths.
pub fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with('.') {
        bail!("{name:?} is no name for a savepoint: take up to 64 letters, digits, `-`, `_` and `.`");
    }
    Ok(())
}

/// The folder of a savepoint.
pub fn folder(store: &Store, name: &str) -> Path {
    store.root().clone().join(FOLDER).join(name)
}

/// What there is under a name; `None`: nothing.
pub async fn open(store: &Store, name: &str) -> anyhow::Result<Option<State>> {
    match store.sealed(&folder(store, name), MANIFEST).await {
        Ok(savepoint) => Ok(Some(State::Complete(savepoint))),
        Err(ReadError::Missing(_)) => {
            let there = store.folders(&store.root().clone().join(FOLDER)).await?.iter().any(|n| n == name);
            Ok(there.then(|| State::Unusable("incomplete".to_owned())))
        }
        Err(ReadError::Damaged(reason)) => Ok(Some(State::Unusable(reason))),
        Err(error) => Err(error.into()),
    }
}

/// `savepoint list`.
pub fn list(context: &Context) -> anyhow::Result<()> {
    let store = &context.store;
    let all = context.runtime.block_on(async {
        let mut all = Vec::new();
        for name in store.folders(&store.root().clone().join(FOLDER)).await? {
            all.extend(open(store, &name).await?.map(|state| (name, state)));
        }
        anyhow::Ok(all)
    });
    let all = all.context("the savepoints can't be listed")?;
    let forks = context.runtime.block_on(super::forks(store)).context("the forks can't be listed")?;
    for (name, fork) in forks {
        let from = fork
            .map(|fork| format!(" from {}, made {}", fork.savepoint, Timestamp(fork.created_ms).to_iso()));
        say(format!(
            "{name} is a fork{}",
            from.as_deref().unwrap_or(", and what was noted of it is damaged")
        ));
    }
    if all.is_empty() {
        say("there is no savepoint: `millrace savepoint create` makes one");
        return Ok(());
    }
    say(format!("{:<24} {:<24} {:>6} {:>10} {:>12}  APPS", "NAME", "CREATED", "TASKS", "ENTRIES", "BYTES"));
    for (name, state) in all {
        match state {
            State::Unusable(reason) => say(format!("{name:<24} can't be restored: {reason}")),
            State::Complete(savepoint) => {
                let mut apps: Vec<&str> = savepoint.tasks.iter().map(|task| task.app.as_str()).collect();
                apps.dedup();
                let entries: u64 = savepoint.tasks.iter().map(|task| task.entries).sum();
                let bytes: u64 = savepoint.tasks.iter().map(Manifest::bytes).sum();
                say(format!(
                    "{name:<24} {:<24} {:>6} {entries:>10} {bytes:>12}  {}",
                    Timestamp(savepoint.created_ms).to_iso(),
                    savepoint.tasks.len(),
                    apps.join(", ")
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder() {
        for good in ["before-upgrade", "2026-11-21T18.00", "a"] {
            check_name(good).unwrap();
        }
        for bad in ["", "..", "a/b", ".hidden", "ä", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
