//! The process: waits for Kafka, starts the streams, passes commands to them, publishes what they do.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use millrace_service::control::{self, Versioned};
use millrace_service::metrics::{Exposition, Kind};
use millrace_service::telemetry::{Publisher, ticks};
use millrace_service::{KafkaArgs, Shutdown, clock, http};
use millrace_wire::control::Command;
use millrace_wire::telemetry::{Ack, Body};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::{Config, GenerateArgs, check_rate, check_scenario};
use crate::iot_sensors::IotSensors;
use crate::order::{Disorder, Order};
use crate::orders::Orders;
use crate::stream::{Change, Status, Stream, StreamCommand};
use crate::system_metrics::SystemReadings;
use crate::transactions::Transactions;
use crate::user_events::UserEvents;
use crate::{Generator, Random};

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
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The settings can't work; a Kafka that is away is no error.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let component = config.service.component.clone().unwrap_or_else(|| "producers".to_owned());
    let shutdown = Shutdown::on_signals().context("can't listen to signals")?;
    let generators =
        generators(&config.generate).context("/proc can't be read, which system-metrics is made of")?;
    let observed = Arc::new(Observed {
        streams: generators.iter().map(|(g, rate, _)| Arc::new(Status::new(g.stream(), *rate))).collect(),
        waiting: Mutex::new(Some("connecting to Kafka".to_owned())),
    });
    http::serve(config.service.http_addr, observed.clone(), shutdown.clone()).await?;
    let publisher = Publisher::new(&config.kafka, &component)?;
    let (acks, acknowledged) = unbounded_channel();

    let mut streams = Vec::new();
    for (number, ((generator, rate, disorder), status)) in
        (2..).zip(generators.into_iter().zip(&observed.streams))
    {
        let order = Order::new(disorder, Random::new(config.generate.seed, number));
        let stream = Stream::new(
            config.kafka.clone(),
            &component,
            generator,
            order,
            config.generate.seed,
            status.clone(),
        )?;
        streams.push((status.stream, stream, rate));
    }
    let (kafka, watched, stop) = (config.kafka.clone(), observed.clone(), shutdown.clone());
    let mut streams =
        tokio::task::spawn_blocking(move || run_streams(&kafka, &component, streams, &watched, &acks, &stop));
    tokio::select! {
        outcome = &mut streams => return outcome.context("a stream's thread panicked")?,
        () = publish(&publisher, &observed, acknowledged, &shutdown) => {}
    }
    let outcome = streams.await.context("a stream's thread panicked")?;
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
    let mut interval = ticks();
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

/// A generator, its rate at the start, events/s, and how far out of order it is.
type Source = (Box<dyn Generator>, f64, Disorder);

/// Every stream with the rate that it starts at, and its disorder.
fn generators(args: &GenerateArgs) -> std::io::Result<Vec<Source>> {
    let (seed, disorder) = (args.seed, args.disorder());
    Ok(vec![
        (Box::new(IotSensors::new(seed, args.sensors)), args.rate_iot_sensors, disorder),
        (Box::new(Transactions::new(seed, args.users, args.customers)), args.rate_transactions, disorder),
        (Box::new(Orders::new(seed, args.customers)), args.rate_orders, disorder),
        (Box::new(UserEvents::new(seed, args.users)), args.rate_user_events, disorder),
        // What is measured is measured now.
        (Box::new(SystemReadings::new()?), args.rate_system_metrics, Disorder::NONE),
    ])
}

/// Where the commands of each stream go, by its name.
type Streams = BTreeMap<&'static str, Sender<StreamCommand>>;

