//! The process: waits for Kafka, starts the streams, passes commands to them, publishes what they do.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use millrace_service::control::{self, Versioned};
use millrace_service::metrics::{Exposition, Kind};
use millrace_service::telemetry::{INTERVAL, Publisher};
use millrace_service::{KafkaArgs, Shutdown, clock, http, process_usage};
use millrace_wire::control::Command;
use millrace_wire::telemetry::{Ack, Body};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::Random;
use crate::config::{Config, check_rate};
use crate::iot_sensors::IotSensors;
use crate::order::Order;
use crate::stream::{RateCommand, Status, Stream};

/// How long one attempt to reach Kafka may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// After the topics have been seen, reading the commands has no other deadline than the end of the process.
const WHILE_IT_RUNS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What `/health`, `/metrics` and telemetry show.
struct Observed {
    streams: Vec<Arc<Status>>,
    /// Why no stream has started, while none has.
    waiting: Mutex<Option<String>>,
}

impl Observed {
    fn wait_for(&self, what: Option<String>) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn waiting(&self) -> Option<String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn body(&self) -> Body {
        let waiting = self.waiting();
        let with_reason = |status: &Arc<Status>| {
            let mut gauge = status.gauge();
            gauge.error = gauge.error.or_else(|| waiting.clone());
            gauge
        };
        Body::Producers { streams: self.streams.iter().map(with_reason).collect() }
    }
}

impl http::Observable for Observed {
    fn health(&self) -> Result<(), String> {
        if let Some(waiting) = self.waiting() {
            return Err(waiting);
        }
        let now = clock::now_ms();
        let errors: Vec<String> = self
            .streams
            .iter()
            .filter_map(|s| s.deliveries.error(now).map(|error| format!("{}: {error}", s.stream)))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
    }

    fn metrics(&self, out: &mut Exposition) {
        for status in &self.streams {
            let gauge = status.gauge();
            let labels = [("stream", status.stream)];
            let mut add = |name, kind, help, value| out.add(name, kind, help, &labels, value);
            let total = Kind::Counter;
            add(
                "millrace_producer_records_total",
                total,
                "Records that Kafka acknowledged.",
                gauge.produced as f64,
            );
            add("millrace_producer_bytes_total", total, "Bytes of their values.", gauge.bytes as f64);
            add("millrace_producer_failed_total", total, "Records that Kafka refused.", gauge.failed as f64);
            let forgone = status.forgone.load(Relaxed) as f64;
            add(
                "millrace_producer_forgone_total",
                total,
                "Events never generated, for being too far behind.",
                forgone,
            );
            add(
                "millrace_producer_in_flight",
                Kind::Gauge,
                "Records not yet acknowledged.",
                gauge.in_flight as f64,
            );
            add(
                "millrace_producer_target_rate",
                Kind::Gauge,
                "Events per second asked for.",
                gauge.target_rate,
            );
        }
        let usage = process_usage();
        out.add(
            "process_cpu_seconds_total",
            Kind::Counter,
            "CPU time used, seconds.",
            &[],
            usage.cpu_seconds,
        );
        out.add(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory, bytes.",
            &[],
            usage.resident_bytes as f64,
        );
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The settings can't work; a Kafka that is away is no error.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let component = config.service.component.clone().unwrap_or_else(|| "producers".to_owned());
    let shutdown = Shutdown::on_signals().context("can't listen to signals")?;
    let status = Arc::new(Status::new(topic::IOT_SENSORS, config.generate.rate_iot_sensors));
    let observed = Arc::new(Observed {
        streams: vec![status.clone()],
        waiting: Mutex::new(Some("connecting to Kafka".to_owned())),
    });
    http::serve(config.service.http_addr, observed.clone(), shutdown.clone()).await?;
    let publisher = Publisher::new(&config.kafka, &component)?;
    let (acks, acknowledged) = unbounded_channel();

    let generate = &config.generate;
    let generator = Box::new(IotSensors::new(generate.seed, generate.sensors));
    let order = Order::new(generate.disorder(), Random::new(generate.seed, 2));
    let stream = Stream::new(config.kafka.clone(), &component, generator, order, status)?;
    let (kafka, default_rate, watched, stop) =
        (config.kafka.clone(), generate.rate_iot_sensors, observed.clone(), shutdown.clone());
    let mut streams = tokio::task::spawn_blocking(move || {
        run_stream(&kafka, &component, stream, default_rate, &watched, &acks, &stop)
    });
    tokio::select! {
        outcome = &mut streams => return outcome.context("the stream's thread panicked")?,
        () = publish(&publisher, &observed, acknowledged, &shutdown) => {}
    }
    let outcome = streams.await.context("the stream's thread panicked")?;
    publisher.publish(observed.body(), Vec::new());
    outcome
}

/// A frame at each interval, and at once when a command has been acknowledged.
async fn publish(
    publisher: &Publisher,
    observed: &Observed,
    mut acknowledged: UnboundedReceiver<Ack>,
    shutdown: &Shutdown,
) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut open = true;
    loop {
        let mut acks = Vec::new();
        tokio::select! {
            () = shutdown.wait() => return,
            _ = interval.tick() => {}
            ack = acknowledged.recv(), if open => match ack {
                Some(ack) => acks.push(ack),
                None => { open = false; continue }
            },
        }
        while let Ok(ack) = acknowledged.try_recv() {
            acks.push(ack);
        }
        publisher.publish(observed.body(), acks);
    }
}

