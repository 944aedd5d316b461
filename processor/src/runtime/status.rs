//! What a worker shows of itself: written by the worker thread, read by telemetry, `/metrics` and `/health` ([`super::exposed`]).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millrace_core::Application;
use millrace_service::metrics::Buckets;
use millrace_wire::telemetry::{
    Ack, App, Body, Checkpoint, Job, JobDescriptor, OpenTransaction, Processor, Recovery, RecoveryPhases,
    StateBackend, Task, TimeUse, WorkerState,
};
use tokio::sync::Notify;

use super::transaction::Sent;

/// Upper bounds of the latency's buckets in `/metrics`, s.
const LATENCY_BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// How often the catalogue of jobs is repeated.
const CATALOGUE_EVERY: Duration = Duration::from_secs(5);

/// Shared figures of a worker.
pub struct Status {
    catalogue: Vec<JobDescriptor>,
    inner: Mutex<Inner>,
    /// Told when something should be published at once.
    pub urgent: Notify,
}

/// The figures.
pub(super) struct Inner {
    pub(super) apps: Vec<AppFigures>,
    committing: bool,
    acks: Vec<Ack>,
    pub(super) commits: u64,
    pub(super) aborts: u64,
    pub(super) restarts: u64,
    pub(super) commit: Duration,
    pub(super) sent: Sent,
    /// When the open transaction was opened.
    pub(super) opened: Option<Instant>,
    latency: Histogram<u64>,
    /// Since the process started, for `/metrics`.
    pub(super) latency_total: Buckets,
    idle: Duration,
    backpressured: Duration,
    collected: Instant,
    catalogue_told: Option<Instant>,
    /// For `/metrics`: the figures of the last frame.
    pub(super) last_time: TimeUse,
}

/// Those of an app.
#[derive(Default)]
pub(super) struct AppFigures {
    pub(super) name: &'static str,
    backend: StateBackend,
    state: WorkerState,
    pub(super) tasks: BTreeMap<i32, Task>,
    pub(super) jobs: Vec<Job>,
    checkpoints: Vec<Checkpoint>,
    /// The last complete one of each partition.
    pub(super) last_checkpoints: BTreeMap<i32, Checkpoint>,
    recoveries: Vec<Recovery>,
    pub(super) phases: Option<RecoveryPhases>,
}

impl Inner {
    fn app(&mut self, name: &str) -> Option<&mut AppFigures> {
        self.apps.iter_mut().find(|app| app.name == name)
    }

    /// The state of the app that is furthest from running.
    pub(super) fn state(&self) -> WorkerState {
        let distance = |state: &WorkerState| match state {
            WorkerState::Running => 0,
            WorkerState::Starting => 1,
            WorkerState::Restoring { .. } => 2,
            WorkerState::Retrying { .. } => 3,
            WorkerState::Failed { .. } => 4,
        };
        let worst = self.apps.iter().max_by_key(|app| distance(&app.state));
        match worst.map(|app| (app.name, app.state.clone())) {
            None => WorkerState::Starting,
            Some((app, WorkerState::Retrying { error })) => {
                WorkerState::Retrying { error: format!("{app}: {error}") }
            }
            Some((app, WorkerState::Failed { error })) => {
                WorkerState::Failed { error: format!("{app}: {error}") }
            }
            Some((_, state)) => state,
        }
    }
}

