//! One stream's thread: every few milliseconds it sends what is due.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_service::{KafkaArgs, Shutdown, clock};
use millrace_wire::scenario::Scenario;
use millrace_wire::telemetry;
use millrace_wire::{Timestamp, telemetry::Ack};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::sync::mpsc::UnboundedSender;

use crate::delivery::{Context, Deliveries, producer};
use crate::order::Order;
use crate::pace::Pace;
use crate::provoked::Provoked;
use crate::{Generator, Record};

/// How often the thread looks what is due. A command wakes it at once.
///
/// Each tick makes a request per partition, which costs the brokers more than the events in it.
const TICK: Duration = Duration::from_millis(100);
/// Events sent before the thread looks at commands again. The largest rate owes 5,000 per tick, and busy brokers take several ticks
/// to acknowledge.
const AT_MOST: u64 = 25_000;
/// A tick sends when all of the one before is acknowledged, or after so long: a partition that is away must not stop the
/// others. The client's threads spin while an idempotent partition has one request under way and the next waits.
const PATIENCE: Duration = Duration::from_millis(500);
/// What is under way when the process is asked to stop has this long to arrive.
const FLUSH: Duration = Duration::from_secs(7);

/// What is to change, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Events/s.
    Rate(f64),
    /// What is provoked, since when, epoch ms, and for how long, s.
    Scenario(Scenario, i64, u32),
}

/// A command for a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamCommand {
    /// What it says.
    pub change: Change,
    /// Id of the record that says so.
    pub id: String,
    /// Its version.
    pub version: i64,
}

/// What telemetry shows of a stream; written by its thread.
pub struct Status {
    /// The topic.
    pub stream: &'static str,
    /// What Kafka acknowledged.
    pub deliveries: Arc<Deliveries>,
    /// Events never generated, because the stream was too far behind.
    pub forgone: AtomicU64,
    rate: AtomicU64,
    version: AtomicI64,
    scenario: Mutex<Option<telemetry::Provoked>>,
}

impl Status {
    /// A stream that has not started.
    pub fn new(stream: &'static str, rate: f64) -> Self {
        Self {
            stream,
            deliveries: Arc::default(),
            forgone: AtomicU64::new(0),
            rate: AtomicU64::new(rate.to_bits()),
            version: AtomicI64::new(-1),
            scenario: Mutex::default(),
        }
    }

    /// As telemetry says it.
    pub fn gauge(&self) -> telemetry::Generator {
        telemetry::Generator {
            stream: self.stream.to_owned(),
            target_rate: f64::from_bits(self.rate.load(Relaxed)),
            version: self.version.load(Relaxed),
            scenario: self.scenario.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            produced: self.deliveries.produced.load(Relaxed),
            bytes: self.deliveries.bytes.load(Relaxed),
            failed: self.deliveries.failed.load(Relaxed),
            in_flight: self.deliveries.in_flight.load(Relaxed),
            error: self.deliveries.error(clock::now_ms()),
        }
    }

    fn provoked(&self, provoked: Option<&Provoked>) {
        let shown = provoked.map(|provoked| telemetry::Provoked {
            name: provoked.scenario,
            started_ms: provoked.started_ms,
            ends_ms: provoked.ends_ms,
            provokes: provoked.scenario.provokes().to_owned(),
        });
        *self.scenario.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    fn in_force(&self, rate: f64, version: i64) {
        self.rate.store(rate.to_bits(), Relaxed);
        self.version.store(version, Relaxed);
    }
}

/// A stream's thread.
pub struct Stream {
    generator: Box<dyn Generator>,
    order: Order,
    pace: Pace,
    started: Instant,
    status: Arc<Status>,
    kafka: KafkaArgs,
    client_id: String,
    producer: BaseProducer<Context>,
    /// The event that is being sent.
    record: Record,
    /// `record` did not fit into the client's buffer and is still to be sent.
    held: bool,
    /// When records were last handed to the client.
    sent: Instant,
    /// The rate that was asked for; a scenario may change it.
    rate: f64,
    seed: u64,
    provoked: Option<Provoked>,
}

impl Stream {
    /// A stream at rate 0.
    ///
    /// # Errors
    /// The Kafka client can't be made from these settings.
    pub fn new(
        kafka: KafkaArgs,
        component: &str,
        generator: Box<dyn Generator>,
        order: Order,
        seed: u64,
        status: Arc<Status>,
    ) -> anyhow::Result<Self> {
        let client_id = format!("{component}-{}", generator.stream());
        let producer = producer(&kafka, &client_id, status.deliveries.clone())?;
        let started = Instant::now();
        Ok(Self {
            generator,
            order,
            pace: Pace::new(started.elapsed(), 0.0),
            started,
            status,
            kafka,
            client_id,
            producer,
            record: Record::default(),
            held: false,
            sent: started,
            rate: 0.0,
            seed,
            provoked: None,
        })
    }

    /// Writes the reference data and waits until Kafka has it. `false` if asked to stop meanwhile.
    ///
    /// # Errors
    /// Kafka refuses a record.
    pub fn write_reference(&self, shutdown: &Shutdown) -> anyhow::Result<bool> {
        let refused = Arc::new(Deliveries::default());
        let producer = producer(&self.kafka, &format!("{}-reference", self.client_id), refused.clone())?;
        for reference in self.generator.reference() {
            let mut record =
                BaseRecord::to(reference.topic).key(&reference.record.key).payload(&reference.record.value);
            while let Err((error, unsent)) = producer.send(record) {
                if shutdown.requested() {
                    return Ok(false);
                }
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                record = unsent;
                producer.poll(TICK);
            }
        }
        while producer.in_flight_count() > 0 {
            if shutdown.requested() {
                return Ok(false);
            }
            producer.poll(TICK);
        }
        match refused.error(clock::now_ms()) {
            Some(error) => anyhow::bail!("reference data of {}: {error}", self.status.stream),
            None => Ok(true),
        }
    }

