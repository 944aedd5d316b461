//! The tasks of an app: what they are given, and what of it goes into the open transaction.

use std::collections::BTreeMap;
use std::time::Instant;

use millrace_core::invariant::Stats;
use millrace_core::task::{Source, Totals};
use millrace_core::{Application, Effect, Effects, Input, Record, Task};
use millrace_service::clock;
use millrace_wire::ledger::{self, Entry, JobCount};
use millrace_wire::result::header;
use millrace_wire::topic;
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};

use super::restart::SessionError;
use super::transaction::Transactions;
use crate::checkpoint::Collector;
use crate::store::TaskStore;

/// A task with what the runtime keeps about it.
pub struct TaskState {
    /// The state machine.
    pub task: Box<dyn Task>,
    /// Offset behind its last committed changelog record.
    pub changelog_offset: i64,
    /// Its checkpoints.
    pub checkpoints: Collector,
    /// Where its entries are, if they are on disk.
    pub store: Option<TaskStore>,
    /// When the next checkpoint is due.
    pub next_checkpoint: Instant,
    /// Whether anything was committed since the last checkpoint.
    pub progressed: bool,
    /// What of it is in the process's totals.
    pub told: Told,
    /// Where reference topics must be read to before the streams start: source and offset.
    pub bootstrap: Vec<(&'static str, i64)>,
    /// Next offset of each source.
    pub next: Vec<i64>,
    /// Whether it has taken an input in the open transaction.
    pub touched: bool,
}

/// The next offset of each source, as the state of a task has it.
pub fn next_offsets(task: &dyn Task, sources: &[Source]) -> Vec<i64> {
    let known = task.offsets();
    let next =
        |source: &Source| known.iter().find(|(topic, _)| *topic == source.topic).map_or(0, |(_, next)| *next);
    sources.iter().map(next).collect()
}

/// Figures of a task at a commit.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Of the task.
    pub totals: Totals,
    /// Of its jobs.
    pub jobs: Vec<Stats>,
}

impl Told {
    /// The figures now.
    pub fn of(task: &dyn Task) -> Self {
        Self { totals: task.totals(), jobs: task.jobs().into_iter().map(|job| job.stats).collect() }
    }
}

/// The tasks of an app.
pub struct Tasks {
    app: &'static dyn Application,
    name: &'static str,
    component: String,
    sources: &'static [Source],
    changelog: String,
    /// By partition.
    pub tasks: BTreeMap<i32, TaskState>,
    effects: Effects,
    /// Create times of the stream records in the open transaction, epoch ms.
    created: Vec<i64>,
    /// The newest of them.
    newest: Option<i64>,
}

/// What the tasks have put into the open transaction.
pub struct Prepared {
    /// Offsets to commit with it.
    pub offsets: TopicPartitionList,
    /// Partitions that it moves.
    pub partitions: Vec<i32>,
}

impl Tasks {
    /// Without tasks.
    pub fn new(app: &'static dyn Application, component: &str) -> Self {
        let name = app.name();
        Self {
            app,
            name,
            component: component.to_owned(),
            sources: app.sources(),
            changelog: topic::changelog(name),
            tasks: BTreeMap::new(),
            effects: Effects::default(),
            created: Vec::new(),
            newest: None,
        }
    }

    /// Processes a source record.
    ///
    /// # Errors
    /// What came of it can't be sent.
    pub fn process(
        &mut self,
        message: &BorrowedMessage<'_>,
        transactions: &mut Transactions,
    ) -> Result<(), SessionError> {
        let Some(state) = self.tasks.get_mut(&message.partition()) else {
            // Fetched before the partition went away; its next owner reads it again.
            return Ok(());
        };
        // Most apps have one source, and the client takes its time to tell a topic's name.
        let number = match self.sources {
            [_] => Some(0),
            several => several.iter().position(|source| source.topic == message.topic()),
        };
        let Some(number) = number else { return Ok(()) };
        let Some(next) = state.next.get_mut(number) else { return Ok(()) };
        if message.offset() < *next {
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            tracing::warn!(
                topic,
                partition,
                offset,
                next,
                "the client hands out a record again: passed over"
            );
            return Ok(());
        }
        *next = message.offset() + 1;
        transactions.open();
        state.touched = true;
        if self.sources.get(number).is_some_and(|source| source.kind.is_stream()) {
            let created = message.timestamp().to_millis();
            self.created.extend(created);
            self.newest = self.newest.max(created);
        }
        let record =
            Record { source: number, offset: message.offset(), key: message.key(), value: message.payload() };
        // Records are never refused: a bad one is an effect.
        let _ = state.task.step(Input::Record(record), &mut self.effects);
        self.perform(Some(message), transactions)
    }

    /// Gives every task an input that is no record.
    ///
    /// # Errors
    /// What came of it can't be sent.
    pub fn step_all(
        &mut self,
        input: Input<'_>,
        transactions: &mut Transactions,
    ) -> Result<Result<(), String>, SessionError> {
        let mut refused = Ok(());
        let keep = matches!(input, Input::Parameters { .. });
        for state in self.tasks.values_mut() {
            let before = self.effects.iter().count();
            if let Err(error) = state.task.step(input, &mut self.effects) {
                refused = Err(error.to_string());
            }
            state.touched |= keep || self.effects.iter().count() != before;
        }
        if !self.effects.is_empty() || (keep && !self.tasks.is_empty()) {
            transactions.open();
            self.perform(None, transactions)?;
        }
        Ok(refused)
    }