impl Status {
    /// Of a worker that has not started yet.
    ///
    /// # Errors
    /// Never with the bounds given here.
    pub fn new(
        apps: &[&'static dyn Application],
        backend: impl Fn(&str) -> StateBackend,
    ) -> anyhow::Result<Self> {
        let jobs = apps.iter().flat_map(|app| app.descriptors().into_iter().map(|job| (app.name(), job)));
        let catalogue = jobs
            .map(|(app, d)| JobDescriptor {
                app: app.to_owned(),
                job: d.name.to_owned(),
                description: d.description.to_owned(),
                inputs: d.inputs.iter().map(|&t| t.to_owned()).collect(),
                outputs: d.outputs.iter().map(|&t| t.to_owned()).collect(),
                schema: d.schema,
                alerts: d.alerts,
            })
            .collect();
        Ok(Self {
            catalogue,
            urgent: Notify::new(),
            inner: Mutex::new(Inner {
                apps: apps
                    .iter()
                    .map(|app| AppFigures {
                        name: app.name(),
                        backend: backend(app.name()),
                        ..AppFigures::default()
                    })
                    .collect(),
                committing: false,
                acks: Vec::new(),
                commits: 0,
                aborts: 0,
                restarts: 0,
                commit: Duration::ZERO,
                sent: Sent::default(),
                opened: None,
                // 1 us to 1 hour, two digits.
                latency: Histogram::new_with_bounds(1, 3_600_000_000, 2)?,
                latency_total: Buckets::new(&LATENCY_BOUNDS),
                idle: Duration::ZERO,
                backpressured: Duration::ZERO,
                collected: Instant::now(),
                catalogue_told: None,
                last_time: TimeUse::default(),
            }),
        })
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = match self.inner.lock() {
            Ok(inner) => inner,
            // Figures survive a panic of another thread: they are only figures.
            Err(poisoned) => poisoned.into_inner(),
        };
        f(&mut inner)
    }

    fn with_app(&self, name: &str, f: impl FnOnce(&mut AppFigures)) {
        self.with(|inner| inner.app(name).map_or((), f));
    }

    /// What an app is doing.
    pub fn set_state(&self, app: &str, state: WorkerState) {
        self.with_app(app, |app| app.state = state);
    }

    /// What every app is doing that has not failed for good.
    pub fn set_states(&self, state: &WorkerState) {
        self.with(|inner| {
            for app in &mut inner.apps {
                if !matches!(app.state, WorkerState::Failed { .. }) {
                    app.state.clone_from(state);
                }
            }
        });
    }

    /// A commit began.
    pub fn committing(&self) {
        self.with(|inner| inner.committing = true);
    }

    /// It came to an end, whichever.
    pub fn commit_ended(&self) {
        self.with(|inner| inner.committing = false);
    }

    /// Figures of an app's tasks and jobs.
    pub fn set_figures(&self, app: &str, tasks: BTreeMap<i32, Task>, jobs: Vec<Job>) {
        self.with_app(app, |app| {
            app.tasks = tasks;
            app.jobs = jobs;
        });
    }

    /// When the transaction that is open now was opened.
    pub fn set_opened(&self, opened: Option<Instant>) {
        self.with(|inner| inner.opened = opened);
    }

    /// A committed transaction, with what it held and the latency of its source records in microseconds.
    pub fn committed(&self, took: Duration, sent: Sent, latencies_us: impl Iterator<Item = u64>) {
        self.with(|inner| {
            inner.commits += 1;
            inner.commit = took;
            inner.opened = None;
            inner.sent.records += sent.records;
            inner.sent.bytes += sent.bytes;
            for latency in latencies_us {
                inner.latency.saturating_record(latency.max(1));
                inner.latency_total.add(latency as f64 / 1e6);
            }
        });
    }

    /// A session ended with an error.
    pub fn restarted(&self) {
        self.with(|inner| inner.restarts += 1);
    }

    /// An aborted transaction.
    pub fn aborted(&self) {
        self.with(|inner| inner.aborts += 1);
    }

    /// Time spent waiting.
    pub fn waited(&self, idle: Duration, backpressured: Duration) {
        self.with(|inner| {
            inner.idle += idle;
            inner.backpressured += backpressured;
        });
    }

    /// A checkpoint, complete or failed.
    pub fn checkpoint(&self, checkpoint: Checkpoint) {
        let name = checkpoint.app.clone();
        self.with_app(&name, |app| {
            if checkpoint.error.is_none() {
                app.last_checkpoints.insert(checkpoint.partition, checkpoint.clone());
            }
            app.checkpoints.push(checkpoint);
        });
    }

    /// A task that is back.
    pub fn recovery(&self, recovery: Recovery) {
        let name = recovery.app.clone();
        self.with_app(&name, |app| app.recoveries.push(recovery));
    }

    /// An app that has caught up.
    pub fn caught_up(&self, app: &str, phases: RecoveryPhases) {
        self.with_app(app, |app| app.phases = Some(phases));
    }

    /// A command that is in force or refused: published at once.
    pub fn ack(&self, ack: Ack) {
        self.with(|inner| inner.acks.push(ack));
        self.urgent.notify_one();
    }

    /// The next frame's content; what is told once is taken.
    pub fn collect(&self) -> (Body, Vec<Ack>) {
        self.with(|inner| {
            let elapsed = inner.collected.elapsed().as_secs_f64().max(0.001);
            inner.collected = Instant::now();
            let per_s = |d: Duration| (d.as_secs_f64() * 1_000.0 / elapsed).min(1_000.0);
            let (idle, backpressured) = (per_s(inner.idle), per_s(inner.backpressured));
            (inner.idle, inner.backpressured) = (Duration::ZERO, Duration::ZERO);
            inner.last_time = TimeUse {
                busy_ms_per_s: (1_000.0 - idle - backpressured).max(0.0),
                idle_ms_per_s: idle,
                backpressured_ms_per_s: backpressured,
            };
            let latency_us =
                inner.latency.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
            inner.latency.reset();
            let due = inner.catalogue_told.is_none_or(|told| told.elapsed() >= CATALOGUE_EVERY);
            if due {
                inner.catalogue_told = Some(Instant::now());
            }
            let apps = inner.apps.iter_mut().map(|app| App {
                name: app.name.to_owned(),
                backend: app.backend,
                state: app.state.clone(),
                tasks: app.tasks.values().cloned().collect(),
                jobs: app.jobs.clone(),
                checkpoints: std::mem::take(&mut app.checkpoints),
                recoveries: std::mem::take(&mut app.recoveries),
                phases: app.phases.clone(),
            });
            let body = Body::Processor(Processor {
                apps: apps.collect(),
                catalogue: if due { self.catalogue.clone() } else { Vec::new() },
                time: inner.last_time,
                commits: inner.commits,
                aborts: inner.aborts,
                commit_ms: inner.commit.as_secs_f64() * 1_000.0,
                records_out: inner.sent.records,
                bytes_out: inner.sent.bytes,
                transaction: inner.opened.map(|opened| OpenTransaction {
                    age_ms: opened.elapsed().as_secs_f64() * 1_000.0,
                    committing: inner.committing,
                }),
                restarts: inner.restarts,
                latency_us,
                state: inner.state(),
            });
            (body, std::mem::take(&mut inner.acks))
        })
    }
}
