//! The tasks of a session and the transaction that their work goes into.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use millrace_core::invariant::Stats;
use millrace_core::task::{Source, SourceKind, Totals};
use millrace_core::{Effect, Effects, Input, Record, Task};
use millrace_wire::result::header;
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::{Offset, TopicPartitionList};

use super::restart::SessionError;
use super::transaction::Transactions;

/// A task with what the runtime keeps about it.
pub struct TaskState {
    /// The state machine.
    pub task: Box<dyn Task>,
    /// Offset behind its last committed changelog record.
    pub changelog_offset: i64,
    /// Largest checkpoint id so far.
    pub checkpoint_id: u64,
    /// When the next checkpoint is due.
    pub next_checkpoint: Instant,
    /// Whether anything was committed since the last checkpoint.
    pub progressed: bool,
    /// What of it is in the process's totals.
    pub told: Told,
    /// Where reference topics must be read to before the streams start: source and offset.
    pub bootstrap: Vec<(&'static str, i64)>,
    /// Whether it has taken an input in the open transaction.
    pub touched: bool,
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

/// The tasks and their transaction.
pub struct Tasks {
    app: &'static str,
    sources: &'static [Source],
    changelog: String,
    /// By partition.
    pub tasks: BTreeMap<i32, TaskState>,
    /// The open transaction.
    pub transactions: Transactions,
    effects: Effects,
    /// Create times of the stream records in the open transaction, epoch ms.
    created: Vec<i64>,
}

/// What a commit did.
pub struct Committed {
    /// Create times of its stream records, epoch ms.
    pub created: Vec<i64>,
    /// Partitions that it moved.
    pub partitions: Vec<i32>,
}

impl Tasks {
    /// Without tasks.
    pub fn new(app: &'static str, sources: &'static [Source], transactions: Transactions) -> Self {
        Self {
            app,
            sources,
            changelog: topic::changelog(app),
            tasks: BTreeMap::new(),
            transactions,
            effects: Effects::default(),
            created: Vec::new(),
        }
    }

    /// Processes a source record.
    ///
    /// # Errors
    /// What came of it can't be sent.
    pub fn process(&mut self, message: &BorrowedMessage<'_>) -> Result<(), SessionError> {
        let Some(state) = self.tasks.get_mut(&message.partition()) else {
            // Fetched before the partition went away; its next owner reads it again.
            return Ok(());
        };
        let Some(number) = self.sources.iter().position(|source| source.topic == message.topic()) else {
            return Ok(());
        };
        self.transactions.open()?;
        state.touched = true;
        if self.sources.get(number).is_some_and(|source| source.kind == SourceKind::Stream) {
            self.created.extend(message.timestamp().to_millis());
        }
        let record =
            Record { source: number, offset: message.offset(), key: message.key(), value: message.payload() };
        // Records are never refused: a bad one is an effect.
        let _ = state.task.step(Input::Record(record), &mut self.effects);
        self.perform(Some(message))
    }

    /// Gives every task an input that is no record.
    ///
    /// # Errors
    /// What came of it can't be sent.
    pub fn step_all(&mut self, input: Input<'_>) -> Result<Result<(), String>, SessionError> {
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
            self.transactions.open()?;
            self.perform(None)?;
        }
        Ok(refused)
    }

    /// Sends what the steps asked for.
    fn perform(&mut self, message: Option<&BorrowedMessage<'_>>) -> Result<(), SessionError> {
        if self.effects.is_empty() {
            return Ok(());
        }
        for effect in self.effects.iter() {
            match effect {
                Effect::Emit { topic, key, value } => {
                    let record =
                        BaseRecord::to(topic).key(self.effects.bytes(key)).payload(self.effects.bytes(value));
                    self.transactions.send(record)?;
                }
                Effect::Late { job, watermark } => {
                    let job = format!("{}/{job}", self.app);
                    let text = format!("all of its windows were closed at the watermark {watermark}");
                    side_output(&mut self.transactions, topic::LATE_EVENTS, message, &job, "late", &text)?;
                }
                Effect::Dead { reason } => {
                    side_output(
                        &mut self.transactions,
                        topic::DEAD_LETTERS,
                        message,
                        self.app,
                        "malformed",
                        reason,
                    )?;
                }
            }
        }
        self.effects.clear();
        Ok(())
    }

    /// Commits the open transaction, if there is one: results, changelog and offsets, all or nothing.
    ///
    /// # Errors
    /// Nothing is committed.
    pub fn commit<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<Committed>, SessionError> {
        if self.transactions.opened().is_none() {
            return Ok(None);
        }
        let mut offsets = TopicPartitionList::new();
        let mut partitions = Vec::new();
        for (&partition, state) in &mut self.tasks {
            if !std::mem::take(&mut state.touched) {
                continue;
            }
            partitions.push(partition);
            for (topic, offset) in state.task.offsets() {
                offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
            }
            let (transactions, changelog) = (&mut self.transactions, &self.changelog);
            let mut result = Ok(());
            state.task.changes(&mut |key, value| {
                let mut record = BaseRecord::to(changelog).partition(partition).key(key);
                record.payload = value;
                if result.is_ok() {
                    result = transactions.send(record);
                }
            });
            result?;
        }
        let changelog: HashMap<i32, i64> = self.transactions.commit(consumer, &offsets, go_on)?;
        for (partition, offset) in changelog {
            if let Some(state) = self.tasks.get_mut(&partition) {
                state.changelog_offset = offset;
                state.progressed = true;
            }
        }
        Ok(Some(Committed { created: std::mem::take(&mut self.created), partitions }))
    }

    /// Takes back the open transaction. Returns whether there was one: then the tasks are ahead of what is committed,
    /// and useless.
    pub fn abort(&mut self) -> bool {
        self.created.clear();
        self.effects.clear();
        self.transactions.abort()
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