/// Runs streams (name, stream, rate at the start), each in a thread of its own.
fn run_streams(
    kafka: &KafkaArgs,
    component: &str,
    streams: Vec<(&'static str, Stream, f64)>,
    observed: &Observed,
    acks: &UnboundedSender<Ack>,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    if !wait_for_topics(kafka, component, observed, shutdown)? {
        return Ok(());
    }
    observed.wait_for(Some("writing reference data".to_owned()));
    let mut senders = Streams::new();
    let mut ready = Vec::new();
    for (name, stream, rate) in streams {
        if !stream.write_reference(shutdown)? {
            return Ok(());
        }
        let (to_stream, commands) = channel();
        senders.insert(name, to_stream);
        ready.push((stream, rate, commands));
    }
    observed.wait_for(Some(format!("reading {}", topic::CONTROL)));
    let (to_streams, acks_of_commands) = (senders.clone(), acks.clone());
    let apply = move |command| pass_on(command, &to_streams, &acks_of_commands);
    let current = match control::follow(kafka, component, WHILE_IT_RUNS, shutdown.clone(), apply) {
        Ok(current) => current,
        Err(_) if shutdown.requested() => return Ok(()),
        Err(error) => return Err(error),
    };
    for (stream, rate, _) in &mut ready {
        stream.start_at(*rate);
    }
    for command in current {
        pass_on(command, &senders, acks);
    }
    drop(senders);
    observed.wait_for(None);
    std::thread::scope(|scope| {
        for (stream, _, commands) in ready {
            scope.spawn(move || stream.run(&commands, acks, shutdown));
        }
    });
    Ok(())
}

/// Gives a command to the stream that it is for, or refuses it. A scenario that is over is no command any more.
fn pass_on(command: Versioned, streams: &Streams, acks: &UnboundedSender<Ack>) {
    let Versioned { version, record } = command;
    let (name, change) = match record.command {
        Command::Rate { stream, settings } => (stream, check_rate(settings.rate).map(Change::Rate)),
        Command::Scenario { stream, settings } => {
            let ends_ms = record.issued_at_ms + i64::from(settings.seconds) * 1_000;
            if ends_ms <= clock::now_ms() {
                return;
            }
            let change = check_scenario(&stream, &settings)
                .map(|scenario| Change::Scenario(scenario, record.issued_at_ms, settings.seconds));
            (stream, change)
        }
        Command::Params { .. } | Command::Checkpoint { .. } => return,
    };
    let Some(stream) = streams.get(name.as_str()) else {
        tracing::warn!(stream = name, version, "a command for a stream that is not generated here");
        return;
    };
    // Whoever is gone is so because the process is stopping.
    match change {
        Ok(change) => drop(stream.send(StreamCommand { change, id: record.id, version })),
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
    let mut needed = vec![topic::SENSORS, topic::USERS, topic::MERCHANTS, topic::CONTROL];
    needed.extend(observed.streams.iter().map(|status| status.stream));
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

#[cfg(test)]
mod tests {
    use millrace_wire::control::{ControlRecord, FORMAT, RateSettings, ScenarioSettings};
    use millrace_wire::scenario::Scenario;

    use super::*;

    fn command(stream: &str, rate: f64) -> Versioned {
        let command = Command::Rate { stream: stream.to_owned(), settings: RateSettings { rate } };
        let record =
            ControlRecord { v: FORMAT, id: "id".into(), issued_at_ms: 0, by: "test".into(), command };
        Versioned { version: 7, record }
    }

    #[test]
    fn a_rate_goes_to_the_stream_that_it_names_and_to_no_other() {
        let ((orders, of_orders), (sensors, of_sensors)) = (channel(), channel());
        let streams = Streams::from([("orders", orders), ("iot-sensors", sensors)]);
        let (acks, mut refused) = unbounded_channel();
        pass_on(command("orders", 5.0), &streams, &acks);
        pass_on(command("elsewhere", 6.0), &streams, &acks);
        assert_eq!(
            of_orders.try_iter().map(|c| (c.change, c.version)).collect::<Vec<_>>(),
            [(Change::Rate(5.0), 7)]
        );
        assert_eq!(of_sensors.try_iter().count(), 0);
        assert!(refused.try_recv().is_err());
        pass_on(command("iot-sensors", -1.0), &streams, &acks);
        assert_eq!(of_sensors.try_iter().count(), 0);
        assert!(refused.try_recv().unwrap().refused.unwrap().contains("outside of 0 to 50000"));
    }

    #[test]
    fn a_scenario_is_provoked_where_it_fits_and_not_when_it_is_over() {
        let (orders, of_orders) = channel();
        let streams = Streams::from([("orders", orders)]);
        let (acks, mut refused) = unbounded_channel();
        let give = |name, seconds, issued_at_ms| {
            let settings = ScenarioSettings { name, seconds };
            let command = Command::Scenario { stream: "orders".into(), settings };
            let record =
                ControlRecord { v: FORMAT, id: "id".into(), issued_at_ms, by: "test".into(), command };
            pass_on(Versioned { version: 7, record }, &streams, &acks);
            of_orders.try_iter().map(|c| c.change).collect::<Vec<_>>()
        };
        let now = clock::now_ms();
        assert_eq!(give(Scenario::VipSpree, 30, now), [Change::Scenario(Scenario::VipSpree, now, 30)]);
        assert_eq!(
            give(Scenario::VipSpree, 30, now - 30_000),
            [],
            "a generator that starts anew does not repeat it"
        );
        assert!(refused.try_recv().is_err());
        assert_eq!(give(Scenario::Mold, 30, now), []);
        assert!(refused.try_recv().unwrap().refused.unwrap().contains("mold"));
        assert_eq!(give(Scenario::Burst, 3_601, now), []);
        assert!(refused.try_recv().unwrap().refused.unwrap().contains("3600"));
    }
}
