//! Publishes what the supervisor sees to `millrace.telemetry`, once a second. Losing a frame is fine; waiting is not.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_wire::telemetry::{Body, FORMAT, Frame, ProcessUsage};
use millrace_wire::topic::TELEMETRY;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

use crate::board::Board;
use crate::clock::now_ms;
use crate::usage;

const COMPONENT: &str = "launcher";

/// Measures every component once a second, from the start.
pub async fn measure(board: Rc<Board>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let groups = usage::groups();
        board.measure(|pid| groups.get(&pid).map(|usage| (usage.cpu_seconds, usage.resident_bytes)));
    }
}

/// Publishes frames for as long as it is polled.
pub struct Publisher {
    producer: BaseProducer,
}

impl Publisher {
    /// Connects in the background. A small queue: when the brokers are away, new frames are dropped.
    pub fn new(mut config: ClientConfig) -> Result<Self> {
        config
            .set("queue.buffering.max.messages", "16")
            .set("message.timeout.ms", "5000")
            .set("linger.ms", "5")
            .set("partitioner", "murmur2_random");
        Ok(Self { producer: config.create().context("the telemetry producer")? })
    }

    /// One frame a second.
    pub async fn run(self, board: Rc<Board>) {
        let started_ms = now_ms();
        let own_group = nix::unistd::getpid().as_raw().unsigned_abs();
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            self.producer.poll(Duration::ZERO);
            let own = usage::process(own_group).unwrap_or_default();
            let frame = Frame {
                v: FORMAT,
                component: COMPONENT.to_owned(),
                at_ms: now_ms(),
                started_ms,
                process: ProcessUsage {
                    pid: std::process::id(),
                    cpu_seconds: own.cpu_seconds,
                    resident_bytes: own.resident_bytes,
                },
                acks: Vec::new(),
                body: Body::Launcher { components: board.snapshot().components },
            };
            if let Ok(payload) = serde_json::to_vec(&frame) {
                let _ = self.producer.send(BaseRecord::to(TELEMETRY).key(COMPONENT).payload(&payload));
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Otherwise the client waits for brokers that are about to go.
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}
