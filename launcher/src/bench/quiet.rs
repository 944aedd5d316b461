//! The demo's generators stand still while the bench measures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use millrace_wire::control::{Command, ControlRecord, FORMAT, RateSettings};
use millrace_wire::telemetry::{Body, Frame};
use millrace_wire::topic;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::stage::Stage;
use super::target::CALL;
use crate::clock::now_ms;

/// Frames that are looked at: more than all processes publish in 5 s.
const FRAMES: i64 = 300;

/// The rates as they were.
pub struct Quiet(BTreeMap<String, f64>);

impl Quiet {
    /// Asks every generator to stand still. `None`: none runs, or none could be asked; then it says so.
    pub fn ask(stage: &Stage) -> Option<Self> {
        let asked = rates(stage).and_then(|rates| {
            let still: BTreeMap<_, _> = rates.keys().map(|stream| (stream.clone(), 0.0)).collect();
            set(stage, &still).map(|()| rates)
        });
        match asked {
            Ok(rates) if rates.values().any(|rate| *rate > 0.0) => Some(Self(rates)),
            Ok(_) => None,
            Err(error) => {
                crate::out::complain(format!("the generators go on during the measurement: {error:#}"));
                None
            }
        }
    }

    /// Gives the generators their rates back.
    pub fn end(&self, stage: &Stage) {
        if let Err(error) = set(stage, &self.0) {
            crate::out::complain(format!(
                "the generators stand still, their rates were {:?}: {error:#}",
                self.0
            ));
        }
    }
}

/// The rates that were asked for, by stream, as the newest telemetry says.
fn rates(stage: &Stage) -> Result<BTreeMap<String, f64>> {
    let consumer = stage.target.consumer("millrace-bench", "read_committed")?;
    let (start, end) = stage.target.ends(&consumer, topic::TELEMETRY, 0)?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic::TELEMETRY, 0, Offset::Offset((end - FRAMES).max(start)))?;
    consumer.assign(&from)?;
    let (began, mut rates) = (Instant::now(), BTreeMap::new());
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let frame = serde_json::from_slice::<Frame>(message.payload().unwrap_or_default());
                if let Ok(Frame { body: Body::Producers { streams }, .. }) = frame {
                    rates = streams.into_iter().map(|stream| (stream.stream, stream.target_rate)).collect();
                }
                if message.offset() + 1 >= end {
                    return Ok(rates);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(rates),
            Some(Err(error)) if began.elapsed() > CALL => {
                return Err(error).context("telemetry can't be read");
            }
            None if began.elapsed() > CALL => anyhow::bail!("telemetry can't be read"),
            Some(Err(_)) | None => {}
        }
    }
}

fn set(stage: &Stage, rates: &BTreeMap<String, f64>) -> Result<()> {
    let producer = stage.target.producer(0, DefaultProducerContext)?;
    for (stream, rate) in rates {
        let at = now_ms();
        let command = Command::Rate { stream: stream.clone(), settings: RateSettings { rate: *rate } };
        let (key, id, by) = (command.key(), format!("bench-{stream}-{at}"), "millrace bench".to_owned());
        let record = ControlRecord { v: FORMAT, id, issued_at_ms: at, by, command };
        let value = serde_json::to_vec(&record)?;
        let sent = producer.send(BaseRecord::to(topic::CONTROL).key(&key).payload(&value));
        sent.map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(CALL)?)
}
