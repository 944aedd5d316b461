//! How far event time was when a window could be over.

use std::collections::{BTreeSet, HashMap};

use super::batch::Oracle;

/// How far out of order streams may be: the apps' bound, ms.
pub const OUT_OF_ORDER: i64 = 5_000;
/// A partition without records for so long does not hold event time back, ms.
const IDLE: i64 = 10_000;

/// The newest event time and create time of each partition of the streams.
#[derive(Debug, Default)]
pub struct Newest(HashMap<(String, i32), (i64, i64)>);

impl Newest {
    /// Takes notice of a record. Returns the newest event time of its partition before it.
    pub fn see(&mut self, topic: &str, partition: i32, at: Option<i64>, created: Option<i64>) -> Option<i64> {
        let known = self.0.get(&(topic.to_owned(), partition)).copied();
        if let Some(at) = at {
            let (event, create) = known.unwrap_or((i64::MIN, i64::MIN));
            let newest = (event.max(at), create.max(created.unwrap_or(i64::MIN)));
            self.0.insert((topic.to_owned(), partition), newest);
        }
        known.map(|(event, _)| event)
    }

    /// Up to where all partitions are read.
    pub fn all(&self) -> i64 {
        self.0.values().map(|(event, _)| event - OUT_OF_ORDER).min().unwrap_or(i64::MIN)
    }

    /// How far event time is for windows with records of these partitions.
    pub fn event_time(&self, oracle: &Oracle, partitions: &BTreeSet<i32>) -> Option<i64> {
        let newest = self.0.values().map(|(_, create)| *create).max()?;
        let holds = |((_, partition), (_, create)): &(&(String, i32), &(i64, i64))| {
            (oracle.global || partitions.contains(partition)) && newest - create < IDLE
        };
        let own = self.0.iter().filter(holds).map(|(_, (event, _))| event - OUT_OF_ORDER).min();
        // All idle: event time stands where the last one brought it.
        own.or_else(|| {
            let own = self.0.iter().filter(|((_, partition), _)| partitions.contains(partition));
            own.map(|(_, (event, _))| event - OUT_OF_ORDER).min()
        })
    }
}
