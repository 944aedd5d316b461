//! An app in a session: its place in the consumer group, and its tasks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use millrace_core::task::SourceKind;
use millrace_core::{Application, Effects, Input};
use millrace_service::control::Versioned;
use millrace_wire::control::Command;
use millrace_wire::telemetry::{self, WorkerState};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::assignment::{Assignment, Change, Generation, Membership};
use super::comeback::Comeback;
use super::environment::{AppMemory, Environment};
use super::restart::SessionError;
use super::restore::{Restored, Restorer, check_offsets};
use super::status::Status;
use super::tasks::{TaskState, Tasks, Told, next_offsets};
use super::transaction::Transactions;

/// How long offsets may stay unknown, because a transaction of a former owner that has them is still open: longer than Kafka lets
/// it be.
const OFFSETS: Duration = Duration::from_secs(30);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(2);
/// And telling the group after that.
const TOLD: Duration = Duration::from_millis(200);
/// Records taken in a row, so that commits, commands and the other apps keep their time.
const IN_A_ROW: usize = 500;
/// Records between two looks at the clock, which is 5 % of the work if it is looked at with each.
const LOOK_EVERY: usize = 20;

/// Leaves the groups, for a worker that stops: others need not wait until it counts as dead.
pub fn leave(members: &[Member]) {
    members.iter().for_each(|member| member.consumer.leave());
    let began = Instant::now();
    let mut left = None;
    // When the partitions are given back, the client's own thread tells the group, unless it is told to end before.
    while left.is_none_or(|left: Instant| left.elapsed() < TOLD) && began.elapsed() < LEAVE {
        for member in members {
            // Nothing is read: it is the group that has something to say.
            drop(member.consumer.poll(Duration::ZERO));
        }
        if left.is_none() && members.iter().all(|member| member.consumer.has_left()) {
            left = Some(Instant::now());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// An app in a session.
pub struct Member {
    /// Its number in [`Environment::apps`].
    pub number: usize,
    app: &'static dyn Application,
    /// Reads its sources.
    consumer: Membership,
    /// Of its partitions.
    pub generation: Option<Generation>,
    /// Its tasks.
    pub work: Tasks,
    comeback: Comeback,
    /// How many the app had at its first assignment.
    partitions: Option<i32>,
}

impl Member {
    /// Joins the group. The calling thread is unparked when there is something to [`poll`](Self::poll).
    ///
    /// # Errors
    /// The client can't be made.
    pub fn join(
        env: &Environment<'_>,
        number: usize,
        app: &'static dyn Application,
    ) -> Result<Self, SessionError> {
        let (kafka, component, name) = (&env.args.kafka, env.args.component(), app.name());
        let mut consumer: BaseConsumer<Assignment> = kafka
            .consumer(&format!("{component}-{name}"), &topic::group(name), "read_committed")
            .set("group.instance.id", format!("{component}-{name}"))
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1000")
            .set("auto.offset.reset", "earliest")
            // What is there is answered at once; this is how often a broker says that there is nothing.
            .set("fetch.wait.max.ms", "500")
            .set("queued.max.messages.kbytes", "32768")
            .set("queued.min.messages", "20000")
            .create_with_context(Assignment::later())
            .context("the consumer can't be made")
            .map_err(SessionError::Kafka)?;
        let worker = std::thread::current();
        consumer.set_nonempty_callback(move || worker.unpark());
        let topics: Vec<&str> = app.sources().iter().map(|source| source.topic).collect();
        consumer.subscribe(&topics)?;
        env.status.set_state(name, WorkerState::Starting);
        let work = Tasks::new(app, component);
        let consumer = Membership::new(consumer);
        Ok(Self {
            number,
            app,
            consumer,
            generation: None,
            work,
            comeback: Comeback::begin(),
            partitions: None,
        })
    }

    /// The app's name.
    pub fn name(&self) -> &'static str {
        self.app.name()
    }

    /// Processes what is there, without waiting, until `enough`. Returns whether there was anything.
    ///
    /// # Errors
    /// What came of it can't be sent, or this member has been fenced.
    pub fn poll(
        &mut self,
        transactions: &mut Transactions,
        enough: impl Fn(&Transactions) -> bool,
    ) -> Result<bool, SessionError> {
        let (mut found, mut complete) = (false, false);
        for number in 0..IN_A_ROW {
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let partition = message.partition();
                    self.work.process(&message, transactions)?;
                    complete |= self.work.tasks.get_mut(&partition).is_some_and(bootstrapped);
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => {
                        return Err(error.into());
                    }
                    _ => tracing::warn!(app = self.app.name(), %error, "reading failed, trying again"),
                },
            }
            found = true;
            if number % LOOK_EVERY == LOOK_EVERY - 1 && enough(transactions) {
                break;
            }
        }
        if complete {
            self.read()?;
        }
        Ok(found)
    }

    /// Partitions that came or went since the last call.
    pub fn changes(&self) -> Vec<Change> {
        self.consumer.changes()
    }

    /// Restores the tasks of new partitions and starts to read them.
    ///
    /// # Errors
    /// Kafka does not answer, or the state can't be read.
    pub fn assigned(
        &mut self,
        env: &Environment<'_>,
        memory: &AppMemory,
        partitions: &[i32],
        transactions: &mut Transactions,
    ) -> Result<(), SessionError> {
        let (app, began) = (self.app.name(), Instant::now());
        tracing::info!(app, ?partitions, "partitions assigned");
        env.status.set_state(app, WorkerState::Restoring { records: 0 });
        let sources = self.app.sources();
        let topics: Vec<&str> = sources.iter().map(|source| source.topic).collect();
        let mut wanted = TopicPartitionList::new();
        for &partition in partitions {
            for topic in &topics {
                wanted.add_partition(topic, partition);
            }
        }
        // Waits for offsets of transactions that are being committed: isolation is read_committed.
        let committed = self.consumer.committed_offsets(wanted, OFFSETS)?;
        let restorer = Restorer::new(self.app, env)?;
        let of = restorer.partitions()?;
        if self.partitions.replace(of).is_some_and(|before| before != of) {
            // What this session knows of its topics is out of date.
            return Err(SessionError::Kafka(anyhow!("{app} has got {of} partitions")));
        }
        let restored = restorer.restore(partitions)?;
        let mut unread = Vec::new();
        for (number, source) in sources.iter().enumerate().filter(|(_, s)| s.kind == SourceKind::Reference) {
            let next = |restored: &Restored| next_offsets(&*restored.task, sources).get(number).copied();
            let read =
                partitions.iter().zip(&restored).map(|(p, restored)| (*p, next(restored).unwrap_or(0)));
            unread.push((source.topic, restorer.unread(source.topic, &read.collect::<Vec<_>>())?));
        }
        let mut commits = Vec::new();
        for (&partition, restored) in partitions.iter().zip(restored) {
            check_offsets(&*restored.task, partition, &committed, &topics).map_err(SessionError::app(app))?;
            let bootstrap = unread.iter().filter_map(|(topic, ends)| Some((*topic, *ends.get(&partition)?)));
            let bootstrap = bootstrap.collect();
            tracing::info!(recovery = ?restored.recovery, "task restored");
            // What was read is the next checkpoint's: then it need not be read again.
            let progressed = restored.recovery.changelog_records > 0;
            env.status.recovery(restored.recovery);
            commits.push(restored.last_commit_ms);
            // Spread, so that the tasks of a worker do not all write at once.
            let turn = f64::from(partition) / f64::from(of.max(1));
            let state = TaskState {
                told: Told::of(&*restored.task),
                next: next_offsets(&*restored.task, sources),
                task: restored.task,
                changelog_offset: restored.changelog_offset,
                checkpoints: restored.checkpoints,
                store: restored.store,
                next_checkpoint: Instant::now() + env.args.checkpoint_interval().mul_f64(turn),
                progressed,
                bootstrap,
                touched: false,
            };
            self.work.tasks.insert(partition, state);
        }
        // Asked before a transaction may be open, which does not wait for answers.
        let ahead = restorer.ahead(partitions)?;
        for (partition, state) in &mut self.work.tasks {
            let unread = sources.iter().zip(&state.next).filter_map(|(source, next)| {
                let end = ahead.get(&(*partition, source.topic))?;
                (next < end).then_some(source.topic)
            });
            state.task.resume(&unread.collect::<Vec<_>>());
        }
        for job in memory.params.keys() {
            // Refused ones have been acknowledged as such when they came.
            let _ = self.apply(memory, job, transactions)?;
        }
        self.read()?;
        self.comeback.restored(partitions, &commits, began.elapsed(), ahead);
        self.caught_up(env.status);
        env.status.set_state(app, WorkerState::Running);
        Ok(())
    }

    /// Lets go of the partitions.
    ///
    /// # Errors
    /// The client refuses.
    pub fn revoked(&mut self, env: &Environment<'_>) -> Result<(), SessionError> {
        tracing::info!(app = self.app.name(), "partitions revoked");
        self.comeback.revoked(self.work.tasks.keys().copied().collect());
        self.work.tasks.clear();
        self.generation = None;
        env.status.set_state(self.app.name(), WorkerState::Starting);
        Ok(self.consumer.give_back()?)
    }

    /// Gives the newest parameters of a job to every task that does not have them. Returns why they were refused.
    ///
    /// # Errors
    /// What came of it can't be sent.
    pub fn apply(
        &mut self,
        memory: &AppMemory,
        job: &str,
        transactions: &mut Transactions,
    ) -> Result<Option<String>, SessionError> {
        let Some(Versioned { version, record }) = memory.params.get(job) else { return Ok(None) };
        let Command::Params { params: values, .. } = &record.command else { return Ok(None) };
        let input = Input::Parameters { job, version: *version, values };
        // A task without partition judges first, so that also a worker without tasks can answer.
        let mut judge = self.app.task(-1).map_err(SessionError::app(self.app.name()))?;
        if let Err(refused) = judge.step(input, &mut Effects::default()) {
            tracing::warn!(app = self.app.name(), job, version, %refused, "parameters were refused");
            return Ok(Some(refused.to_string()));
        }
        Ok(self.work.step_all(input, transactions)?.err())
    }

    /// Reads on from where the tasks are; streams only where reference topics are read to their end.
    fn read(&self) -> Result<(), SessionError> {
        let mut from = TopicPartitionList::new();
        for (&partition, state) in &self.work.tasks {
            for (source, next) in self.app.sources().iter().zip(&state.next) {
                if state.bootstrap.is_empty() || source.kind == SourceKind::Reference {
                    from.add_partition_offset(source.topic, partition, Offset::Offset(*next))?;
                }
            }
        }
        Ok(self.consumer.read(&from)?)
    }

    /// Adds what was committed of `partitions` to the figures.
    pub fn count(&mut self, partitions: &[i32], memory: &mut AppMemory, status: &Status) {
        for &partition in partitions {
            let Some(state) = self.work.tasks.get_mut(&partition) else { continue };
            let now = Told::of(&*state.task);
            let total = memory.tasks.entry(partition).or_default();
            total.records += now.totals.records - state.told.totals.records;
            total.bytes += now.totals.bytes - state.told.totals.bytes;
            total.dead += now.totals.dead - state.told.totals.dead;
            for ((total, now), told) in memory.jobs.iter_mut().zip(&now.jobs).zip(&state.told.jobs) {
                total.records += now.records - told.records;
                total.filtered += now.filtered - told.filtered;
                total.late += now.late - told.late;
                total.emitted += now.emitted - told.emitted;
                total.violations += now.violations - told.violations;
                total.windowed += now.windowed - told.windowed;
                total.tardy += now.tardy - told.tardy;
                for ((name, now), (_, told)) in now.by_name.iter().zip(told.by_name.iter()) {
                    if now > told {
                        *total.violations_by_name.entry(name.to_owned()).or_default() += now - told;
                    }
                }
            }
            state.told = now;
        }
        self.caught_up(status);
    }

    /// Tells how the app came back, if it has just caught up.
    fn caught_up(&mut self, status: &Status) {
        let (app, tasks) = (self.app.name(), &self.work.tasks);
        let next = |partition: i32, topic: &str| {
            let offsets = tasks.get(&partition)?.task.offsets();
            offsets.iter().find(|(known, _)| *known == topic).map(|(_, next)| *next)
        };
        if let Some(phases) = self.comeback.committed(next, self.work.newest()) {
            tracing::info!(app, ?phases, "caught up");
            status.caught_up(app, phases);
        }
    }

    /// The figures as they are now, by partition; those of the jobs are brought up to date in `memory`.
    pub fn figures(&mut self, memory: &mut AppMemory) -> BTreeMap<i32, telemetry::Task> {
        for job in &mut memory.jobs {
            (job.pending, job.partial_matches_dropped) = (0, 0);
        }
        let mut tasks = BTreeMap::new();
        for (index, (&partition, state)) in self.work.tasks.iter_mut().enumerate() {
            let mut figures = memory.tasks.get(&partition).cloned().unwrap_or_default();
            figures.partition = partition;
            figures.watermark_ms = state.task.watermark().get();
            figures.idle = state.task.is_idle();
            figures.state_entries = state.task.entries() as u64;
            figures.offset = state.task.offsets().first().map_or(0, |(_, offset)| *offset);
            tasks.insert(partition, figures);
            for (total, job) in memory.jobs.iter_mut().zip(state.task.jobs()) {
                total.pending += job.pending;
                if index == 0 || job.params_version < total.params_version {
                    total.params_version = job.params_version;
                    total.params = job.params;
                }
            }
            state.task.patterns(&mut |name, pattern| {
                if let Some(total) = memory.jobs.iter_mut().find(|job| job.name == name) {
                    total.partial_matches_dropped += pattern.counts.dropped;
                }
            });
        }
        tasks
    }
}

/// Whether the reference topics of a task have just been read to where its streams may start.
fn bootstrapped(state: &mut TaskState) -> bool {
    if state.bootstrap.is_empty() {
        return false;
    }
    let read = state.task.offsets();
    state.bootstrap.retain(|(topic, end)| !read.iter().any(|(t, offset)| t == topic && offset >= end));
    state.bootstrap.is_empty()
}
