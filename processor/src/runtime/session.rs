//! One life of the producer, and of the consumers and tasks whose work it commits.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use millrace_core::Input;
use millrace_service::clock;
use millrace_service::control::{self, Versioned};
use millrace_wire::control::Command;
use millrace_wire::telemetry::Ack;
use millrace_wire::topic;

use super::assignment::Change;
use super::environment::Environment;
use super::member::{self, Member};
use super::restart::{SessionError, of_app};
use super::transaction::Transactions;
use crate::store::TaskStore;

/// How long to wait for a record when there is none; commands and timers are looked at in between.
const IDLE_WAIT: Duration = Duration::from_millis(10);
/// A worker is behind if the newest record of a transaction is older than this.
const BEHIND_MS: i64 = 2_000;
/// So many times longer are transactions then.
const CATCH_UP: u32 = 5;
/// A transaction is open for so many times as long as commits take, if brokers have enough to do: they get fewer and larger
/// ones then.
const PER_COMMIT: f64 = 10.0;
/// Commits that take that many times as long show it; the sooner they are done, the shorter are transactions.
const QUICK: Duration = Duration::from_millis(7);
/// The longest that this makes of it.
const LONGEST: Duration = Duration::from_secs(2);
/// How long a transaction may be open: what Kafka waits for a worker that is gone.
const TRANSACTION: Duration = Duration::from_secs(15);
/// How long Kafka may take to give the commands so far, before the next try.
const CONTROL: Duration = Duration::from_secs(10);
/// How often figures are handed to telemetry.
const FIGURES_EVERY: Duration = Duration::from_millis(150);

/// One life of the producer, and of the consumers and tasks whose work it commits.
pub struct Session<'a, 'e> {
    env: &'e mut Environment<'a>,
    transactions: Transactions,
    members: Vec<Member>,
    /// How long commits take: a moving average.
    commit: Duration,
    figures_told: Instant,
}

fn joined<T>(ended: std::thread::Result<Result<T, SessionError>>) -> Result<T, SessionError> {
    ended.unwrap_or_else(|_| Err(SessionError::Kafka(anyhow!("a thread of the session's start panicked"))))
}