fn run_stream(
    kafka: &KafkaArgs,
    component: &str,
    mut stream: Stream,
    default_rate: f64,
    observed: &Observed,
    acks: &UnboundedSender<Ack>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    if !wait_for_topics(kafka, component, observed, shutdown)? {
        return Ok(());
    }
    observed.wait_for(Some("writing reference data".to_owned()));
    if !stream.write_reference(shutdown)? {
        return Ok(());
    }
    observed.wait_for(Some(format!("reading {}", topic::CONTROL)));
    let (to_stream, commands) = channel();
    let (sender, acks_of_commands) = (to_stream.clone(), acks.clone());
    let apply = move |command| pass_on(command, &sender, &acks_of_commands);
    let current = match control::follow(kafka, component, WHILE_IT_RUNS, shutdown.clone(), apply) {
        Ok(current) => current,
        Err(_) if shutdown.requested() => return Ok(()),
        Err(error) => return Err(error),
    };
    stream.start_at(default_rate);
    for command in current {
        pass_on(command, &to_stream, acks);
    }
    drop(to_stream);
    observed.wait_for(None);
    stream.run(&commands, acks, shutdown);
    Ok(())
}

/// Gives a command to the stream that it is for, or refuses it.
fn pass_on(command: Versioned, stream: &Sender<RateCommand>, acks: &UnboundedSender<Ack>) {
    let Versioned { version, record } = command;
    let Command::Rate { stream: name, settings } = record.command else { return };
    if name != topic::IOT_SENSORS {
        tracing::warn!(stream = name, version, "a rate for a stream that is not generated here");
        return;
    }
    // Whoever is gone is so because the process is stopping.
    match check_rate(settings.rate) {
        Ok(rate) => drop(stream.send(RateCommand { rate, id: record.id, version })),
        Err(text) => {
            tracing::warn!(stream = name, version, text, "a command was refused");
            drop(acks.send(Ack { id: record.id, version, at_ms: clock::now_ms(), refused: Some(text) }));
        }
    }
}

/// Waits until the brokers answer and have the topics. `false` if asked to stop meanwhile.
fn wait_for_topics(
    kafka: &KafkaArgs,
    component: &str,
    observed: &Observed,
    shutdown: &Shutdown,
) -> anyhow::Result<bool> {
    let group = format!("{component}-probe");
    let probe: BaseConsumer = kafka.consumer(&group, &group, "read_committed").create()?;
    let needed = [topic::IOT_SENSORS, topic::SENSORS, topic::CONTROL];
    while !shutdown.requested() {
        let started = std::time::Instant::now();
        let missing = match probe.fetch_metadata(None, ATTEMPT) {
            Err(error) => format!("Kafka at {} does not answer ({error})", kafka.bootstrap_servers),
            Ok(metadata) => {
                let known =
                    |name: &str| metadata.topics().iter().any(|t| t.name() == name && t.error().is_none());
                match needed.iter().find(|name| !known(name)) {
                    None => return Ok(true),
                    Some(name) => format!("topic {name} is missing: millrace topics setup creates it"),
                }
            }
        };
        tracing::warn!("{missing}; trying again");
        observed.wait_for(Some(missing));
        // Serves the client while it waits, up to a second per attempt.
        while started.elapsed() < Duration::from_secs(1) && !shutdown.requested() {
            probe.poll(Duration::from_millis(50));
        }
    }
    Ok(false)
}
