//! Group membership: callbacks of the client turned into messages.

use std::sync::Mutex;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};

/// What happened to the assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These partitions are ours. They are paused until their tasks are restored.
    Assigned(Vec<i32>),
    /// Nothing is ours any more.
    Revoked,
}

/// Collects changes while the consumer is polled, on the polling thread.
#[derive(Default)]
pub struct Assignment {
    changes: Mutex<Vec<Change>>,
}

impl Assignment {
    /// The changes since the last call.
    pub fn take(&self) -> Vec<Change> {
        self.changes.lock().map(|mut changes| std::mem::take(&mut *changes)).unwrap_or_default()
    }

    fn push(&self, change: Change) {
        if let Ok(mut changes) = self.changes.lock() {
            changes.push(change);
        }
    }
}

impl ClientContext for Assignment {}

impl ConsumerContext for Assignment {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(_) = rebalance {
            self.push(Change::Revoked);
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                if let Err(error) = consumer.pause(list) {
                    tracing::warn!(%error, "new partitions could not be paused");
                }
                let mut partitions: Vec<i32> = list.elements().iter().map(|e| e.partition()).collect();
                partitions.sort_unstable();
                partitions.dedup();
                self.push(Change::Assigned(partitions));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the group could not be rebalanced"),
        }
    }
}
