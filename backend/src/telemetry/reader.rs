//! The thread that reads `millrace.telemetry` and `millrace.control` into the state.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_service::clock::now_ms;
use millrace_service::{KafkaArgs, Shutdown};
use millrace_wire::bench;
use millrace_wire::control::{self, ControlRecord};
use millrace_wire::telemetry::{Ack, FORMAT, Frame};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::broadcast;

use super::{LagNow, State};
use crate::clock::locked;

/// How far back history is read after a restart.
const REPLAY_MS: i64 = 600_000;
const TIMEOUT: Duration = Duration::from_secs(3);

/// Reads until `shutdown`; waits for Kafka as long as it takes.
pub fn run(
    kafka: &KafkaArgs,
    state: &Mutex<State>,
    acks: &broadcast::Sender<Arc<(String, Ack)>>,
    shutdown: &Shutdown,
) {
    while !shutdown.requested() {
        if let Err(error) = follow(kafka, state, acks, shutdown) {
            tracing::warn!(%error, "telemetry can't be read, trying again");
            // Waits without sleeping through a shutdown.
            let pause = std::time::Instant::now();
            while !shutdown.requested() && pause.elapsed() < Duration::from_secs(1) {
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
    }
}

fn follow(
    kafka: &KafkaArgs,
    state: &Mutex<State>,
    acks: &broadcast::Sender<Arc<(String, Ack)>>,
    shutdown: &Shutdown,
) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = kafka
        .consumer("gateway-telemetry", "gateway-telemetry", "read_committed")
        .set("fetch.wait.max.ms", "500")
        .set("auto.offset.reset", "latest")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic::TELEMETRY, 0, Offset::Offset(now_ms() - REPLAY_MS))?;
    let mut from = consumer.offsets_for_times(from, TIMEOUT)?;
    from.add_partition_offset(topic::CONTROL, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    tracing::info!("reading telemetry");
    while !shutdown.requested() {
        match consumer.poll(Duration::from_millis(200)) {
            // Nothing for a while: what there was has been read, even if it is old.
            None => {
                let mut state = locked(state);
                state.caught_up |= state.heard_ms() > 0;
            }
            Some(Err(error)) => tracing::debug!(%error, "reading telemetry"),
            Some(Ok(message)) => {
                let value = message.payload().unwrap_or_default();
                if message.topic() == topic::CONTROL {
                    take_command(message.offset(), value, state);
                } else {
                    take_frame(value, state, acks);
                }
            }
        }
    }
    Ok(())
}

fn take_command(offset: i64, value: &[u8], state: &Mutex<State>) {
    match serde_json::from_slice::<ControlRecord>(value) {
        Ok(record) if record.v == control::FORMAT => locked(state).command(offset, record),
        Ok(record) => {
            tracing::warn!(offset, version = record.v, "a command of an unknown format was skipped");
        }
        Err(error) => tracing::warn!(offset, %error, "a record of {} was skipped", topic::CONTROL),
    }
}

fn take_frame(value: &[u8], state: &Mutex<State>, acks: &broadcast::Sender<Arc<(String, Ack)>>) {
    let frame = match serde_json::from_slice::<Frame>(value) {
        Ok(frame) if frame.v == FORMAT => frame,
        Ok(frame) => {
            tracing::warn!(
                component = frame.component,
                version = frame.v,
                "a frame of an unknown format was skipped"
            );
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "a record of {} was skipped", topic::TELEMETRY);
            return;
        }
    };
    // Workers of `millrace bench` are none of the demo's.
    if bench::owns(&frame.component) {
        return;
    }
    let now = now_ms();
    let component = frame.component.clone();
    let mut state = locked(state);
    if !state.caught_up {
        state.advance(frame.at_ms.min(now), LagNow::default());
        state.caught_up = frame.at_ms > now - 1_000;
    }
    let new = state.apply(frame);
    drop(state);
    for ack in new {
        // Nobody may be waiting.
        let _ = acks.send(Arc::new((component.clone(), ack)));
    }
}
