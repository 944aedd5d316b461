//! What outlives a session.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use millrace_core::Application;
use millrace_service::Shutdown;
use millrace_service::control::Versioned;
use millrace_wire::control::Command;
use millrace_wire::telemetry::{self, StateBackend, WorkerState};

use super::changelog::Clients;
use super::restart::{Failures, SessionError, Strategy};
use super::status::Status;
use crate::checkpoint::Store;
use crate::config::RunArgs;
use crate::store::Disk;

/// What outlives a session.
pub struct Environment<'a> {
    /// Configuration.
    pub args: &'a RunArgs,
    /// Checkpoints.
    pub store: &'a Store,
    /// Where the state of apps with the backend `disk` is, if there are any.
    pub disk: Option<&'a Disk>,
    /// For what is asynchronous.
    pub runtime: &'a tokio::runtime::Handle,
    /// What the worker shows of itself.
    pub status: &'a Arc<Status>,
    /// When to stop.
    pub shutdown: &'a Shutdown,
    /// Commands as they come.
    pub commands: mpsc::Receiver<Versioned>,
    /// Where they come from; `None` once those so far are known and the later ones are followed.
    pub unheard: Option<mpsc::Sender<Versioned>>,
    /// The apps.
    pub apps: Vec<AppMemory>,
    /// Of changelogs, once one was read.
    clients: OnceCell<Rc<Clients>>,
}

/// What outlives a session of an app.
pub struct AppMemory {
    /// The app.
    pub app: &'static dyn Application,
    /// The newest command of each job.
    pub params: BTreeMap<String, Versioned>,
    /// Figures committed since the process started, by partition.
    pub tasks: BTreeMap<i32, telemetry::Task>,
    /// The same by job.
    pub jobs: Vec<telemetry::Job>,
    failures: Failures,
    started: Instant,
    /// When it may be started again; `None`: it has FAILED.
    due: Option<Instant>,
}

impl AppMemory {
    /// Of an app that has not run yet.
    pub fn new(app: &'static dyn Application, strategy: Strategy) -> Self {
        let jobs = app.descriptors();
        let jobs =
            jobs.iter().map(|d| telemetry::Job { name: d.name.to_owned(), ..Default::default() }).collect();
        let now = Instant::now();
        let (params, tasks, failures) = (BTreeMap::new(), BTreeMap::new(), Failures::new(strategy));
        Self { app, params, tasks, jobs, failures, started: now, due: Some(now) }
    }

    /// Whether it may be started now.
    pub fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// It is being started.
    pub fn starts(&mut self) {
        self.started = Instant::now();
    }

    /// It has failed. Returns what it does next.
    pub fn failed(&mut self, error: &anyhow::Error) -> WorkerState {
        let (app, error) = (self.app.name(), format!("{error:#}"));
        let delay = self.failures.after(self.started);
        self.due = delay.map(|delay| Instant::now() + delay);
        match delay {
            Some(delay) => {
                tracing::warn!(
                    app,
                    error,
                    ?delay,
                    "the app failed; it is started again from what is committed"
                );
                WorkerState::Retrying { error }
            }
            None => {
                tracing::error!(app, error, "the app is FAILED");
                WorkerState::Failed { error }
            }
        }
    }
}

impl<'a> Environment<'a> {
    /// Without commands. Each of `apps` may start now.
    pub fn new(
        args: &'a RunArgs,
        apps: &[&'static dyn Application],
        (store, disk): (&'a Store, Option<&'a Disk>),
        runtime: &'a tokio::runtime::Handle,
        (status, shutdown): (&'a Arc<Status>, &'a Shutdown),
    ) -> Self {
        let (send, commands) = mpsc::channel();
        let apps = apps.iter().map(|&app| AppMemory::new(app, args.restart_strategy)).collect();
        let (unheard, clients) = (Some(send), OnceCell::new());
        Self { args, store, disk, runtime, status, shutdown, commands, unheard, apps, clients }
    }

    /// What changelogs are read with.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn clients(&self) -> Result<Rc<Clients>, SessionError> {
        if let Some(clients) = self.clients.get() {
            clients.refresh()?;
            return Ok(clients.clone());
        }
        let clients = Rc::new(Clients::new(&self.args.kafka, &format!("{}-restore", self.args.component()))?);
        Ok(self.clients.get_or_init(|| clients).clone())
    }

    /// Where the state of an app is, if not in memory.
    pub fn disk_of(&self, app: &str) -> Option<&Disk> {
        self.disk.filter(|_| self.args.backend(app) == StateBackend::Disk)
    }

    /// Takes a command if it is for an app here and newer than what is known. Returns the app's number and the job.
    pub fn remember(&mut self, command: Versioned) -> Option<(usize, String)> {
        let Command::Params { app, job, .. } = &command.record.command else { return None };
        let job = job.clone();
        let (number, memory) =
            self.apps.iter_mut().enumerate().find(|(_, memory)| memory.app.name() == app)?;
        let newer = memory.params.get(&job).is_none_or(|known| known.version < command.version);
        newer.then(|| {
            memory.params.insert(job.clone(), command);
            (number, job)
        })
    }

    /// Waits, but not longer than until the process is asked to stop.
    pub fn wait(&self, delay: Duration) {
        let waited = async { tokio::time::timeout(delay, self.shutdown.wait()).await };
        // Either way it is time to look again.
        let _ = self.runtime.block_on(waited);
    }
}
