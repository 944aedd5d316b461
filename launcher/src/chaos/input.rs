//! The known input: orders and bank transactions of its own customers, categories and accounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::topic;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Message};
use serde_json::json;

use super::kafka::Kafka;
use crate::clock::now_ms;

/// Customers, and as many accounts.
const KEYS: u32 = 40;
/// Categories of orders.
pub const CATEGORIES: u32 = 20;
/// A record that Kafka has not taken after this is a failure of the run.
const DELIVERY: Duration = Duration::from_secs(120);

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// To `orders`.
    Order {
        /// Customer.
        customer: String,
        /// Category.
        category: String,
        /// Whole dollars.
        amount: i64,
    },
    /// To `transactions`.
    Transaction {
        /// Account.
        account: String,
        /// Whole dollars.
        amount: i64,
        /// Event time, epoch ms.
        at_ms: i64,
    },
}

impl Known {
    /// Where it was written to.
    pub fn topic(&self) -> &'static str {
        match self {
            Self::Order { .. } => topic::ORDERS,
            Self::Transaction { .. } => topic::TRANSACTIONS,
        }
    }

    /// Its customer or account.
    pub fn key(&self) -> &str {
        match self {
            Self::Order { customer: key, .. } | Self::Transaction { account: key, .. } => key,
        }
    }
}

/// Makes the input: the same for the same seed, but for its times.
pub struct Source {
    prefix: String,
    random: StdRng,
    number: u64,
}

impl Source {
    /// Keys begin with `prefix`.
    pub fn new(prefix: &str, seed: u64) -> Self {
        Self { prefix: prefix.to_owned(), random: StdRng::seed_from_u64(seed ^ 0x00c4_a05e), number: 0 }
    }

    /// The next record: topic, key, value, and what it is.
    pub fn next(&mut self, at_ms: i64) -> (&'static str, String, String, Known) {
        self.number += 1;
        let key = format!("{}{}", self.prefix, self.random.random_range(0..KEYS));
        let amount = self.random.random_range(1..400);
        if self.number.is_multiple_of(2) {
            let category = format!("{}{}", self.prefix, self.random.random_range(0..CATEGORIES));
            let value = json!({"orderId": format!("{}{}", self.prefix, self.number), "customerId": key, "amount": amount,
                               "category": category, "timestamp": at_ms, "items": []});
            (topic::ORDERS, key.clone(), value.to_string(), Known::Order { customer: key, category, amount })
        } else {
            let value = json!({"account": key, "amount": amount, "timestamp": at_ms, "type": "deposit"});
            (
                topic::TRANSACTIONS,
                key.clone(),
                value.to_string(),
                Known::Transaction { account: key, amount, at_ms },
            )
        }
    }
}

/// Notices what was not delivered.
#[derive(Default)]
struct Arrivals {
    failed: Arc<AtomicBool>,
}

impl ClientContext for Arrivals {}

impl ProducerContext for Arrivals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((_, message)) = result {
            debug_assert!(message.payload().is_some());
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

/// Writes the input at a steady pace, on a thread of its own.
pub struct Writer {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Known>>>,
}

impl Writer {
    /// Starts to write `rate` records per second.
    pub fn start(kafka: &Kafka, prefix: &str, seed: u64, rate: u32) -> Result<Self> {
        let arrivals = Arrivals::default();
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), arrivals.failed.clone());
        let mut config = kafka.config().clone();
        config
            .set("enable.idempotence", "true")
            // With more, a new leader's answers can make librdkafka number all partitions anew, and what was written to another one
            // is then written twice (its issue 4953).
            .set("max.in.flight.requests.per.connection", "1")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("delivery.timeout.ms", DELIVERY.as_millis().to_string());
        let producer: BaseProducer<Arrivals> = config.create_with_context(arrivals)?;
        let (source, stopped) = (Source::new(prefix, seed), stop.clone());
        let thread = std::thread::spawn(move || write(&producer, source, rate, &stopped));
        Ok(Self { stop, failed, thread })
    }

    /// Whether it has given up.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.thread.is_finished()
    }

    /// Stops, and returns what was written, once Kafka has all of it.
    pub async fn end(self) -> Result<Vec<Known>> {
        self.stop.store(true, Ordering::Relaxed);
        let written = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let written = written.map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        if self.failed.load(Ordering::Relaxed) {
            bail!(
                "Kafka did not take all of the input within {} s: there is nothing to compare",
                DELIVERY.as_secs()
            );
        }
        Ok(written)
    }
}

fn write(
    producer: &BaseProducer<Arrivals>,
    mut source: Source,
    rate: u32,
    stop: &AtomicBool,
) -> Result<Vec<Known>> {
    let (began, mut written) = (Instant::now(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Far from either limit.
        let due = (began.elapsed().as_secs_f64() * f64::from(rate)) as usize;
        while written.len() < due {
            let (topic, key, value, known) = source.next(now_ms());
            let mut record = BaseRecord::to(topic).key(&key).payload(&value);
            while let Err((error, refused)) = producer.send(record) {
                if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                    return Err(error).context("a record can't be sent");
                }
                producer.poll(Duration::from_millis(5));
                record = refused;
            }
            written.push(known);
        }
        producer.poll(Duration::from_millis(5));
    }
    producer.flush(DELIVERY).context("Kafka has not taken the last records")?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_follows_from_the_seed() {
        let all = |seed| {
            let mut source = Source::new("chaos-", seed);
            (0..50).map(|at| source.next(at)).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert_eq!(all(1).iter().filter(|(topic, ..)| *topic == topic::ORDERS).count(), 25);
    }
}
