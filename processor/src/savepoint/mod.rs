//! Savepoints: checkpoints that a person asks for and that stay, of one app or of all, whole and in one piece.
//!
//! A savepoint is made from what Kafka has committed, by the command itself: the changelogs are the state. The workers
//! need not be asked, notice nothing, and need not even run. All tasks of an app are taken at one moment
//! ([`create`]), so that what travels between them (repartition topics) is counted once.
//!
//! `savepoints/<name>/<app>-<partition>.state` are the states, `savepoint.json`, written last, names them with length
//! and SHA-256: without it there is no savepoint.
//!
//! Restoring ([`restore`]) is one transaction per app: changelog, ledger and the group's offsets go back together, or
//! not at all. Results that were emitted after the savepoint are emitted again, as with Flink's savepoints.
//!
//! More partitions ([`rescale()`]) are that transaction with a savepoint whose state has been divided among more tasks.
//!
//! A fork ([`fork()`]) is the same transaction for an app of another name, whose topics are made first. Workers run, beside
//! the apps, the forks that `forks/<name>/fork.json` tell of when they start.

mod catalogue;
mod create;
mod fork;
mod rescale;
mod restore;

use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use millrace_core::task::SourceKind;
use millrace_core::{Application, Task};
use millrace_service::{KafkaArgs, Shutdown};

pub use catalogue::{Savepoint, State};
pub use create::create;
pub use fork::{fork, forks, unfork};
pub use rescale::{check, drain, rescale};
pub use restore::restore;

use crate::checkpoint::{Changes, Encoded, Found, Store, merged};
use crate::runtime::changelog::Changelog;
use crate::runtime::restore::{load, usable};

/// `millrace-processor savepoint`.
#[derive(Args, Clone)]
pub struct SavepointArgs {
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Where checkpoints and savepoints are kept: the URL of a folder (`file:///..`) or of an S3 bucket (`s3://..`).
    #[arg(long, env = "MILLRACE_CHECKPOINT_URL")]
    pub checkpoint_url: url::Url,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with savepoints.
#[derive(Subcommand, Clone)]
pub enum Action {
    /// Make a savepoint of what is committed now.
    Create {
        /// Its name; by default the time.
        name: Option<String>,
        /// Only this app; may be repeated.
        #[arg(long = "app")]
        apps: Vec<String>,
    },
    /// Show the savepoints.
    List,
    /// Put apps back to a savepoint. Their workers must be stopped.
    Restore {
        /// Its name.
        name: String,
        /// Only this app; may be repeated.
        #[arg(long = "app")]
        apps: Vec<String>,
    },
    /// Give a savepoint to a fork: an app that runs beside the one that it is of, and writes to topics of its own. Workers
    /// run it when they are started the next time.
    Fork {
        /// The savepoint.
        name: String,
        /// The fork: APP.NAME.
        fork: String,
    },
    /// Wait until an app, and those that read the same topics, have read all there is. Nothing may write to these topics.
    Drain {
        /// The app.
        app: String,
    },
    /// Give an app, and those that read the same topics, more partitions, and their state to the tasks of these. Nothing may
    /// write to the topics that they read, which must be read to their ends, and workers must be stopped.
    Rescale {
        /// The app.
        app: String,
        /// How many there are to be: a multiple of how many there are.
        #[arg(long)]
        partitions: i32,
        /// Only say whether it can be done.
        #[arg(long)]
        check: bool,
    },
    /// Remove a fork with all of its topics. Workers must be stopped.
    Unfork {
        /// The fork: APP.NAME.
        fork: String,
    },
}

/// The name of its clients.
const CLIENT: &str = "millrace-savepoint";
/// How long a broker may take to answer.
const CALL: Duration = Duration::from_secs(10);

/// What every action needs.
pub struct Context {
    kafka: KafkaArgs,
    store: Store,
    runtime: tokio::runtime::Runtime,
    shutdown: Shutdown,
}

/// Does what is asked, and says so on standard output.
///
/// # Errors
/// What is wrong, and what to do.
pub fn run(args: SavepointArgs, all: &'static [&'static dyn Application]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let shutdown = runtime.block_on(async { Shutdown::on_signals() })?;
    let context = Context { kafka: args.kafka, store: Store::open(&args.checkpoint_url)?, runtime, shutdown };
    match args.action {
        Action::Create { name, apps } => create(&context, name, &chosen(all, &apps)?, None),
        Action::List => catalogue::list(&context),
        Action::Restore { name, apps } => restore(&context, &name, &apps, all),
        Action::Fork { name, fork: to } => fork(&context, &name, &to, all),
        Action::Drain { app } => drain(&context, &app, all),
        Action::Rescale { app, partitions, check: true } => check(&context, &app, partitions, all),
        Action::Rescale { app, partitions, check: false } => rescale(&context, &app, partitions, all),
        Action::Unfork { fork } => unfork(&context, &fork, all),
    }
}

fn chosen(
    all: &'static [&'static dyn Application],
    names: &[String],
) -> anyhow::Result<Vec<&'static dyn Application>> {
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|app| app.name() == *name)) {
        let known: Vec<&str> = all.iter().map(|app| app.name()).collect();
        bail!("there is no app {unknown}: the apps are {}", known.join(", "));
    }
    let wanted = |app: &&&'static dyn Application| names.is_empty() || names.iter().any(|n| n == app.name());
    Ok(all.iter().filter(wanted).copied().collect())
}

/// One line for whoever waits.
fn say(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    // Nobody is listening any more: the work goes on.
    let _ = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
}

/// The state of a task as its changelog has it at offset `end`.
fn state_at(
    context: &Context,
    changelog: &Changelog,
    app: &str,
    partition: i32,
    end: i64,
) -> anyhow::Result<Encoded> {
    let newest = context.store.newest(app, partition, usable(end));
    let Found { loaded, passed_over, .. } = context.runtime.block_on(newest);
    for reason in passed_over.iter().filter(|_| loaded.is_none()) {
        say(format!("{app}/{partition}: not used: {reason}"));
    }
    let from = loaded.as_ref().map_or(0, |checkpoint| checkpoint.manifest.changelog_offset);
    let mut tail = Changes::default();
    changelog.read(&[(partition, from, end)], |record| {
        tail.put(record.key, record.value);
        Ok(())
    })?;
    let tail = Encoded::delta(&tail);
    let mut files: Vec<&[u8]> = loaded.iter().flat_map(|c| c.files.iter().map(Vec::as_slice)).collect();
    files.push(&tail.bytes);
    Ok(Encoded::base(&files)?)
}

/// The topics through which an app's tasks hand records to each other.
fn repartition_topics(app: &dyn Application) -> impl Iterator<Item = &'static str> {
    let sources = app.sources().iter().filter(|source| source.kind == SourceKind::Repartition);
    sources.map(|source| source.topic)
}

/// A task with this state: whether it can be read, and where it stands.
fn task_with(app: &dyn Application, partition: i32, state: &[u8]) -> anyhow::Result<Box<dyn Task>> {
    let mut task = app.task(partition)?;
    for entry in merged(&[state]) {
        let (key, value) = entry?;
        load(&mut *task, key, Some(value))?;
    }
    task.start();
    Ok(task)
}
