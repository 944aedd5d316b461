//! One life of producer, consumer and tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use millrace_core::task::SourceKind;
use millrace_core::{Application, Input};
use millrace_service::control::Versioned;
use millrace_service::{Shutdown, clock};
use millrace_wire::control::Command;
use millrace_wire::telemetry::{self, Ack, WorkerState};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, TopicPartitionList};

use super::assignment::{Assignment, Change};
use super::restart::SessionError;
use super::restore::{Restorer, check_offsets};
use super::status::Status;
use super::tasks::{TaskState, Tasks, Told};
use super::transaction::Transactions;
use crate::checkpoint::{FORMAT, Manifest, Snapshot, Store};
use crate::config::RunArgs;

/// How long to wait for a record when there is none; commands and timers are looked at in between.
const IDLE_WAIT: Duration = Duration::from_millis(10);
/// How often figures are handed to telemetry.
const FIGURES_EVERY: Duration = Duration::from_millis(150);
/// How long a broker may take to answer.
const CALL: Duration = Duration::from_secs(10);

/// What outlives a session.
pub struct Environment<'a> {
    /// Configuration.
    pub args: &'a RunArgs,
    /// The app.
    pub app: &'a dyn Application,
    /// Checkpoints.
    pub store: &'a Store,
    /// For what is asynchronous.
    pub runtime: &'a tokio::runtime::Handle,
    /// What the worker shows of itself.
    pub status: &'a Arc<Status>,
    /// When to stop.
    pub shutdown: &'a Shutdown,
    /// Commands as they come.
    pub commands: mpsc::Receiver<Versioned>,
    /// The newest command of each job.
    params: BTreeMap<String, Versioned>,
    /// Figures committed since the process started, by partition and by job.
    tasks: BTreeMap<i32, telemetry::Task>,
    jobs: Vec<telemetry::Job>,
}

impl<'a> Environment<'a> {
    /// With nothing committed yet.
    pub fn new(
        args: &'a RunArgs,
        app: &'a dyn Application,
        store: &'a Store,
        runtime: &'a tokio::runtime::Handle,
        status: &'a Arc<Status>,
        shutdown: &'a Shutdown,
        commands: mpsc::Receiver<Versioned>,
    ) -> Self {
        let jobs = app.descriptors();
        let jobs =
            jobs.iter().map(|d| telemetry::Job { name: d.name.to_owned(), ..Default::default() }).collect();
        let (params, tasks) = (BTreeMap::new(), BTreeMap::new());
        Self { args, app, store, runtime, status, shutdown, commands, params, tasks, jobs }
    }

    /// Takes a command if it is for this app and newer than what is known. Returns its job.
    pub fn remember(&mut self, command: Versioned) -> Option<String> {
        let Command::Params { app, job, .. } = &command.record.command else { return None };
        let job = job.clone();
        let newer = self.params.get(&job).is_none_or(|known| known.version < command.version);
        (app == self.app.name() && newer).then(|| {
            self.params.insert(job.clone(), command);
            job
        })
    }

    /// Waits, but not longer than until the process is asked to stop.
    pub fn wait(&self, delay: Duration) {
        let waited = async { tokio::time::timeout(delay, self.shutdown.wait()).await };
        // Either way it is time to look again.
        let _ = self.runtime.block_on(waited);
    }
}

/// One life of producer, consumer and tasks.
pub struct Session<'a, 'e> {
    env: &'e mut Environment<'a>,
    consumer: BaseConsumer<Assignment>,
    work: Tasks,
    figures_told: Instant,
}

