//! The transactional producer of a worker.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use millrace_service::KafkaArgs;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, TopicPartitionList};

use super::assignment::Generation;
use super::outbox::Outbox;
use super::restart::SessionError;

/// Between two looks at the delivery reports. `BaseProducer::poll` is no way to wait: with whole milliseconds left it waits
/// in the client, then it spins for the rest.
const LOOK: Duration = Duration::from_micros(500);
/// One call to the coordinator.
const CALL: Duration = Duration::from_secs(10);

/// Delivery reports of the open transaction.
struct Deliveries {
    changelogs: Vec<String>,
    state: Mutex<Delivered>,
}

/// Offset behind the last changelog record, by changelog and partition.
pub type ChangelogEnds = HashMap<(usize, i32), i64>;

#[derive(Default)]
struct Delivered {
    changelogs: ChangelogEnds,
    error: Option<KafkaError>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        let Ok(mut state) = self.state.lock() else { return };
        match result {
            Ok(message) => {
                if let Some(number) = self.changelogs.iter().position(|name| name == message.topic()) {
                    state.changelogs.insert((number, message.partition()), message.offset() + 1);
                }
            }
            Err((error, _)) => {
                state.error.get_or_insert_with(|| error.clone());
            }
        }
    }
}

/// Records and what they hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Number of records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// The producer and its open transaction, if there is one.
pub struct Transactions {
    producer: BaseProducer<Deliveries>,
    opened: Option<Instant>,
    outbox: Outbox,
    /// In the open transaction.
    sent: Sent,
    /// Time spent waiting for room in the producer's queue.
    backpressured: Duration,
}

