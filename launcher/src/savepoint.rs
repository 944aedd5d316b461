//! `millrace savepoint`: `millrace-processor savepoint` with the folder's cluster, and workers stopped or started again
//! where it takes that.

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
    /// Show the savepoints and the forks
    List,
    /// Stop the workers, put apps back to a savepoint, start the workers; what was emitted since is emitted again
    Restore {
        /// Its name
        name: String,
        /// Only this app; may be repeated
        #[arg(long = "app", value_name = "APP")]
        apps: Vec<String>,
    },
    /// Give a savepoint to a fork, an app that goes on from it beside the one that it is of, with parameters of its own, and writes
    /// to topics of its own, APP.NAME.TOPIC; then start the workers again, one after the other
    Fork {
        /// The savepoint
        name: String,
        /// The fork
        #[arg(value_name = "APP.NAME")]
        fork: String,
    },
    /// Stop the workers, remove a fork with its topics, start the workers
    Unfork {
        /// The fork
        #[arg(value_name = "APP.NAME")]
        fork: String,
    },
}

impl Savepoint {
    fn args(&self) -> Vec<&str> {
        let (action, names, apps): (_, Vec<&String>, &[String]) = match self {
            Self::Create { name, apps } => ("create", name.iter().collect(), apps),
            Self::List => ("list", vec![], &[]),
            Self::Restore { name, apps } => ("restore", vec![name], apps),
            Self::Fork { name, fork } => ("fork", vec![name, fork], &[]),
            Self::Unfork { fork } => ("unfork", vec![fork], &[]),
        };
        let apps = apps.iter().flat_map(|app| ["--app", app]);
        ["savepoint", action].into_iter().chain(apps).chain(names.into_iter().map(String::as_str)).collect()
    }
}

/// Runs `millrace-processor savepoint`.
pub async fn run(layout: &Layout, command: &Savepoint) -> Result<ExitCode> {
    let state = State::load(layout)?.with_context(|| not_running(layout))?;
    let args = command.args();
    match command {
        Savepoint::Create { .. } | Savepoint::List => processor(layout, &state, &args).await,
        Savepoint::Restore { .. } | Savepoint::Unfork { .. } => {
            let workers = running(layout, "processor-").await?;
            without(layout, &workers, processor(layout, &state, &args)).await
        }
        Savepoint::Fork { .. } => {
            let forked = processor(layout, &state, &args).await?;
            if forked == ExitCode::SUCCESS {
                for worker in &running(layout, "processor-").await? {
                    commands::component(layout, worker, Action::Stop).await?;
                    commands::component(layout, worker, Action::Start).await?;
                }
            }
            Ok(forked)
        }
    }
}

/// Gives an app more partitions: the generators stop, the workers read what there is and stop, and all start again.
pub async fn rescale(layout: &Layout, app: &str, partitions: i32) -> Result<ExitCode> {
    let state = State::load(layout)?.with_context(|| not_running(layout))?;
    let partitions = partitions.to_string();
    let args = ["savepoint", "rescale", app, "--partitions", &partitions];
    let checked = processor(layout, &state, &[&args[..], &["--check"]].concat()).await?;
    if checked != ExitCode::SUCCESS {
        return Ok(checked);
    }
    let workers = running(layout, "processor-").await?;
    let sources = running(layout, "producers").await?;
    for source in &sources {
        commands::component(layout, source, Action::Stop).await?;
    }
    let mut done = processor(layout, &state, &["savepoint", "drain", app]).await?;
    if done == ExitCode::SUCCESS {
        done = without(layout, &workers, async {
            let done = processor(layout, &state, &args).await?;
            if done != ExitCode::SUCCESS && !sources.is_empty() {
                // What they write now might lie in the wrong partition afterwards.
                out::complain(
                    "the generators stay stopped until it is done; `millrace component start producers` starts them",
                );
            }
            Ok(done)
        })
        .await?;
        if done != ExitCode::SUCCESS {
            return Ok(done);
        }
    }
    for source in &sources {
        commands::component(layout, source, Action::Start).await?;
    }
    Ok(done)
}

/// Does something while components are stopped. Whatever becomes of it, the cluster is left as it was found.
async fn without(
    layout: &Layout,
    components: &[String],
    work: impl Future<Output = Result<ExitCode>>,
) -> Result<ExitCode> {
    for component in components {
        commands::component(layout, component, Action::Stop).await?;
    }
    let done = work.await;
    for component in components {
        commands::component(layout, component, Action::Start).await?;
    }
    done
}

/// The components of these names that are not stopped.
async fn running(layout: &Layout, prefix: &str) -> Result<Vec<String>> {
    let snapshot = control::status(layout).await?.with_context(|| not_running(layout))?;
    let found = snapshot
        .components
        .into_iter()
        .filter(|component| component.name.starts_with(prefix) && component.state != ComponentState::Stopped);
    Ok(found.map(|component| component.name).collect())
}

async fn processor(layout: &Layout, state: &State, args: &[&str]) -> Result<ExitCode> {
    let program = std::env::current_exe()?.with_file_name("millrace-processor");
    if !program.exists() {
        bail!("{} does not exist: `./demo` builds it", program.display());
    }
    let status = Command::new(&program)
        .args(args)
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
        let fork = Savepoint::Fork { name: "before".to_owned(), fork: "bank.trial".to_owned() };
        assert_eq!(fork.args(), ["savepoint", "fork", "before", "bank.trial"]);
    }
}
