//! The newest results, read from the result topics as they are committed: they need no Elasticsearch.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use millrace_service::clock::now_ms;
use millrace_service::{KafkaArgs, Shutdown};
use millrace_wire::live::AlertNote;
use millrace_wire::result::SensorAverage;
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::clock::locked;

/// Records read back per partition at the start.
const BACK: i64 = 20;
/// The newest results kept for a `Hello`.
const NEWEST: usize = 50;
/// New alerts per tick.
const ALERTS: usize = 20;
/// New averages per tick.
const AVERAGES: usize = 50;

/// A bounded queue of what came since the last tick, and the newest in order of time.
pub struct Queue<T> {
    newest: VecDeque<(i64, T)>,
    new: Vec<T>,
    skipped: u64,
    limit: usize,
}

impl<T: Clone> Queue<T> {
    fn new(limit: usize) -> Self {
        Self { newest: VecDeque::new(), new: Vec::new(), skipped: 0, limit }
    }

    fn push(&mut self, at_ms: i64, item: T, new: bool) {
        let place = self.newest.partition_point(|(at, _)| *at <= at_ms);
        self.newest.insert(place, (at_ms, item.clone()));
        if self.newest.len() > NEWEST {
            self.newest.pop_front();
        }
        if new {
            if self.new.len() < self.limit { self.new.push(item) } else { self.skipped += 1 }
        }
    }

    /// What came since the last call, and how many did not fit.
    pub fn take(&mut self) -> (Vec<T>, u64) {
        (std::mem::take(&mut self.new), std::mem::take(&mut self.skipped))
    }

    /// The newest, oldest first.
    pub fn newest(&self) -> Vec<T> {
        self.newest.iter().map(|(_, item)| item.clone()).collect()
    }
}

/// Alerts and averages.
pub struct Tail {
    /// Of all topics that have alerts.
    pub alerts: Queue<AlertNote>,
    /// Of `sensor-averages`.
    pub averages: Queue<SensorAverage>,
    /// Records that were not what their topic should hold.
    pub malformed: u64,
    /// The offset after the newest record of each partition.
    next: HashMap<(String, i32), i64>,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            alerts: Queue::new(ALERTS),
            averages: Queue::new(AVERAGES),
            malformed: 0,
            next: HashMap::new(),
        }
    }
}

impl Tail {
    /// Whether nothing but transaction markers can stand after `offset`: it is the one after the newest record read.
    pub fn is_after_newest(&self, place: &(String, i32), offset: i64) -> bool {
        self.next.get(place) == Some(&offset)
    }

    fn alert(&mut self, value: &[u8], at_ms: i64, new: bool) -> serde_json::Result<()> {
        serde_json::from_slice::<AlertNote>(value).map(|alert| self.alerts.push(at_ms, alert, new))
    }

    fn take_in(&mut self, topic: &str, value: &[u8], at_ms: i64, new: bool) {
        let parsed = match topic {
            topic::SENSOR_AVERAGES => {
                serde_json::from_slice::<SensorAverage>(value).map(|a| self.averages.push(at_ms, a, new))
            }
            topic::SENSOR_ALERTS_CRITICAL
            | topic::SENSOR_ALERTS_HIGH
            | topic::SENSOR_ALERTS_WARNING
            | topic::MOLD_ALERTS
            | topic::FRAUD_ALERTS
            | topic::ALERTS => self.alert(value, at_ms, new),
            // Windows are there too.
            topic::ANALYTICS => {
                let _ = self.alert(value, at_ms, new);
                Ok(())
            }
            // The page does not show it.
            _ => Ok(()),
        };
        if let Err(error) = parsed {
            self.malformed += 1;
            tracing::debug!(topic, %error, "a result can't be read");
        }
    }
}

/// Reads until `shutdown`; waits for Kafka as long as it takes.
pub fn run(kafka: &KafkaArgs, tail: &Mutex<Tail>, shutdown: &Shutdown) {
    if let Err(error) = follow(kafka, tail, shutdown) {
        tracing::error!(%error, "results can't be read: check the Kafka settings");
    }
}

fn follow(kafka: &KafkaArgs, tail: &Mutex<Tail>, shutdown: &Shutdown) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = kafka
        .consumer("gateway-results", "gateway-results", "read_committed")
        .set("fetch.wait.max.ms", "500")
        .set("auto.offset.reset", "latest")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .create()?;
    let mut from = TopicPartitionList::new();
    for topic in topic::catalogue().iter().filter(|t| t.kind == topic::Kind::Result) {
        for partition in 0..topic.partitions {
            from.add_partition_offset(&topic.name, partition, Offset::OffsetTail(BACK))?;
        }
    }
    let started = now_ms();
    consumer.assign(&from)?;
    while !shutdown.requested() {
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Err(error)) => tracing::debug!(%error, "reading results"),
            Some(Ok(message)) => {
                let at = message.timestamp().to_millis().unwrap_or(started);
                let mut tail = locked(tail);
                let place = (message.topic().to_owned(), message.partition());
                tail.next.insert(place, message.offset() + 1);
                tail.take_in(message.topic(), message.payload().unwrap_or_default(), at, at >= started);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_the_newest_stay_in_order() {
        let mut queue = Queue::new(2);
        for (at, item) in [(5, 'e'), (1, 'a'), (3, 'c'), (4, 'd')] {
            queue.push(at, item, at > 1);
        }
        assert_eq!(queue.newest(), ['a', 'c', 'd', 'e']);
        assert_eq!(queue.take(), (vec!['e', 'c'], 1));
        assert_eq!(queue.take(), (vec![], 0));
    }

    #[test]
    fn only_the_offset_after_the_newest_record_is_the_end() {
        let mut tail = Tail::default();
        let place = (topic::SENSOR_AVERAGES.to_owned(), 3);
        assert!(!tail.is_after_newest(&place, 0), "nothing is known of a partition that was not read");
        tail.next.insert(place.clone(), 8);
        assert!(
            tail.is_after_newest(&place, 8)
                && !tail.is_after_newest(&place, 7)
                && !tail.is_after_newest(&place, 9)
        );
    }

    #[test]
    fn a_result_that_can_not_be_read_is_counted() {
        let mut tail = Tail::default();
        let average = br#"{"sensorId":"s","location":"l","window_start":0,"window_end":1,"average":1.0,"min":1,"max":1,"count":1}"#;
        tail.take_in(topic::SENSOR_AVERAGES, average, 1, true);
        tail.take_in(topic::SENSOR_ALERTS_HIGH, b"nonsense", 1, true);
        assert_eq!((tail.averages.newest().len(), tail.alerts.newest().len(), tail.malformed), (1, 0, 1));
        tail.take_in(topic::ANALYTICS, br#"{"type":"hourly_sales","orders":1}"#, 1, true);
        let alert =
            br#"{"id":"i","type":"fraud_alert","severity":"high","key":"c","message":"m","timestamp":1,
                         "evidence":[],"customer_id":"c"}"#;
        tail.take_in(topic::ANALYTICS, alert, 1, true);
        assert_eq!((tail.alerts.newest()[0].key.as_str(), tail.malformed), ("c", 1));
    }
}
