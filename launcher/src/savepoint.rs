//! `millrace savepoint`: `millrace-processor savepoint` with the folder's cluster, and workers stopped where it takes
//! that.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use millrace_wire::telemetry::ComponentState;
use tokio::process::Command;

use crate::commands::{self, not_running};
use crate::connection;
use crate::control::{self, Action};
use crate::credentials::Credentials;
use crate::layout::Layout;
use crate::out;
use crate::state::State;

/// What can be done with savepoints.
#[derive(Debug, Subcommand)]
pub enum Savepoint {
    /// Make a savepoint of what is committed now; the workers go on meanwhile
    Create {
        /// Its name [default: savepoint-<seconds since 1970>]
        name: Option<String>,
        /// Only this app; may be repeated
        #[arg(long = "app", value_name = "APP")]
        apps: Vec<String>,
    },
    /// Show the savepoints
    List,
    /// Stop the workers, put apps back to a savepoint, start the workers; what was emitted since is emitted again
    Restore {
        /// Its name
        name: String,
        /// Only this app; may be repeated
        #[arg(long = "app", value_name = "APP")]
        apps: Vec<String>,
    },
}

impl Savepoint {
    fn args(&self) -> Vec<&str> {
        let (action, name, apps): (_, Option<&String>, &[String]) = match self {
            Self::Create { name, apps } => ("create", name.as_ref(), apps),
            Self::List => ("list", None, &[]),
            Self::Restore { name, apps } => ("restore", Some(name), apps),
        };
        let apps = apps.iter().flat_map(|app| ["--app", app]);
        ["savepoint", action].into_iter().chain(apps).chain(name.map(String::as_str)).collect()
    }
}

/// Runs `millrace-processor savepoint`.
pub async fn run(layout: &Layout, command: &Savepoint) -> Result<ExitCode> {
    let state = State::load(layout)?.with_context(|| not_running(layout))?;
    let Savepoint::Restore { .. } = command else { return processor(layout, &state, command).await };
    let workers = running(layout).await?;
    for worker in &workers {
        commands::component(layout, worker, Action::Stop).await?;
    }
    let restored = processor(layout, &state, command).await;
    // Whatever became of it, the cluster is left as it was found.
    for worker in &workers {
        commands::component(layout, worker, Action::Start).await?;
    }
    restored
}

/// The workers that are not stopped.
async fn running(layout: &Layout) -> Result<Vec<String>> {
    let snapshot = control::status(layout).await?.with_context(|| not_running(layout))?;
    let workers = snapshot.components.into_iter().filter(|component| {
        component.name.starts_with("processor-") && component.state != ComponentState::Stopped
    });
    Ok(workers.map(|component| component.name).collect())
}

async fn processor(layout: &Layout, state: &State, command: &Savepoint) -> Result<ExitCode> {
    let program = std::env::current_exe()?.with_file_name("millrace-processor");
    if !program.exists() {
        bail!("{} does not exist: `./demo` builds it", program.display());
    }
    let status = Command::new(&program)
        .args(command.args())
        .envs(connection::kafka_env(state.ports(), &Credentials::load(layout)?))
        .env("MILLRACE_CHECKPOINT_URL", state.checkpoints(layout))
        .status()
        .await
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        out::complain(format!("millrace-processor savepoint: {status}"));
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_passed_on() {
        let apps = vec!["bank".to_owned()];
        let restore = Savepoint::Restore { name: "before".to_owned(), apps };
        assert_eq!(restore.args(), ["savepoint", "restore", "--app", "bank", "before"]);
        assert_eq!(Savepoint::Create { name: None, apps: vec![] }.args(), ["savepoint", "create"]);
        assert_eq!(Savepoint::List.args(), ["savepoint", "list"]);
    }
}
