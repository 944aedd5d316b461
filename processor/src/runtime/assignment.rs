//! Group membership: callbacks of the client turned into messages.

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
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
pub struct Generation(pub ConsumerGroupMetadata);

/// Collects changes while the consumer is polled, on the polling thread.
#[derive(Default)]
pub struct Assignment {
    changes: Mutex<Vec<Change>>,
    leaving: AtomicBool,
    /// The partitions were given back since.
    left: AtomicBool,
    paused: bool,
}

impl Assignment {
    /// Nothing is read of new partitions until they are resumed. Not at once: the client may lose the start of a partition
    /// that is resumed while it asks for its offset.
    pub fn paused() -> Self {
        Self { paused: true, ..Self::default() }
    }

    fn push(&self, change: Change) {
        if let Ok(mut changes) = self.changes.lock() {
            changes.push(change);
        }
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        // Before anything else: as long as this is not answered, the group has this generation.
        let Some(generation) = consumer.group_metadata().map(Generation) else {
            return Err(KafkaError::Rebalance(RDKafkaErrorCode::UnknownGroup));
        };
        consumer.assign(list)?;
        if self.paused {
            consumer.pause(list)?;
        }
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

    /// Begins to leave the group. A client that merely ends does not tell the group if it is a static member.
    pub fn leave(&self) {
        self.0.context().leaving.store(true, Ordering::Relaxed);
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
