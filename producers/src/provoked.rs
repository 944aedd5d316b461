//! A scenario under way in a stream: what it does to events whatever they are. What it does to their content is the
//! [generator's](crate::Generator::provoke).

use millrace_wire::control::MAX_RATE;
use millrace_wire::scenario::Scenario;
use millrace_wire::{Timestamp, partition, topic};

use crate::{Random, Record};

/// A burst is so many times the rate.
const BURST: f64 = 10.0;
/// Share of late events in a storm, and how late they are, ms: long enough that a 5-minute window has closed.
const LATE: (f64, std::ops::Range<f64>) = (0.5, 360_000.0..900_000.0);
/// Share of records that are cut off.
const CUT: f64 = 0.2;
/// What gets nothing.
const IDLE_PARTITION: i32 = 0;

/// A scenario under way.
#[derive(Debug, Clone)]
pub struct Provoked {
    /// Which.
    pub scenario: Scenario,
    /// When it began, epoch ms.
    pub started_ms: i64,
    /// When it is over, epoch ms.
    pub ends_ms: i64,
    random: Random,
}

impl Provoked {
    /// The same seed and start provoke the same.
    pub fn new(scenario: Scenario, started_ms: i64, seconds: u32, seed: u64) -> Self {
        let ends_ms = started_ms + i64::from(seconds) * 1_000;
        Self { scenario, started_ms, ends_ms, random: Random::new(seed, started_ms.unsigned_abs()) }
    }

    /// The rate while it lasts, events/s.
    pub fn rate(&self, rate: f64) -> f64 {
        if self.scenario == Scenario::Burst { (rate * BURST).min(MAX_RATE) } else { rate }
    }

    /// The time of an event that would have this one.
    pub fn event_time(&mut self, time: Timestamp) -> Timestamp {
        if self.scenario == Scenario::LateStorm && self.random.unit() < LATE.0 {
            return Timestamp(time.millis() - self.random.between(LATE.1.start, LATE.1.end) as i64);
        }
        time
    }

    /// Changes a record. Returns whether it is to be sent.
    pub fn pass(&mut self, record: &mut Record) -> bool {
        match self.scenario {
            Scenario::Malformed if self.random.unit() < CUT => {
                record.value.truncate(record.value.len() / 2);
                true
            }
            Scenario::IdlePartition => partition(&record.key, topic::PARTITIONS) != IDLE_PARTITION,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provoked(scenario: Scenario) -> Provoked {
        Provoked::new(scenario, 1_000, 30, 42)
    }

    #[test]
    fn a_burst_is_ten_times_the_rate_and_no_more_than_the_largest() {
        let burst = provoked(Scenario::Burst);
        assert_eq!((burst.rate(10.0), burst.rate(40_000.0), burst.ends_ms), (100.0, MAX_RATE, 31_000));
        assert_eq!(provoked(Scenario::HotKey).rate(10.0), 10.0);
    }

    #[test]
    fn shares_of_late_and_cut_records() {
        let (mut storm, mut cutter) = (provoked(Scenario::LateStorm), provoked(Scenario::Malformed));
        let now = Timestamp(1_717_200_000_000);
        let late = (0..10_000).filter(|_| now.millis() - storm.event_time(now).millis() >= 360_000).count();
        let whole = Record { key: b"k".to_vec(), value: br#"{"a":1}"#.to_vec() };
        let cut = (0..10_000).filter(|_| {
            let mut record = whole.clone();
            assert!(cutter.pass(&mut record));
            serde_json::from_slice::<serde_json::Value>(&record.value).is_err()
        });
        let cut = cut.count();
        assert!((4_700..5_300).contains(&late) && (1_800..2_200).contains(&cut), "{late} {cut}");
    }

    #[test]
    fn one_partition_gets_nothing() {
        let mut idle = provoked(Scenario::IdlePartition);
        let sent = (0..6_000).filter(|i| {
            let mut record = Record { key: format!("k-{i}").into_bytes(), value: Vec::new() };
            idle.pass(&mut record)
        });
        let sent = sent.count();
        assert!((4_800..5_200).contains(&sent), "{sent}");
    }
}