impl Transactions {
    /// Connects and ends what a former life of this worker has left open. A transaction that is open for longer than
    /// `timeout` is aborted by Kafka.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub fn start(
        kafka: &KafkaArgs,
        component: &str,
        changelogs: Vec<String>,
        timeout: Duration,
    ) -> Result<Self, SessionError> {
        let producer: BaseProducer<Deliveries> = kafka
            .producer(component)
            .set("transactional.id", format!("millrace.{component}"))
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            // What is handed over together goes together.
            .set("linger.ms", "1")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "65536")
            // Also the wait after CONCURRENT_TRANSACTIONS, while the last commit's markers are still being written.
            .set("retry.backoff.ms", "3")
            .set("retry.backoff.max.ms", "100")
            // A group coordinator that died leaves `send_offsets_to_transaction` waiting, whatever its timeout, until
            // some connection changes state (librdkafka issues 5456 and 5511). Nothing is sent meanwhile, so closing
            // idle connections is such a change: the wait ends after 3 to 5 s.
            .set("connections.max.idle.ms", "5000")
            .create_with_context(Deliveries { changelogs, state: Mutex::default() })
            .context("the transactional producer can't be made")
            .map_err(SessionError::Kafka)?;
        // Without a connection, the client begins with a wait of half a second.
        producer
            .client()
            .fetch_metadata(None, CALL)
            .context("Kafka does not answer")
            .map_err(SessionError::Kafka)?;
        producer
            .init_transactions(CALL)
            .context("transactions can't be started")
            .map_err(SessionError::Kafka)?;
        Ok(Self {
            producer,
            opened: None,
            outbox: Outbox::default(),
            sent: Sent::default(),
            backpressured: Duration::ZERO,
        })
    }

    /// When the open transaction began.
    pub fn opened(&self) -> Option<Instant> {
        self.opened
    }

    /// Opens a transaction, unless one is open.
    ///
    /// # Errors
    /// The producer is in no state to.
    pub fn open(&mut self) -> Result<(), SessionError> {
        if self.opened.is_none() {
            self.producer.begin_transaction()?;
            self.opened = Some(Instant::now());
        }
        Ok(())
    }

    /// Adds a record. Waits while the queue is full.
    ///
    /// # Errors
    /// The producer refuses a record.
    pub fn send<K: ToBytes + ?Sized, V: ToBytes + ?Sized>(
        &mut self,
        record: BaseRecord<'_, K, V>,
    ) -> Result<(), SessionError> {
        let bytes = record.key.map_or(0, |key| key.to_bytes().len())
            + record.payload.map_or(0, |payload| payload.to_bytes().len());
        self.sent.records += 1;
        self.sent.bytes += bytes as u64;
        if self.outbox.put(record) { self.hand_over() } else { Ok(()) }
    }

    /// Gives everything added so far to the client, which sends it.
    ///
    /// # Errors
    /// The producer refuses a record.
    pub fn hand_over(&mut self) -> Result<(), SessionError> {
        let mut outbox = std::mem::take(&mut self.outbox);
        let sent = outbox.empty(|record| self.produce(record));
        self.outbox = outbox;
        sent
    }

    fn produce(&mut self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), SessionError> {
        let mut waiting: Option<Instant> = None;
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    waiting.get_or_insert_with(Instant::now);
                    self.poll();
                    std::thread::park_timeout(LOOK);
                    record = refused;
                }
                Err((error, _)) => {
                    return Err(SessionError::Kafka(anyhow!(error).context("a record can't be sent")));
                }
            }
        }
        if let Some(since) = waiting {
            self.backpressured += since.elapsed();
        }
        Ok(())
    }

    /// Serves delivery reports without waiting.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Time spent waiting for room since the last call.
    pub fn take_backpressured(&mut self) -> Duration {
        std::mem::take(&mut self.backpressured)
    }

    /// Commits what was sent together with offsets of each group. Returns what that was and the ends of the
    /// changelogs that it wrote to. `go_on` is asked before a call that timed out is repeated.
    ///
    /// # Errors
    /// The transaction is not committed: whoever calls starts again from what is.
    pub fn commit(
        &mut self,
        offsets: &[(&Generation, TopicPartitionList)],
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Sent, ChangelogEnds), SessionError> {
        self.hand_over()?;
        // `commit_transaction` waits for the queue too, but in steps of 100 ms.
        loop {
            self.poll();
            if self.producer.in_flight_count() == 0 {
                break;
            }
            std::thread::park_timeout(LOOK);
        }
        let delivered =
            self.producer.context().state.lock().map(|mut s| std::mem::take(&mut *s)).unwrap_or_default();
        if let Some(error) = delivered.error {
            return Err(SessionError::Kafka(
                anyhow!(error).context("a record of the transaction was not delivered"),
            ));
        }
        for (Generation(group), offsets) in offsets {
            Self::until_done(go_on, || self.producer.send_offsets_to_transaction(offsets, group, CALL))?;
        }
        Self::until_done(go_on, || self.producer.commit_transaction(CALL))?;
        self.opened = None;
        Ok((std::mem::take(&mut self.sent), delivered.changelogs))
    }

    /// Repeats a call that timed out: its outcome is not known until it answers.
    fn until_done(
        go_on: &dyn Fn() -> bool,
        mut call: impl FnMut() -> Result<(), KafkaError>,
    ) -> Result<(), SessionError> {
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && go_on() => {
                    tracing::warn!(%error, "the transaction coordinator has not answered yet, asking again");
                }
                Err(error) => {
                    return Err(SessionError::Kafka(
                        anyhow!(error).context("the transaction was not committed"),
                    ));
                }
            }
        }
    }

    /// Takes back the open transaction, so that readers need not wait for its timeout. Returns whether there was one.
    pub fn abort(&mut self) -> bool {
        self.outbox.clear();
        self.sent = Sent::default();
        let open = self.opened.take().is_some();
        if open {
            if let Err(error) = self.producer.abort_transaction(CALL) {
                tracing::warn!(%error, "the transaction could not be aborted; Kafka does that when this worker is back");
            }
            // Reports of records that are gone with it.
            self.producer.poll(Duration::ZERO);
            if let Ok(mut state) = self.producer.context().state.lock() {
                *state = Delivered::default();
            }
        }
        open
    }
}