impl<'a, 'e> Session<'a, 'e> {
    /// Connects and joins the group.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub fn start(env: &'e mut Environment<'a>) -> Result<Self, SessionError> {
        let (kafka, component, app) = (&env.args.kafka, env.args.component(), env.app.name());
        // First: this ends a transaction that a former life has left open.
        let transactions = Transactions::start(kafka, component, topic::changelog(app))?;
        let consumer: BaseConsumer<Assignment> = kafka
            .consumer(&format!("{component}-{app}"), &topic::group(app), "read_committed")
            .set("group.instance.id", format!("{component}-{app}"))
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "1000")
            .set("auto.offset.reset", "earliest")
            .set("queued.max.messages.kbytes", "32768")
            .set("queued.min.messages", "20000")
            .create_with_context(Assignment::default())
            .context("the consumer can't be made")
            .map_err(SessionError::App)?;
        let topics: Vec<&str> = env.app.sources().iter().map(|source| source.topic).collect();
        consumer.subscribe(&topics)?;
        let work = Tasks::new(env.app.name(), env.app.sources(), transactions);
        Ok(Self { env, consumer, work, figures_told: Instant::now() })
    }

    /// Works until asked to stop.
    ///
    /// # Errors
    /// Whatever ends the session. What was not committed has been seen by no one.
    pub fn run(mut self) -> Result<(), SessionError> {
        let result = self.work();
        if self.work.abort() {
            self.env.status.aborted();
        }
        result
    }

    fn work(&mut self) -> Result<(), SessionError> {
        loop {
            if self.env.shutdown.requested() {
                return self.commit();
            }
            self.apply_commands()?;
            self.poll()?;
            self.assignment()?;
            self.work.transactions.poll();
            if self.commit_due() {
                self.commit()?;
                self.checkpoints();
            }
            if self.figures_told.elapsed() >= FIGURES_EVERY {
                self.tell_figures();
            }
        }
    }

    fn commit_due(&self) -> bool {
        self.work
            .transactions
            .opened()
            .is_some_and(|opened| opened.elapsed() >= self.env.args.commit_interval())
    }

    /// Processes what is there; waits a moment if there is nothing.
    fn poll(&mut self) -> Result<(), SessionError> {
        // The processing-time clock moves between records, never within one.
        let _ = self.work.step_all(Input::ProcessingTime(clock::now_ms()))?;
        // Bounded, so that commits and commands keep their time.
        for _ in 0..500 {
            let polled = match self.consumer.poll(Duration::ZERO) {
                Some(polled) => polled,
                None => {
                    let opened = self.work.transactions.opened();
                    let left = opened.map(|o| self.env.args.commit_interval().saturating_sub(o.elapsed()));
                    let waiting = Instant::now();
                    let polled = self.consumer.poll(left.unwrap_or(IDLE_WAIT).min(IDLE_WAIT));
                    self.env.status.waited(waiting.elapsed(), self.work.transactions.take_backpressured());
                    let Some(polled) = polled else { return Ok(()) };
                    polled
                }
            };
            match polled {
                Ok(message) => {
                    let partition = message.partition();
                    self.work.process(&message)?;
                    drop(message);
                    if self.work.tasks.get(&partition).is_some_and(|state| !state.bootstrap.is_empty()) {
                        self.bootstrap(partition)?;
                    }
                }
                Err(error) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => {
                        return Err(error.into());
                    }
                    _ => tracing::warn!(%error, "reading failed, trying again"),
                },
            }
            if self.commit_due() {
                break;
            }
        }
        Ok(())
    }

    /// Puts new parameters in force, between two commits.
    fn apply_commands(&mut self) -> Result<(), SessionError> {
        while let Ok(command) = self.env.commands.try_recv() {
            let (id, version) = (command.record.id.clone(), command.version);
            let Some(job) = self.env.remember(command) else { continue };
            self.commit()?;
            let refused = self.apply(&job)?;
            self.commit()?;
            if refused.is_some() {
                self.env.params.remove(&job);
            }
            self.tell_figures();
            self.env.status.ack(Ack { id, version, at_ms: clock::now_ms(), refused });
        }
        Ok(())
    }

    /// Gives the newest parameters of a job to every task that does not have them. Returns why they were refused.
    fn apply(&mut self, job: &str) -> Result<Option<String>, SessionError> {
        let Some(Versioned { version, record }) = self.env.params.get(job) else { return Ok(None) };
        let Command::Params { params: values, .. } = &record.command else { return Ok(None) };
        let input = Input::Parameters { job, version: *version, values };
        // A task without partition judges first, so that also a worker without tasks can answer.
        let mut judge = self.env.app.task(-1).map_err(|e| SessionError::App(e.into()))?;
        if let Err(refused) = judge.step(input, &mut millrace_core::Effects::default()) {
            tracing::warn!(job, version, %refused, "parameters were refused");
            return Ok(Some(refused.to_string()));
        }
        Ok(self.work.step_all(input)?.err())
    }

    /// Takes notice of partitions that came or went.
    fn assignment(&mut self) -> Result<(), SessionError> {
        for change in self.consumer.context().take() {
            match change {
                Change::Revoked => {
                    tracing::info!("partitions revoked");
                    if self.work.abort() {
                        self.env.status.aborted();
                    }
                    self.work.tasks.clear();
                    self.env.status.set_state(WorkerState::Starting);
                }
                Change::Assigned(partitions) => self.assigned(&partitions)?,
            }
        }
        Ok(())
    }

    fn assigned(&mut self, partitions: &[i32]) -> Result<(), SessionError> {
        tracing::info!(?partitions, "partitions assigned");
        self.env.status.set_state(WorkerState::Restoring { records: 0 });
        let env = &*self.env;
        let sources = env.app.sources();
        let topics: Vec<&str> = sources.iter().map(|source| source.topic).collect();
        let mut wanted = TopicPartitionList::new();
        for &partition in partitions {
            for topic in &topics {
                wanted.add_partition(topic, partition);
            }
        }
        // Waits for offsets of transactions that are being committed: isolation is read_committed.
        let committed = self.consumer.committed_offsets(wanted, CALL)?;
        let (store, status) = (env.store, &**env.status);
        let restorer = Restorer::new(
            env.app,
            &env.args.kafka,
            env.args.component(),
            store,
            env.runtime,
            status,
            env.shutdown,
        )?;
        for &partition in partitions {
            let restored = restorer.restore(partition)?;
            check_offsets(&*restored.task, partition, &committed, &topics).map_err(SessionError::App)?;
            let mut bootstrap = Vec::new();
            for source in sources.iter().filter(|source| source.kind == SourceKind::Reference) {
                bootstrap.push((source.topic, restorer.end_of(source.topic, partition)?));
            }
            tracing::info!(recovery = ?restored.recovery, "task restored");
            env.status.recovery(restored.recovery);
            let interval = env.args.checkpoint_interval();
            let state = TaskState {
                told: Told::of(&*restored.task),
                task: restored.task,
                changelog_offset: restored.changelog_offset,
                checkpoint_id: restored.checkpoint_id,
                // Spread, so that the tasks of a worker do not all write at once.
                next_checkpoint: Instant::now()
                    + interval / 6 * u32::try_from(partition.rem_euclid(6)).unwrap_or(0),
                progressed: false,
                bootstrap,
                touched: false,
            };
            self.work.tasks.insert(partition, state);
        }
        let jobs: Vec<String> = self.env.params.keys().cloned().collect();
        for job in jobs {
            self.apply(&job)?;
        }
        self.commit()?;
        for &partition in partitions {
            let mut references = TopicPartitionList::new();
            for source in sources.iter().filter(|source| source.kind == SourceKind::Reference) {
                references.add_partition(source.topic, partition);
            }
            self.consumer.resume(&references)?;
            self.bootstrap(partition)?;
        }
        self.env.status.set_state(WorkerState::Running);
        self.tell_figures();
        Ok(())
    }

    /// Starts the streams of a partition once its reference topics are read to their end.
    fn bootstrap(&mut self, partition: i32) -> Result<(), SessionError> {
        let Some(state) = self.work.tasks.get_mut(&partition) else { return Ok(()) };
        let read = state.task.offsets();
        state
            .bootstrap
            .retain(|(topic, end)| !read.iter().any(|(t, offset)| t == topic && offset >= end) && *end > 0);
        if state.bootstrap.is_empty() {
            let mut streams = TopicPartitionList::new();
            for source in self.env.app.sources().iter().filter(|source| source.kind == SourceKind::Stream) {
                streams.add_partition(source.topic, partition);
            }
            self.consumer.resume(&streams)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SessionError> {
        let started = Instant::now();
        let (status, shutdown) = (&**self.env.status, self.env.shutdown);
        let go_on = || {
            status.committing();
            !shutdown.requested()
        };
        go_on();
        let committed = self.work.commit(&self.consumer, &go_on);
        status.commit_ended();
        let Some(committed) = committed? else { return Ok(()) };
        let now = clock::now_ms();
        let latencies =
            committed.created.iter().map(|created| u64::try_from(now - created).unwrap_or(0) * 1_000);
        self.env.status.committed(started.elapsed(), latencies);
        for partition in committed.partitions {
            let Some(state) = self.work.tasks.get_mut(&partition) else { continue };
            let now = Told::of(&*state.task);
            let total = self.env.tasks.entry(partition).or_default();
            total.records += now.totals.records - state.told.totals.records;
            total.bytes += now.totals.bytes - state.told.totals.bytes;
            total.dead += now.totals.dead - state.told.totals.dead;
            for ((total, now), told) in self.env.jobs.iter_mut().zip(&now.jobs).zip(&state.told.jobs) {
                total.records += now.records - told.records;
                total.filtered += now.filtered - told.filtered;
                total.late += now.late - told.late;
                total.emitted += now.emitted - told.emitted;
                total.violations += now.violations - told.violations;
            }
            state.told = now;
        }
        Ok(())
    }

    /// Hands the figures to telemetry.
    fn tell_figures(&mut self) {
        self.figures_told = Instant::now();
        for job in &mut self.env.jobs {
            job.pending = 0;
        }
        let mut tasks = BTreeMap::new();
        for (index, (&partition, state)) in self.work.tasks.iter_mut().enumerate() {
            let mut figures = self.env.tasks.get(&partition).cloned().unwrap_or_default();
            figures.partition = partition;
            figures.watermark_ms = state.task.watermark().get();
            figures.idle = state.task.is_idle();
            figures.state_entries = state.task.entries() as u64;
            figures.offset = state.task.offsets().first().map_or(0, |(_, offset)| *offset);
            tasks.insert(partition, figures);
            for (total, job) in self.env.jobs.iter_mut().zip(state.task.jobs()) {
                total.pending += job.pending;
                if index == 0 || job.params_version < total.params_version {
                    total.params_version = job.params_version;
                    total.params = job.params;
                }
            }
        }
        self.env.status.set_figures(tasks, self.env.jobs.clone());
    }

    /// Begins the checkpoints that are due. Called right after a commit: the state is what is committed.
    fn checkpoints(&mut self) {
        let env = &*self.env;
        for (&partition, state) in &mut self.work.tasks {
            if !state.progressed || state.next_checkpoint > Instant::now() {
                continue;
            }
            let begun = Instant::now();
            state.next_checkpoint = begun + env.args.checkpoint_interval();
            state.progressed = false;
            state.checkpoint_id += 1;
            let mut snapshot = Snapshot::default();
            state.task.snapshot(&mut |key, value| snapshot.push(key, value.unwrap_or_default()));
            let mut manifest = Manifest {
                version: FORMAT,
                app: env.app.name().to_owned(),
                partition,
                id: state.checkpoint_id,
                created_ms: clock::now_ms(),
                duration_ms: 0.0,
                offsets: state
                    .task
                    .offsets()
                    .into_iter()
                    .map(|(topic, offset)| (topic.to_owned(), offset))
                    .collect(),
                changelog_offset: state.changelog_offset,
                watermark_ms: state.task.watermark().get(),
                params: state
                    .task
                    .jobs()
                    .into_iter()
                    .map(|job| (job.name.to_owned(), job.params_version))
                    .collect(),
                entries: snapshot.entries,
                bytes: 0,
                sha256: String::new(),
            };
            let blocked_ms = begun.elapsed().as_secs_f64() * 1_000.0;
            let (store, status) = (env.store.clone(), env.status.clone());
            env.runtime.spawn(async move {
                let error =
                    store.write(&mut manifest, snapshot, begun).await.err().map(|error| format!("{error:#}"));
                if let Some(error) = &error {
                    tracing::error!(
                        partition,
                        id = manifest.id,
                        error,
                        "a checkpoint failed; the ones before are kept"
                    );
                }
                status.checkpoint(manifest.telemetry(blocked_ms, error));
            });
        }
    }
}
