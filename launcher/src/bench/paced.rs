//! A producer that keeps time, and a reader of what is committed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use millrace_wire::bench::OUT_OF_ORDERNESS_MS;
use millrace_wire::event::CardTransaction;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use serde::Deserialize;

use super::input::Cards;
use super::target::{CALL, Target};

/// The producer gathers records for so long: it is part of the latency. With less, its requests alone (one for each
/// partition) take more than a core of the brokers on a small machine.
const LINGER_MS: u32 = 20;

/// Counts what Kafka did not take.
#[derive(Clone, Default)]
struct Refusals(Arc<AtomicU64>);

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes card transactions, keyed by user.
pub struct Sender {
    producer: ThreadedProducer<Refusals>,
    refusals: Refusals,
    value: Vec<u8>,
}

impl Sender {
    /// Gathers records for so long.
    pub fn new(target: &Target, linger_ms: u32) -> Result<Self> {
        let refusals = Refusals::default();
        let producer = target.producer(linger_ms, refusals.clone())?;
        Ok(Self { producer, refusals, value: Vec::new() })
    }

    /// Writes one; waits while the client's queue is full.
    pub fn send(&mut self, topic: &str, card: &CardTransaction) -> Result<()> {
        self.value.clear();
        serde_json::to_writer(&mut self.value, card)?;
        let mut record = BaseRecord::to(topic).key(card.user_id.as_str()).payload(&self.value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error).context("a record can't be sent"),
            }
        }
    }

    /// Waits until Kafka has everything.
    pub fn flush(&self, patience: Duration) -> Result<()> {
        self.producer.flush(patience).context("Kafka does not take the records")?;
        match self.refusals.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            refused => bail!("Kafka refused {refused} records"),
        }
    }
}

/// A thread that works until it is told to stop.
struct Background<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<T>>>,
}

impl<T: Send + 'static> Background<T> {
    fn start(name: &str, work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&told))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    fn end(&mut self) -> Result<Option<T>> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(None) };
        thread.join().map_err(|_| anyhow::anyhow!("a thread of the bench panicked"))?.map(Some)
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Writes transactions at an even rate, each with the moment of its creation as event time.
pub struct Paced(Background<u64>);

impl Paced {
    /// Begins.
    pub fn start(target: &Target, topic: &str, rate: u32, mut cards: Cards) -> Result<Self> {
        let (mut sender, topic) = (Sender::new(target, LINGER_MS)?, topic.to_owned());
        Ok(Self(Background::start("paced", move |stop| {
            let (began, mut sent) = (Instant::now(), 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                while sent < due {
                    sender.send(&topic, &cards.next(crate::clock::now_ms()))?;
                    sent += 1;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            sender.flush(CALL)?;
            Ok(sent)
        })?))
    }

    /// Ends. Returns how many were written.
    pub fn end(mut self) -> Result<u64> {
        Ok(self.0.end()?.unwrap_or(0))
    }
}

/// When there was reason for a result and when it was seen committed, epoch ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// As the result says: the creation of its event or, of a window, the first moment at which its watermark can have come, since
    /// events have the time of their creation.
    pub created: i64,
    /// By the clock of this machine, which made the event too.
    pub at: f64,
    /// Partition of the result.
    pub partition: i32,
}

/// What a result says of its time.
#[derive(Deserialize)]
#[serde(untagged)]
enum Due {
    Event {
        timestamp: i64,
    },
    #[serde(rename_all = "camelCase")]
    Window {
        window_end: i64,
    },
}

impl Due {
    /// Since when there was reason for it, epoch ms.
    fn since(&self) -> i64 {
        match self {
            Self::Event { timestamp } => *timestamp,
            Self::Window { window_end } => window_end + OUT_OF_ORDERNESS_MS,
        }
    }
}

/// Reads a result topic, `read_committed`, from its end as it is now.
pub struct Reader {
    seen: Arc<Mutex<Vec<Seen>>>,
    background: Background<()>,
}

impl Reader {
    /// Begins.
    pub fn start(target: &Target, topic: &str, partitions: i32) -> Result<Self> {
        let consumer = target.consumer("millrace-bench", "read_committed")?;
        assign(&consumer, topic, partitions, Offset::End)?;
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let told = seen.clone();
        let background = Background::start("reader", move |stop| {
            while !stop.load(Ordering::Relaxed) {
                let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) else { continue };
                let at = now_ms();
                let due: Due = serde_json::from_slice(message.payload().unwrap_or_default())
                    .with_context(|| format!("a result of {} says no time", message.topic()))?;
                locked(&told).push(Seen { created: due.since(), at, partition: message.partition() });
            }
            Ok(())
        })?;
        Ok(Self { seen, background })
    }

    /// What was seen since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *locked(&self.seen))
    }

    /// Ends.
    pub fn end(mut self) -> Result<()> {
        self.background.end().map(|_| ())
    }
}

fn locked(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock with its fractions.
fn now_ms() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64() * 1_000.0
}

/// Assigns every partition of a topic.
pub fn assign(consumer: &BaseConsumer, topic: &str, partitions: i32, from: Offset) -> Result<()> {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, from)?;
    }
    Ok(consumer.assign(&list)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_due_when_its_event_is_created_and_that_of_a_window_when_the_watermark_is_at_its_end() {
        let since = |result: &str| serde_json::from_str::<Due>(result).map(|due| due.since());
        assert_eq!(since(r#"{"userId":"u","timestamp":5,"severity":"high"}"#).unwrap(), 5);
        assert_eq!(since(r#"{"userId":"u","windowStart":0,"windowEnd":10000,"count":1}"#).unwrap(), 12_000);
        assert!(since(r#"{"userId":"u"}"#).is_err());
    }
}
