use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::control::{self, Command, ControlRecord};
use millrace_wire::telemetry::{Ack, Body, Frame, JobDescriptor, Processor};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::clock::now_ms;
use crate::commands::client;
use crate::layout::Layout;

/// One question to a broker.
pub const CALL: Duration = Duration::from_secs(10);
/// Frames of before that are looked at: what jobs are is told every 5 s only.
const FRAMES: i64 = 400;
/// A process that has not been heard of for so long is not there, ms.
const SILENT_MS: i64 = 3_000;
/// How long to wait for whom a command concerns.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// Listens to telemetry, and gives commands.
pub struct Talk {
    config: ClientConfig,
    telemetry: BaseConsumer,
    /// The newest frame of each component.
    frames: BTreeMap<String, Frame>,
    /// What the jobs are.
    pub catalogue: Vec<JobDescriptor>,
    acks: Vec<(String, Ack)>,
}

impl Talk {
    /// Begins to listen, with what was said in the last seconds.
    pub fn new(layout: &Layout) -> Result<Self> {
        let config = client(layout, "millrace-terminal")?;
        let telemetry: BaseConsumer = config.create()?;
        let (start, end) = telemetry
            .fetch_watermarks(topic::TELEMETRY, 0, CALL)
            .context("Kafka does not answer: `millrace health`")?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic::TELEMETRY, 0, Offset::Offset((end - FRAMES).max(start)))?;
        telemetry.assign(&from)?;
        let mut talk =
            Self { config, telemetry, frames: BTreeMap::new(), catalogue: Vec::new(), acks: Vec::new() };
        let mut at = start;
        // An empty topic has no last frame.
        talk.listen(if end > start { CALL } else { Duration::ZERO }, |_, offset| {
            at = offset;
            at + 1 >= end
        });
        Ok(talk)
    }

    /// Listens until `enough`, which sees each frame's offset, or until `patience` is at its end. Returns whether it was.
    fn listen(&mut self, patience: Duration, mut enough: impl FnMut(&Self, i64) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let Some(Ok(message)) = self.telemetry.poll(Duration::from_millis(50)) else { continue };
            let offset = message.offset();
            let frame = message.payload().and_then(|value| serde_json::from_slice::<Frame>(value).ok());
            drop(message);
            if let Some(mut frame) = frame {
                let acks = std::mem::take(&mut frame.acks).into_iter();
                self.acks.extend(acks.map(|ack| (frame.component.clone(), ack)));
                if let Body::Processor(processor) = &mut frame.body
                    && !processor.catalogue.is_empty()
                {
                    self.catalogue = std::mem::take(&mut processor.catalogue);
                }
                self.frames.insert(frame.component.clone(), frame);
            }
            if enough(self, offset) {
                return true;
            }
        }
        false
    }

    /// Frames of the processes that are there now.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        let now = now_ms();
        self.frames.values().filter(move |frame| now - frame.at_ms < SILENT_MS)
    }

    /// Workers that are there now.
    pub fn workers(&self) -> impl Iterator<Item = (&str, &Processor)> {
        self.frames().filter_map(|frame| match &frame.body {
            Body::Processor(processor) => Some((frame.component.as_str(), processor)),
            _ => None,
        })
    }

    /// Gives a command, and waits until everyone whom it concerns has put it in force. Returns how long that took, ms.
    ///
    /// # Errors
    /// Kafka does not take it, someone refuses it, or does not answer in time.
    pub fn command(
        &mut self,
        command: Command,
        mut concerned: BTreeSet<String>,
        nobody: &str,
    ) -> Result<f64> {
        if concerned.is_empty() {
            bail!("{nobody}: `millrace health`");
        }
        let mut config = self.config.clone();
        // A command that is written twice is the same command: its id says so.
        config.set("acks", "all").set("message.timeout.ms", "5000");
        let producer: BaseProducer = config.create()?;
        // Connects: that is not the time that the command takes.
        producer.client().fetch_metadata(Some(topic::CONTROL), CALL).context("Kafka does not answer")?;
        let (key, at, began) = (command.key(), now_ms(), Instant::now());
        let id = format!("terminal-{}-{at}", std::process::id());
        let by = "millrace".to_owned();
        let record = ControlRecord { v: control::FORMAT, id: id.clone(), issued_at_ms: at, by, command };
        let value = serde_json::to_vec(&record)?;
        let sent = producer.send(BaseRecord::to(topic::CONTROL).partition(0).key(&key).payload(&value));
        sent.map_err(|(error, _)| error)?;
        producer.flush(CALL).context("Kafka has not taken the command")?;
        let mut refused = Vec::new();
        let done = self.listen(ACKNOWLEDGE, |talk, _| {
            for (component, ack) in talk.acks.iter().filter(|(_, ack)| ack.id == id) {
                if concerned.remove(component) {
                    refused.extend(ack.refused.clone());
                }
            }
            concerned.is_empty()
        });
        if let Some(why) = refused.first() {
            bail!("refused: {why}");
        }
        if !done {
            let waiting: Vec<_> = concerned.into_iter().collect();
            bail!(
                "given, and not acknowledged by {} within {} s; it is in force as soon as they are back",
                waiting.join(", "),
                ACKNOWLEDGE.as_secs()
            );
        }
        Ok(began.elapsed().as_secs_f64() * 1_000.0)
    }
}
