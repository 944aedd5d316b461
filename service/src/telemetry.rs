//! Publishing telemetry frames.

use anyhow::Context;
use millrace_wire::telemetry::{Ack, Body, FORMAT, Frame};
use millrace_wire::topic;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};

use crate::{KafkaArgs, clock, process_usage};

/// How often a frame is published.
pub const INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

/// Ticks when a frame is due: at the same moments in every process, see [`clock::until_next`].
pub fn ticks() -> tokio::time::Interval {
    tokio::time::interval_at(tokio::time::Instant::now() + clock::until_next(INTERVAL), INTERVAL)
}

/// Publishes the frames of one component. Telemetry never holds up the work: what can't be sent is dropped, and the
/// totals in the next frame make up for it.
pub struct Publisher {
    producer: ThreadedProducer<DefaultProducerContext>,
    component: String,
    started_ms: i64,
}

impl Publisher {
    /// # Errors
    /// The Kafka client can't be made from these settings.
    pub fn new(kafka: &KafkaArgs, component: &str) -> anyhow::Result<Self> {
        let producer = kafka
            .client(&format!("{component}-telemetry"))
            .set("acks", "1")
            .set("linger.ms", "2")
            .set("compression.type", "lz4")
            .set("message.timeout.ms", "5000")
            .set("queue.buffering.max.messages", "500")
            .create()
            .context("the telemetry producer can't be made")?;
        Ok(Self { producer, component: component.to_owned(), started_ms: clock::now_ms() })
    }

    /// Publishes a frame now. Returns it for `/metrics`.
    pub fn publish(&self, body: Body, acks: Vec<Ack>) -> Frame {
        let frame = Frame {
            v: FORMAT,
            component: self.component.clone(),
            at_ms: clock::now_ms(),
            started_ms: self.started_ms,
            process: process_usage(),
            acks,
            body,
        };
        match serde_json::to_vec(&frame) {
            Ok(value) => {
                let record = BaseRecord::to(topic::TELEMETRY).key(self.component.as_bytes()).payload(&value);
                if let Err((error, _)) = self.producer.send(record) {
                    tracing::debug!(%error, "a telemetry frame was dropped");
                }
            }
            Err(error) => tracing::error!(%error, "a telemetry frame can't be written"),
        }
        frame
    }
}
