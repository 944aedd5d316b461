//! Group membership: callbacks of the client turned into messages.

use std::ffi::{CStr, c_char};
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::bindings;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientContext, TopicPartitionList};

/// More than can have happened to an assignment between two looks.
const EVENTS: usize = 8;

/// What happened to the assignment.
pub enum Change {
    /// These partitions are ours.
    Assigned(Vec<i32>, Generation),
    /// Nothing is ours once we have [given it back](Membership::give_back). The group waits for that, unless
    /// it holds this member for dead or a topic has changed.
    Revoked,
    /// The client did not take over what the group has assigned.
    Failed(KafkaError),
}

/// The generation of the group in which partitions are ours. Offsets are committed with it: then the group refuses those of
/// partitions that are somebody else's. The client's own is ahead of it as soon as it has joined again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The group's id.
    pub group: String,
    /// Its number; -1: none.
    pub generation: i32,
    /// The group's name for this member in it.
    pub member: String,
    /// The member's own name.
    pub instance: Option<String>,
}

impl Generation {
    /// Of somebody who is in no group, and commits offsets of one that has no members.
    pub fn nobody(group: String) -> Self {
        Self { group, generation: -1, member: String::new(), instance: None }
    }

    /// That the client is in now; `None`: in none.
    #[expect(unsafe_code, reason = "rdkafka hands it out as a whole only, for its own producer")]
    fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        let text = |text: *const c_char| {
            // SAFETY: these are strings of librdkafka that end with 0 and live as long as the metadata, which outlives this call.
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        // SAFETY: the client lives as long as the reference to it; what it returns is a copy that is ours until destroyed below.
        let metadata = unsafe { bindings::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
        if metadata.is_null() {
            return None;
        }
        // SAFETY: `metadata` is valid until it is destroyed, once, after its last use.
        unsafe {
            let found = Self {
                group: text(bindings::rd_kafka_consumer_group_metadata_group_id(metadata))
                    .unwrap_or_default(),
                generation: bindings::rd_kafka_consumer_group_metadata_generation_id(metadata),
                member: text(bindings::rd_kafka_consumer_group_metadata_member_id(metadata))
                    .unwrap_or_default(),
                instance: text(bindings::rd_kafka_consumer_group_metadata_group_instance_id(metadata)),
            };
            bindings::rd_kafka_consumer_group_metadata_destroy(metadata);
            (found.generation >= 0 && !found.member.is_empty()).then_some(found)
        }
    }
}

/// Collects changes while the consumer is polled, on the polling thread.
#[derive(Default)]
pub struct Assignment {
    changes: Mutex<Vec<Change>>,
    leaving: AtomicBool,
    /// The partitions were given back since.
    left: AtomicBool,
    later: bool,
    /// Partitions were assigned, and the consumer was not told yet from where to read them.
    unanswered: AtomicBool,
}

impl Assignment {
    /// Nothing is read of new partitions until the consumer is told from where, by `assign`: it need not ask for offsets then,
    /// which it is not told while a transaction has newer ones.
    pub fn later() -> Self {
        Self { later: true, ..Self::default() }
    }

    fn push(&self, change: Change) {
        if let Ok(mut changes) = self.changes.lock() {
            changes.push(change);
        }
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        // Before anything else: as long as this is not answered, the group has this generation.
        let Some(generation) = Generation::of(consumer) else {
            return Err(KafkaError::Rebalance(RDKafkaErrorCode::UnknownGroup));
        };
        if !self.later {
            consumer.assign(list)?;
        }
        self.unanswered.store(self.later, Ordering::Relaxed);
        let mut partitions: Vec<i32> = list.elements().iter().map(|e| e.partition()).collect();
        partitions.sort_unstable();
        partitions.dedup();
        self.push(Change::Assigned(partitions, generation));
        Ok(())
    }
}

impl ClientContext for Assignment {}

impl ConsumerContext for Assignment {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let leaving = self.leaving.load(Ordering::Relaxed);
        let done = match event {
            // A client that ends waits for no answer to this, and may not hear one.
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS if leaving => Ok(()),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, partitions),
            _ if leaving => {
                let given_back = consumer.unassign();
                self.left.store(true, Ordering::Relaxed);
                given_back
            }
            _ => {
                self.push(Change::Revoked);
                Ok(())
            }
        };
        if let Err(error) = done {
            self.push(Change::Failed(error));
        }
    }
}

/// A consumer in a group, which keeps its partitions until it has finished with them.
pub struct Membership(BaseConsumer<Assignment>);

impl Membership {
    /// Of a consumer.
    pub fn new(consumer: BaseConsumer<Assignment>) -> Self {
        Self(consumer)
    }

    /// The changes since the last call, as far as the consumer has been polled.
    pub fn changes(&self) -> Vec<Change> {
        self.0.context().changes.lock().map(|mut changes| std::mem::take(&mut *changes)).unwrap_or_default()
    }

    /// Answers [`Change::Revoked`]: others may have the partitions.
    ///
    /// # Errors
    /// The client refuses.
    pub fn give_back(&self) -> KafkaResult<()> {
        self.0.unassign()
    }

    /// Answers [`Change::Assigned`] of [`Assignment::later`]: reads these partitions, from these offsets.
    ///
    /// # Errors
    /// The client refuses.
    pub fn read(&self, from: &TopicPartitionList) -> KafkaResult<()> {
        self.0.context().unanswered.store(false, Ordering::Relaxed);
        self.0.assign(from)
    }

    /// Begins to leave the group. A client that merely ends does not tell the group if it is a static member.
    pub fn leave(&self) {
        self.0.context().leaving.store(true, Ordering::Relaxed);
        // The client does not leave before it is told what to do with what was assigned.
        if self.0.context().unanswered.load(Ordering::Relaxed)
            && let Err(error) = self.read(&TopicPartitionList::new())
        {
            tracing::debug!(%error, "the partitions could not be refused");
        }
        self.0.unsubscribe();
    }

    /// Whether the partitions are given back, as far as the consumer has been polled: then the client's own thread tells the group.
    pub fn has_left(&self) -> bool {
        self.0.context().left.load(Ordering::Relaxed)
    }
}

impl Deref for Membership {
    type Target = BaseConsumer<Assignment>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // The client waits for the answer before it ends.
        self.0.context().leaving.store(true, Ordering::Relaxed);
        if let Err(error) = self.0.unassign() {
            tracing::debug!(%error, "the partitions could not be given back");
        }
        // What has happened to the assignment already is answered before the client ends, not while.
        for _ in 0..EVENTS {
            drop(self.0.poll(Duration::ZERO));
        }
    }
}
