//! Commands: written to `millrace.control`, then their acknowledgements are awaited in telemetry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_service::KafkaArgs;
use millrace_service::clock::now_ms;
use millrace_wire::api::Acknowledgement;
use millrace_wire::control::{Command, ControlRecord, FORMAT};
use millrace_wire::telemetry::Ack;
use millrace_wire::topic;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::{Mutex, MutexGuard, broadcast};

use crate::kafka::sampler::away;
use crate::problem::Refusal;

/// How long Kafka may take to write a command.
const WRITE: Duration = Duration::from_secs(3);
/// How long the processes may take to acknowledge it.
const ACKNOWLEDGE: Duration = Duration::from_secs(2);

/// Writes commands, one at a time.
pub struct Commands {
    producer: FutureProducer,
    acks: broadcast::Sender<Arc<(String, Ack)>>,
    /// Held from reading the parameters in force to writing the new ones, so that no change is lost.
    turn: Mutex<()>,
}

impl Commands {
    /// # Errors
    /// The Kafka client can't be made from these settings.
    pub fn new(kafka: &KafkaArgs, acks: broadcast::Sender<Arc<(String, Ack)>>) -> Result<Self, KafkaError> {
        let producer = kafka
            .producer("gateway-control")
            .set("linger.ms", "0")
            .set("message.timeout.ms", WRITE.as_millis().to_string())
            .set("compression.type", "none")
            .create()?;
        Ok(Self { producer, acks, turn: Mutex::new(()) })
    }

    /// The right to write the next command.
    pub async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Writes a command. Returns it with its version, and what to hear its acknowledgements with.
    ///
    /// # Errors
    /// Kafka is away, or refuses.
    pub async fn write(&self, by: &str, command: Command) -> Result<Written, Refusal> {
        let started = Instant::now();
        // Before the command is written, so that no acknowledgement is missed.
        let heard = self.acks.subscribe();
        let id = format!("{:032x}", rand::random::<u128>());
        let record = ControlRecord { v: FORMAT, id, issued_at_ms: now_ms(), by: by.to_owned(), command };
        let (key, value) =
            (record.command.key(), serde_json::to_vec(&record).map_err(|error| Refusal::internal(&error))?);
        let message = FutureRecord::to(topic::CONTROL).partition(0).key(&key).payload(&value);
        match tokio::time::timeout(WRITE, self.producer.send(message, Duration::ZERO)).await {
            Ok(Ok(delivery)) => Ok(Written { version: delivery.offset, record, heard, started }),
            Ok(Err((error, _))) if !away(&error) => Err(Refusal::away(
                "kafka-refused",
                "Kafka refused the command",
                format!("It was not given: {error}. Do the topics exist (millrace topics setup)?"),
            )),
            Ok(Err(_)) | Err(_) => Err(Refusal::away(
                "kafka-away",
                "Kafka does not answer",
                "The command could not be confirmed within 3 s; it may still arrive. Look at the value in force, and \
                 try again when Kafka is back (millrace health).",
            )),
        }
    }
}

/// A command that Kafka has.
pub struct Written {
    /// Its version.
    pub version: i64,
    /// The record.
    pub record: ControlRecord,
    heard: broadcast::Receiver<Arc<(String, Ack)>>,
    started: Instant,
}

impl Written {
    /// Waits until every component of `concerned` has acknowledged, and says what they said.
    pub async fn acknowledged(mut self, mut concerned: BTreeSet<String>, nobody: &str) -> Outcome {
        if concerned.is_empty() {
            return Outcome::Waiting(self.answer(None, vec![nobody.to_owned()]));
        }
        let mut last = None;
        let mut refused = Vec::new();
        let deadline = tokio::time::Instant::from_std(self.started + ACKNOWLEDGE);
        while !concerned.is_empty() {
            let heard = match tokio::time::timeout_at(deadline, self.heard.recv()).await {
                Ok(Ok(heard)) => heard,
                Ok(Err(broadcast::error::RecvError::Lagged(_))) => continue,
                Ok(Err(broadcast::error::RecvError::Closed)) | Err(_) => break,
            };
            let (component, ack) = &*heard;
            if ack.id == self.record.id && concerned.remove(component) {
                last = Some(self.started.elapsed().as_secs_f64() * 1000.0);
                refused.extend(ack.refused.as_ref().map(|why| format!("{component}: {why}")));
            }
        }
        if !refused.is_empty() {
            Outcome::Refused(refused.join("; "))
        } else if concerned.is_empty() {
            Outcome::Applied(self.answer(last, Vec::new()))
        } else {
            Outcome::Waiting(self.answer(None, concerned.into_iter().collect()))
        }
    }

    fn answer(&self, acknowledged_ms: Option<f64>, waiting_for: Vec<String>) -> Acknowledgement {
        Acknowledgement {
            version: self.version,
            applied: waiting_for.is_empty(),
            acknowledged_ms,
            waiting_for,
        }
    }
}

/// What became of a command.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Everyone has applied it.
    Applied(Acknowledgement),
    /// Some have not answered.
    Waiting(Acknowledgement),
    /// Someone said no, and why.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::control::RateSettings;

    async fn outcome(acks: &[(&str, &str, Option<&str>)], concerned: &[&str]) -> Outcome {
        let (sender, heard) = broadcast::channel(8);
        let command = Command::Rate { stream: "iot-sensors".into(), settings: RateSettings { rate: 1.0 } };
        let record =
            ControlRecord { v: FORMAT, id: "mine".into(), issued_at_ms: 0, by: "ann".into(), command };
        let started = Instant::now() - ACKNOWLEDGE + Duration::from_millis(50);
        let written = Written { version: 7, record, heard, started };
        for (component, id, refused) in acks {
            let ack = Ack { id: (*id).into(), version: 7, at_ms: 0, refused: refused.map(str::to_owned) };
            sender.send(Arc::new(((*component).to_owned(), ack))).unwrap();
        }
        written.acknowledged(concerned.iter().map(|c| (*c).to_owned()).collect(), "nobody").await
    }

    #[tokio::test]
    async fn everyone_concerned_must_answer() {
        let both = [("a", "other", None), ("a", "mine", None), ("b", "mine", None)];
        let Outcome::Applied(answer) = outcome(&both, &["a", "b"]).await else { panic!() };
        assert!(answer.applied && answer.acknowledged_ms.is_some() && answer.version == 7);
        let Outcome::Waiting(answer) = outcome(&both[..2], &["a", "b"]).await else { panic!() };
        assert_eq!(
            (answer.applied, answer.acknowledged_ms, answer.waiting_for),
            (false, None, vec!["b".to_owned()])
        );
        let Outcome::Waiting(answer) = outcome(&both, &[]).await else { panic!() };
        assert_eq!(answer.waiting_for, ["nobody"]);
    }

    #[tokio::test]
    async fn a_refusal_says_who_and_why() {
        let acks = [("a", "mine", None), ("b", "mine", Some("too large"))];
        assert_eq!(outcome(&acks, &["a", "b"]).await, Outcome::Refused("b: too large".into()));
    }
}