    /// Starts with this rate, which no command has asked for.
    pub fn start_at(&mut self, rate: f64) {
        self.rate = rate;
        self.keep_pace();
        self.status.in_force(rate, -1);
    }

    /// Sends events until `shutdown` or until no one can command it any more, then waits for what is under way.
    pub fn run(
        mut self,
        commands: &Receiver<StreamCommand>,
        acks: &UnboundedSender<Ack>,
        shutdown: &Shutdown,
    ) {
        while !shutdown.requested() {
            match commands.recv_timeout(clock::until_next(TICK)) {
                Ok(command) => {
                    self.apply(&command);
                    // Nobody listens only when the process is stopping.
                    let _ = acks.send(Ack {
                        id: command.id,
                        version: command.version,
                        at_ms: clock::now_ms(),
                        refused: None,
                    });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.provoked.as_ref().is_some_and(|provoked| clock::now_ms() >= provoked.ends_ms) {
                self.provoke(None);
            }
            self.look_after_deliveries();
            if self.producer.in_flight_count() == 0 || self.sent.elapsed() >= PATIENCE {
                self.send_due();
                self.sent = Instant::now();
            }
        }
        if self.producer.flush(FLUSH).is_err() {
            let lost = self.producer.in_flight_count();
            tracing::warn!(stream = self.status.stream, lost, "stopped before Kafka acknowledged everything");
        }
        self.look_after_deliveries();
    }

    fn apply(&mut self, command: &StreamCommand) {
        let (stream, version) = (self.status.stream, command.version);
        match command.change {
            Change::Rate(rate) => {
                self.rate = rate;
                self.keep_pace();
                self.status.in_force(rate, version);
                tracing::info!(stream, rate, version, "rate changed");
            }
            Change::Scenario(scenario, started_ms, seconds) => {
                self.provoke(Some(Provoked::new(scenario, started_ms, seconds, self.seed)));
                tracing::info!(stream, scenario = scenario.name(), seconds, version, "a scenario begins");
            }
        }
    }

    /// From now on this is provoked, or nothing.
    fn provoke(&mut self, provoked: Option<Provoked>) {
        self.generator.provoke(provoked.as_ref().map(|provoked| provoked.scenario));
        self.status.provoked(provoked.as_ref());
        self.provoked = provoked;
        self.keep_pace();
    }

    /// The pace is that of the rate, as far as no scenario changes it.
    fn keep_pace(&mut self) {
        let rate = self.provoked.as_ref().map_or(self.rate, |provoked| provoked.rate(self.rate));
        if rate != self.pace.rate() {
            self.pace.set_rate(self.started.elapsed(), rate);
        }
    }

    fn send_due(&mut self) {
        let due = self.pace.due(self.started.elapsed()).min(AT_MOST);
        self.status.forgone.store(self.pace.forgone(), Relaxed);
        for _ in 0..due {
            if !self.held {
                let mut time = self.order.event_time(Timestamp(clock::now_ms()));
                if let Some(provoked) = &mut self.provoked {
                    time = provoked.event_time(time);
                }
                if let Err(error) = self.generator.next(time, &mut self.record) {
                    tracing::error!(stream = self.status.stream, %error, "an event could not be written");
                    self.pace.sent(1);
                    continue;
                }
                if self.provoked.as_mut().is_some_and(|provoked| !provoked.pass(&mut self.record)) {
                    self.pace.sent(1);
                    continue;
                }
            }
            let record = BaseRecord::to(self.status.stream).key(&self.record.key).payload(&self.record.value);
            self.held = false;
            if let Err((error, _)) = self.producer.send(record) {
                self.held = true;
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    self.replace_if_broken(&error);
                }
                // It is tried again at the next tick; meanwhile the pace decides what is forgone.
                return;
            }
            self.pace.sent(1);
        }
    }

    /// Runs the callbacks of everything that has been acknowledged, without waiting.
    fn look_after_deliveries(&self) {
        let mut before = None;
        // A poll without waiting takes one event, which holds a batch of acknowledgements.
        loop {
            self.producer.poll(Duration::ZERO);
            let left = self.producer.in_flight_count();
            if left == 0 || before == Some(left) {
                self.status.deliveries.under_way(u64::try_from(left).unwrap_or(0), clock::now_ms());
                return;
            }
            before = Some(left);
        }
    }

    /// An idempotent producer that has met a fatal error sends nothing any more: a new one goes on.
    fn replace_if_broken(&mut self, error: &KafkaError) {
        let fatal = self.producer.client().fatal_error();
        tracing::error!(stream = self.status.stream, %error, ?fatal, "the Kafka client did not take a record");
        if fatal.is_none() {
            return;
        }
        match producer(&self.kafka, &self.client_id, self.status.deliveries.clone()) {
            Ok(new) => self.producer = new,
            Err(error) => tracing::error!(%error, "the Kafka client can't be replaced"),
        }
    }
}
