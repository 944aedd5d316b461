//! Following `millrace.control`.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millrace_wire::control::{ControlRecord, FORMAT};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::{KafkaArgs, Shutdown};

/// A command and its version (the record's offset).
#[derive(Debug, Clone)]
pub struct Versioned {
    /// Larger is newer.
    pub version: i64,
    /// The command.
    pub record: ControlRecord,
}

/// Reads what `millrace.control` holds now (the newest command of each target, oldest first), then calls `apply` for
/// each later one from a thread of its own, until `shutdown`.
///
/// # Errors
/// Kafka does not answer within `deadline`.
pub fn follow(
    kafka: &KafkaArgs,
    component: &str,
    deadline: Duration,
    shutdown: Shutdown,
    apply: impl Fn(Versioned) + Send + 'static,
) -> anyhow::Result<Vec<Versioned>> {
    let consumer: BaseConsumer = kafka
        .consumer(&format!("{component}-control"), &format!("{component}-control"), "read_committed")
        .set("enable.partition.eof", "true")
        .create()
        .context("the control consumer can't be made")?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic::CONTROL, 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let (ready, current) = mpsc::channel();
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let mut initial = Some((ready, Vec::<Versioned>::new()));
        while !shutdown.requested() {
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    if let Some((ready, mut commands)) = initial.take() {
                        let mut seen = std::collections::HashSet::new();
                        commands.reverse();
                        commands.retain(|c| seen.insert(c.record.command.key()));
                        commands.reverse();
                        // The receiver is gone only if it gave up waiting: whoever it was starts another.
                        if ready.send(commands).is_err() {
                            return;
                        }
                    }
                }
                Some(Err(error)) => tracing::warn!(%error, "reading {} failed, trying again", topic::CONTROL),
                Some(Ok(message)) => match parse(message.payload().unwrap_or_default()) {
                    Ok(record) => {
                        let command = Versioned { version: message.offset(), record };
                        match &mut initial {
                            Some((_, commands)) => commands.push(command),
                            None => apply(command),
                        }
                    }
                    Err(error) => {
                        tracing::error!(offset = message.offset(), %error, "a record of {} was skipped", topic::CONTROL);
                    }
                },
            }
        }
    })?;
    let started = Instant::now();
    current.recv_timeout(deadline).map_err(|_| {
        anyhow::anyhow!(
            "{} could not be read within {:.0} s: are the brokers up, and do its topics exist (millrace topics setup)?",
            topic::CONTROL,
            started.elapsed().as_secs_f64()
        )
    })
}

fn parse(value: &[u8]) -> anyhow::Result<ControlRecord> {
    #[derive(serde::Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_slice(value)?;
    if v != FORMAT {
        bail!("format {v} is not known here (this is {FORMAT}): upgrade this process");
    }
    Ok(serde_json::from_slice(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_refused_by_name() {
        let error = parse(br#"{"v":9,"new":"shape"}"#).unwrap_err();
        assert_eq!(error.to_string(), "format 9 is not known here (this is 1): upgrade this process");
    }
}
