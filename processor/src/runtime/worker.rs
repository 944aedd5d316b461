//! A worker process: the thread that works, and the tasks that tell about it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_core::Application;
use millrace_service::{Shutdown, http, log, telemetry};
use millrace_wire::telemetry::WorkerState;

use super::environment::Environment;
use super::restart::{Backoff, SessionError};
use super::session::Session;
use super::status::Status;
use crate::apps::fork::Fork;
use crate::checkpoint::Store;
use crate::config::RunArgs;
use crate::savepoint;
use crate::store::Disk;

/// Runs until asked to stop.
///
/// # Errors
/// The configuration is wrong, or an address is in use.
pub fn run(args: RunArgs, apps: &'static [&'static dyn Application]) -> anyhow::Result<()> {
    log::init(&args.service)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let store = Store::open(&args.checkpoint_url)?;
    let apps = if args.apps.is_empty() { with_forks(apps, &store, runtime.handle()) } else { apps };
    let disk = args.disk(apps)?;
    let status = Arc::new(Status::new(apps, |app| args.backend(app))?);
    let shutdown = runtime.block_on(async { Shutdown::on_signals() })?;
    runtime.block_on(http::serve(args.service.http_addr, status.clone(), shutdown.clone()))?;
    let publisher = telemetry::Publisher::new(&args.kafka, args.component())?;
    let (stop, told) = (shutdown.clone(), status.clone());
    let publishing = runtime.spawn(async move {
        let mut tick = telemetry::ticks();
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while !stop.requested() {
            tokio::select! { _ = tick.tick() => {}, () = told.urgent.notified() => {}, () = stop.wait() => {} }
            let (body, acks) = told.collect();
            publisher.publish(body, acks);
        }
    });
    let handle = runtime.handle().clone();
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        // The receiver is gone only if the process is ending already.
        let _ = ended.send(work(&args, apps, (&store, disk.as_ref()), &handle, &status, &shutdown));
        // The process ends with its worker, whatever the reason.
        shutdown.request();
    })?;
    runtime.block_on(async {
        let result = end.await;
        // A last frame; it is only telemetry, so it gets a second.
        let _ = tokio::time::timeout(Duration::from_secs(1), publishing).await;
        result.map_err(|_| anyhow::anyhow!("the worker thread panicked"))?
    })
}

/// The apps and their forks.
fn with_forks(
    apps: &'static [&'static dyn Application],
    store: &Store,
    runtime: &tokio::runtime::Handle,
) -> &'static [&'static dyn Application] {
    let forks = match runtime.block_on(savepoint::forks(store)) {
        Ok(forks) => forks,
        Err(error) => {
            tracing::error!("no fork runs until this worker is started again: {error:#}");
            return apps;
        }
    };
    let run = |(name, _): &(String, _)| match Fork::new(name, apps) {
        Ok(fork) => Some(fork as &dyn Application),
        Err(error) => {
            tracing::error!("the fork {name} does not run: {error:#}");
            None
        }
    };
    let forks: Vec<_> = forks.iter().filter_map(run).collect();
    if forks.is_empty() { apps } else { [apps, &forks].concat().leak() }
}

fn work(
    args: &RunArgs,
    apps: &'static [&'static dyn Application],
    (store, disk): (&Store, Option<&Disk>),
    runtime: &tokio::runtime::Handle,
    status: &Arc<Status>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let mut env = Environment::new(args, apps, (store, disk), runtime, (status, shutdown));
    let mut backoff = Backoff::default();
    while !shutdown.requested() {
        let started = Instant::now();
        let Err(error) = Session::start(&mut env).and_then(Session::run) else { continue };
        if shutdown.requested() {
            break;
        }
        status.restarted();
        match error {
            SessionError::Kafka(error) => {
                let (delay, error) = (backoff.after(started), format!("{error:#}"));
                tracing::warn!(
                    error,
                    ?delay,
                    "the session ended; the next one starts from what is committed"
                );
                status.set_states(&WorkerState::Retrying { error });
                env.wait(delay);
            }
            SessionError::App { app, error } => {
                // The others start again at once, from the last commit.
                for memory in env.apps.iter_mut().filter(|memory| memory.app.name() == app) {
                    let state = memory.failed(&error);
                    status.set_state(app, state);
                }
            }
        }
    }
    Ok(())
}