    /// Sends what the steps asked for.
    fn perform(
        &mut self,
        message: Option<&BorrowedMessage<'_>>,
        transactions: &mut Transactions,
    ) -> Result<(), SessionError> {
        if self.effects.is_empty() {
            return Ok(());
        }
        for effect in self.effects.iter() {
            match effect {
                Effect::Emit { topic, key, value } => {
                    let (key, value) = (self.effects.bytes(key), self.effects.bytes(value));
                    transactions.send(BaseRecord::to(self.app.output(topic)).key(key).payload(value))?;
                }
                Effect::Marker { topic, partition, value } => {
                    let marker = BaseRecord::<[u8], _>::to(self.app.output(topic)).partition(*partition);
                    transactions.send(marker.payload(self.effects.bytes(value)))?;
                }
                Effect::Late { job, watermark } => {
                    let job = format!("{}/{job}", self.name);
                    let text = format!("all of its windows were closed at the watermark {watermark}");
                    side_output(transactions, topic::LATE_EVENTS, message, &job, "late", &text)?;
                }
                Effect::Dead { reason } => {
                    side_output(transactions, topic::DEAD_LETTERS, message, self.name, "malformed", reason)?;
                }
            }
        }
        self.effects.clear();
        Ok(())
    }

    /// Writes what changed to the changelog, and what has become of the records to the ledger, within the open
    /// transaction. `None`: nothing has moved.
    ///
    /// # Errors
    /// It can't be sent.
    pub fn prepare(&mut self, transactions: &mut Transactions) -> Result<Option<Prepared>, SessionError> {
        for state in self.tasks.values_mut().filter(|state| state.touched) {
            state.task.flush(&mut self.effects);
        }
        self.perform(None, transactions)?;
        let mut prepared = Prepared { offsets: TopicPartitionList::new(), partitions: Vec::new() };
        for (&partition, state) in &mut self.tasks {
            if !std::mem::take(&mut state.touched) {
                continue;
            }
            prepared.partitions.push(partition);
            // Also where nothing has been read: without an offset, the group would not be asked whether this is its member.
            for (source, next) in self.sources.iter().zip(&state.next) {
                prepared.offsets.add_partition_offset(source.topic, partition, Offset::Offset(*next))?;
            }
            let changelog = &self.changelog;
            let mut result = Ok(());
            let TaskState { task, checkpoints, store, .. } = state;
            if let Some(store) = &store {
                store.check().map_err(SessionError::app(self.name))?;
            }
            task.changes(&mut |key, value| {
                checkpoints.put(key, value);
                if let Some(store) = store.as_mut() {
                    store.put(key, value);
                }
                let mut record = BaseRecord::to(changelog).partition(partition).key(key);
                record.payload = value;
                if result.is_ok() {
                    result = transactions.send(record);
                }
            });
            result?;
            let entry = entry(self.name, &self.component, self.sources, partition, &*state.task);
            let (key, value) = (ledger::key(self.name, partition), serde_json::to_vec(&entry));
            let value = value.map_err(SessionError::app(self.name))?;
            transactions.send(BaseRecord::to(topic::LEDGER).key(&key).payload(&value))?;
        }
        Ok((!prepared.partitions.is_empty()).then_some(prepared))
    }

    /// The transaction is committed: the changelog of a task ends at `offset`. What it has told can be on disk now, and must
    /// be before it takes another input.
    ///
    /// # Errors
    /// The disk.
    pub fn committed(&mut self, partition: i32, offset: i64) -> Result<(), SessionError> {
        let Some(state) = self.tasks.get_mut(&partition) else { return Ok(()) };
        state.changelog_offset = offset;
        state.progressed = true;
        match &mut state.store {
            Some(store) => store.write(Some(offset)).map_err(SessionError::app(self.name)),
            None => Ok(()),
        }
    }

    /// The create time of the newest stream record in the open transaction, epoch ms.
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// The create times of the stream records since the last call, epoch ms.
    pub fn take_created(&mut self) -> Vec<i64> {
        self.newest = None;
        std::mem::take(&mut self.created)
    }
}

/// What has become of the records of a task.
pub fn entry(app: &str, component: &str, sources: &[Source], partition: i32, task: &dyn Task) -> Entry {
    let is_stream =
        |topic: &str| sources.iter().any(|source| source.topic == topic && source.kind.is_stream());
    let streams = task.offsets().into_iter().filter(|(topic, _)| is_stream(topic));
    let (totals, jobs) = (task.totals(), task.jobs());
    Entry {
        v: ledger::FORMAT,
        app: app.to_owned(),
        partition,
        component: component.to_owned(),
        at_ms: clock::now_ms(),
        streams: streams.map(|(topic, next)| (topic.to_owned(), next)).collect(),
        records: totals.records,
        dead: totals.dead,
        jobs: jobs
            .into_iter()
            .map(|job| JobCount {
                job: job.name.to_owned(),
                records: job.stats.records,
                filtered: job.stats.filtered,
                late: job.stats.late,
                dead: job.stats.dead,
                pending: job.pending,
                done: job.stats.done,
                emitted: job.stats.emitted,
            })
            .collect(),
    }
}

/// Sends the record of this step to a side output, its bytes as they are.
fn side_output(
    transactions: &mut Transactions,
    topic: &str,
    message: Option<&BorrowedMessage<'_>>,
    job: &str,
    kind: &str,
    text: &str,
) -> Result<(), SessionError> {
    let Some(message) = message else {
        tracing::error!(topic, job, kind, text, "a side output without a record: a bug of the engine");
        return Ok(());
    };
    let (partition, offset) = (message.partition().to_string(), message.offset().to_string());
    let mut headers = OwnedHeaders::new_with_capacity(6);
    for (key, value) in [
        (header::TOPIC, message.topic()),
        (header::PARTITION, &partition),
        (header::OFFSET, &offset),
        (header::JOB, job),
        (header::ERROR_KIND, kind),
        (header::ERROR_TEXT, text),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
    (record.key, record.payload) = (message.key(), message.payload());
    transactions.send(record)
}
