//! Watching a run from outside: how far it is, what it takes, and which part of it is warm.

use anyhow::Result;
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::target::{CALL, Target};

/// The beginning that does not count: processes start, connections are made, tables grow.
const COLD: f64 = 0.2;

/// A run at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Since the start of the processes.
    pub at_s: f64,
    /// Committed so far.
    pub records: u64,
    /// CPU time of the processes so far.
    pub cpu_s: f64,
}

/// What a run takes once it is warm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warm {
    /// By the clock.
    pub rec_per_s: f64,
    /// By the CPU time of the processes; `None` if they took less than what can be measured.
    pub rec_per_cpu_s: Option<f64>,
}

impl Warm {
    /// From the first sample with 20 % of the records, and not before `from_s`, to the one with all of them. `None`: the
    /// run was too short to have both.
    pub fn of(samples: &[Sample], records: u64, from_s: f64) -> Option<Self> {
        let cold = records as f64 * COLD;
        let first = samples.iter().find(|sample| sample.records as f64 >= cold && sample.at_s >= from_s)?;
        let last = samples.iter().find(|sample| sample.records >= records)?;
        let (records, seconds) = ((last.records.checked_sub(first.records)?) as f64, last.at_s - first.at_s);
        let cpu = last.cpu_s - first.cpu_s;
        // Ticks are 10 ms: below 20 of them the figure is not worth its digits.
        let rec_per_cpu_s = (cpu >= 0.2).then(|| records / cpu);
        (seconds > 0.0).then(|| Self { rec_per_s: records / seconds, rec_per_cpu_s })
    }
}

/// The committed offsets of an app's group, asked for without being a member.
pub struct Committed {
    consumer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Committed {
    /// # Errors
    /// The client can't be made.
    pub fn new(target: &Target, app: &str, source: &str, partitions: i32) -> Result<Self> {
        // Uncommitted: what is being committed does not hold back the answer.
        let consumer = target.consumer(&topic::group(app), "read_uncommitted")?;
        Ok(Self { consumer, topic: source.to_owned(), partitions })
    }

    /// By partition; 0 where nothing is committed.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn offsets(&self) -> Result<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition(&self.topic, partition);
        }
        let committed = self.consumer.committed_offsets(list, CALL)?;
        let offset = |partition| match committed.find_partition(&self.topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok((0..self.partitions).map(|partition| offset(partition).unwrap_or(0)).collect())
    }

    /// Whether so many members share the partitions and none is on its way.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn is_shared_by(&self, app: &str, members: usize) -> Result<bool> {
        let groups = self.consumer.fetch_group_list(Some(&topic::group(app)), CALL)?;
        Ok(groups.groups().iter().any(|group| group.state() == "Stable" && group.members().len() == members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, records: u64, cpu_s: f64) -> Sample {
        Sample { at_s, records, cpu_s }
    }

    #[test]
    fn the_first_fifth_does_not_count() {
        let samples = [
            sample(1.0, 0, 1.0),
            sample(2.0, 150, 3.0),
            sample(3.0, 200, 3.5),
            sample(5.0, 1_000, 4.5),
            sample(9.0, 1_000, 5.0),
        ];
        let warm = Warm::of(&samples, 1_000, 0.0).unwrap();
        assert_eq!(warm, Warm { rec_per_s: 400.0, rec_per_cpu_s: Some(800.0) });
        let later = Warm::of(&samples, 1_000, 4.0);
        assert_eq!(later, None, "nothing is left of it");
    }

    #[test]
    fn what_is_too_short_to_be_measured_has_no_figure() {
        let samples = [sample(1.0, 300, 0.9), sample(2.0, 1_000, 1.0)];
        assert_eq!(Warm::of(&samples, 1_000, 0.0), Some(Warm { rec_per_s: 700.0, rec_per_cpu_s: None }));
        assert_eq!(Warm::of(&samples[..1], 1_000, 0.0), None);
    }
}