impl<'a, 'e> Session<'a, 'e> {
    /// Connects. This ends a transaction that a former life has left open.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub fn start(env: &'e mut Environment<'a>) -> Result<Self, SessionError> {
        // Ending what was left open takes a second, in which the apps join their groups, the other clients connect and the
        // commands so far are read. What is committed is asked for only afterwards.
        let mut members = Vec::new();
        Self::start_apps(env, &mut members)?;
        let apps: Vec<_> = env.apps.iter().map(|memory| memory.app.name()).collect();
        let changelogs: Vec<_> = apps.iter().map(|app| topic::changelog(app)).collect();
        let (kafka, component, shutdown) = (&env.args.kafka, env.args.component(), env.shutdown);
        let follow = |send: mpsc::Sender<Versioned>| {
            let apply = move |command| {
                // The worker is gone only when the process stops.
                let _ = send.send(command);
            };
            control::follow(kafka, component, CONTROL, shutdown.clone(), apply).map_err(SessionError::Kafka)
        };
        let unheard = env.unheard.clone();
        let (heard, started) = std::thread::scope(|scope| {
            let started = scope.spawn(|| Transactions::start(kafka, component, &apps, TRANSACTION));
            let heard = unheard.map(|send| scope.spawn(move || follow(send)));
            let connected = env.clients().and_then(|clients| clients.connect(&changelogs));
            let started = joined(started.join());
            (heard.map(|heard| joined(heard.join())), connected.and(started))
        });
        // These are heard once, whatever becomes of the rest.
        if let Some(heard) = heard {
            for command in heard? {
                env.remember(command);
            }
            env.unheard = None;
        }
        let transactions = started?;
        Ok(Self { env, transactions, members, commit: Duration::ZERO, figures_told: Instant::now() })
    }

    /// Works until asked to stop.
    ///
    /// # Errors
    /// Whatever ends the session. What was not committed has been seen by no one.
    pub fn run(mut self) -> Result<(), SessionError> {
        let result = self.work();
        if self.transactions.abort() {
            self.env.status.aborted();
        }
        if self.env.shutdown.requested() {
            member::leave(&self.members);
        }
        result
    }

    fn work(&mut self) -> Result<(), SessionError> {
        loop {
            if self.env.shutdown.requested() {
                return self.commit();
            }
            Self::start_apps(self.env, &mut self.members)?;
            self.apply_commands()?;
            self.poll()?;
            if self.commit_due() {
                self.commit()?;
                self.checkpoints();
            }
            if self.figures_told.elapsed() >= FIGURES_EVERY {
                self.tell_figures();
            }
        }
    }

    /// Starts the apps that do not run and may.
    fn start_apps(env: &mut Environment<'_>, members: &mut Vec<Member>) -> Result<(), SessionError> {
        for number in 0..env.apps.len() {
            let Some(memory) = env.apps.get_mut(number) else { continue };
            if memory.is_due() && !members.iter().any(|member| member.number == number) {
                memory.starts();
                let app = memory.app;
                members.push(Member::join(env, number, app)?);
            }
        }
        Ok(())
    }

    /// What is left of the commit interval; `None`: nothing is to be committed.
    fn left(transactions: &Transactions, interval: Duration) -> Option<Duration> {
        transactions.opened().map(|opened| interval.saturating_sub(opened.elapsed()))
    }

    fn commit_due(&self) -> bool {
        Self::left(&self.transactions, self.commit_interval()).is_some_and(|left| left.is_zero())
    }

    /// The configured one while somebody may wait for the results and the brokers keep up. Records that have waited for
    /// seconds are processed in fewer and larger transactions: state that changes again and again is written less often.
    fn commit_interval(&self) -> Duration {
        let newest = self.members.iter().filter_map(|member| member.work.newest()).max();
        let behind = newest.is_some_and(|newest| clock::now_ms() - newest > BEHIND_MS);
        let configured = self.env.args.commit_interval() * if behind { CATCH_UP } else { 1 };
        let load = (self.commit.as_secs_f64() / QUICK.as_secs_f64()).clamp(1.0, PER_COMMIT);
        configured.max(self.commit.mul_f64(load).min(LONGEST))
    }

    /// Processes what is there, of one app after the other; waits a moment if there is nothing.
    fn poll(&mut self) -> Result<(), SessionError> {
        let interval = self.commit_interval();
        let mut found = false;
        for number in 0..self.members.len() {
            let Some(member) = self.members.get_mut(number) else { continue };
            // The processing-time clock moves between records, never within one.
            let clock = Input::ProcessingTime(clock::now_ms());
            let (app, transactions) = (member.name(), &mut self.transactions);
            let enough = |transactions: &Transactions| {
                Self::left(transactions, interval).is_some_and(|left| left.is_zero())
            };
            found |= of_app(app, || {
                let _ = member.work.step_all(clock, transactions)?;
                member.poll(transactions, enough)
            })?;
            let changes = member.changes();
            self.assignment(number, changes)?;
        }
        // By then, the markers of the one before are written, as a rule.
        self.transactions.ask_ahead(interval / 2);
        let waiting = Instant::now();
        if !found {
            let left = Self::left(&self.transactions, interval).unwrap_or(IDLE_WAIT);
            std::thread::park_timeout(left.min(IDLE_WAIT));
        }
        let (idle, backpressured) = (waiting.elapsed(), self.transactions.take_backpressured());
        if !found || !backpressured.is_zero() {
            self.env.status.waited(idle, backpressured);
        }
        Ok(())
    }

    /// Puts new parameters in force, between two commits.
    fn apply_commands(&mut self) -> Result<(), SessionError> {
        while let Ok(command) = self.env.commands.try_recv() {
            let (id, version) = (command.record.id.clone(), command.version);
            if let Command::Checkpoint { app } = &command.record.command {
                self.commit()?;
                if self.checkpoint_now(app) {
                    self.env.status.ack(Ack { id, version, at_ms: clock::now_ms(), refused: None });
                }
                continue;
            }
            let Some((app, job)) = self.env.remember(command) else { continue };
            self.commit()?;
            let member = self.members.iter_mut().find(|member| member.number == app);
            let (Some(member), Some(memory)) = (member, self.env.apps.get_mut(app)) else {
                // The app does not run; it gets them when it is started.
                continue;
            };
            let transactions = &mut self.transactions;
            let refused = of_app(member.name(), || member.apply(memory, &job, transactions))?;
            if refused.is_some() {
                memory.params.remove(&job);
            }
            self.commit()?;
            self.tell_figures();
            self.env.status.ack(Ack { id, version, at_ms: clock::now_ms(), refused });
        }
        Ok(())
    }

    /// Makes the checkpoints of an app due. Returns whether it runs here.
    fn checkpoint_now(&mut self, app: &str) -> bool {
        let apps = &self.env.apps;
        let is_it = |member: &&mut Member| apps.get(member.number).is_some_and(|m| m.app.name() == app);
        let Some(member) = self.members.iter_mut().find(is_it) else { return false };
        member.work.tasks.values_mut().for_each(|state| state.next_checkpoint = Instant::now());
        self.checkpoints();
        true
    }

    /// Takes notice of partitions that came or went.
    fn assignment(&mut self, number: usize, changes: Vec<Change>) -> Result<(), SessionError> {
        for change in changes {
            // A client gives back unasked when a topic changes. Whatever was done since belongs to no generation that it knows.
            let asked = self.members.get(number).is_none_or(|member| member.generation.is_none());
            if matches!(change, Change::Assigned(..)) && !asked {
                return Err(SessionError::Kafka(anyhow!(
                    "partitions were assigned while others were not given back"
                )));
            }
            // What is done is committed before a partition goes. If the group gave it away without waiting for this worker, it
            // refuses, and the next owner does it. And what the other apps have done does not wait for a restore.
            self.commit()?;
            let Some(member) = self.members.get_mut(number) else { continue };
            match change {
                Change::Failed(error) => return Err(error.into()),
                Change::Revoked => member.revoked(self.env)?,
                Change::Assigned(partitions, generation) => {
                    member.generation = Some(generation);
                    if let Some(memory) = self.env.apps.get(member.number) {
                        let (env, transactions) = (&*self.env, &mut self.transactions);
                        of_app(member.name(), || member.assigned(env, memory, &partitions, transactions))?;
                    }
                    self.tell_figures();
                }
            }
        }
        Ok(())
    }

    /// Commits the open transaction, if there is one: results, changelogs and offsets of all apps, all or nothing.
    fn commit(&mut self) -> Result<(), SessionError> {
        if self.transactions.opened().is_none() {
            return Ok(());
        }
        let started = Instant::now();
        let mut moved = Vec::new();
        for (number, member) in self.members.iter_mut().enumerate() {
            let transactions = &mut self.transactions;
            if let Some(prepared) = of_app(member.name(), || member.work.prepare(transactions))? {
                moved.push((number, prepared));
            }
        }
        let mut offsets = Vec::new();
        for (number, prepared) in &moved {
            let generation = self.members.get(*number).and_then(|member| member.generation.as_ref());
            let generation = generation
                .ok_or_else(|| SessionError::Kafka(anyhow!("there are tasks without partitions")))?;
            offsets.push((generation, prepared.offsets.clone()));
        }
        let (status, shutdown) = (&**self.env.status, self.env.shutdown);
        status.committing();
        let waiting = Instant::now();
        let committed = self.transactions.commit(&offsets, &|| !shutdown.requested());
        status.commit_ended();
        // For brokers, as when they take no more records.
        status.waited(Duration::ZERO, waiting.elapsed());
        let (sent, changelogs) = committed?;
        let mut created = Vec::new();
        for (number, prepared) in moved {
            let Some(member) = self.members.get_mut(number) else { continue };
            for ((_, partition), offset) in changelogs.iter().filter(|((app, _), _)| *app == member.number) {
                member.work.committed(*partition, *offset)?;
            }
            if let Some(memory) = self.env.apps.get_mut(member.number) {
                member.count(&prepared.partitions, memory, self.env.status);
            }
            created.append(&mut member.work.take_created());
        }
        let now = clock::now_ms();
        // One that is slow is no trend.
        self.commit = (self.commit * 3 + started.elapsed().min(self.commit * 2 + QUICK)) / 4;
        let latencies = created.iter().map(|created| u64::try_from(now - created).unwrap_or(0) * 1_000);
        self.env.status.committed(started.elapsed(), sent, latencies);
        Ok(())
    }

    /// Hands the figures to telemetry.
    fn tell_figures(&mut self) {
        self.figures_told = Instant::now();
        self.env.status.set_opened(self.transactions.opened());
        for member in &mut self.members {
            let Some(memory) = self.env.apps.get_mut(member.number) else { continue };
            let tasks = member.figures(memory);
            self.env.status.set_figures(memory.app.name(), tasks, memory.jobs.clone());
        }
    }

    /// Begins the checkpoints that are due. Called right after a commit: the state is what is committed.
    fn checkpoints(&mut self) {
        let interval = self.env.args.checkpoint_interval();
        for member in &mut self.members {
            let Some(memory) = self.env.apps.get(member.number) else { continue };
            for (&partition, state) in &mut member.work.tasks {
                if !state.progressed || state.next_checkpoint > Instant::now() {
                    continue;
                }
                let app = memory.app.name();
                let (task, offset) = (&mut *state.task, state.changelog_offset);
                let whole = state.store.as_ref().map(TaskStore::whole);
                let Some(write) = state.checkpoints.begin(task, whole, app, partition, offset) else {
                    // The one before is still being written: what has changed goes on being collected.
                    continue;
                };
                state.next_checkpoint = Instant::now() + interval;
                state.progressed = false;
                let status = self.env.status.clone();
                self.env.runtime.spawn(async move {
                    status.checkpoint(write.await);
                });
            }
        }
    }
}
