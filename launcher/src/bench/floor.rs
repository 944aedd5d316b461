//! What any consumer takes that reads and parses, and does nothing with it: no engine can take less with this client.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use millrace_wire::event::CardTransaction;
use rdkafka::Offset;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use super::input::Input;
use super::paced::assign;
use super::report::Measurement;
use super::stage::Stage;
use super::watch::{Sample, Warm};
use crate::usage;

/// How long Kafka may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// A look at the clock and at the CPU time after so many records.
const SAMPLE_EVERY: u64 = 10_000;

/// Reads the whole topic in this process, which does nothing else meanwhile. Returns also the input with what was found:
/// a topic written in transactions has offsets without a record.
///
/// # Errors
/// Kafka does not answer.
pub fn measure(stage: &mut Stage, input: &Input) -> Result<(Measurement, Input)> {
    let consumer = stage.target.consumer("millrace-bench", "read_committed")?;
    assign(&consumer, &input.topic, input.partitions(), Offset::Beginning)?;
    let mut found = Input { ends: vec![0; input.ends.len()], records: 0, ..input.clone() };
    let (began, before) = (Instant::now(), cpu());
    let (mut samples, mut unread, mut bytes, mut heard) = (Vec::new(), 0_u64, 0_u64, Instant::now());
    let mut open: BTreeSet<usize> = (0..input.ends.len()).collect();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = message.payload().unwrap_or_default();
                bytes += value.len() as u64;
                match serde_json::from_slice::<CardTransaction>(value) {
                    Ok(card) => drop(black_box(card)),
                    Err(_) => unread += 1,
                }
                found.records += 1;
                let partition = usize::try_from(message.partition())?;
                if let Some(end) = found.ends.get_mut(partition) {
                    *end = message.offset() + 1;
                }
                if input.ends.get(partition).is_some_and(|end| message.offset() + 1 >= *end) {
                    open.remove(&partition);
                }
                if found.records.is_multiple_of(SAMPLE_EVERY) || open.is_empty() {
                    heard = Instant::now();
                    let (at_s, cpu_s) = (began.elapsed().as_secs_f64(), cpu() - before);
                    samples.push(Sample { at_s, records: found.records, cpu_s });
                    let (read, all) = (found.records, input.records);
                    stage.progress.going(|| format!("floor: {read} of {all} records read and parsed"));
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&usize::try_from(partition)?);
            }
            _ if heard.elapsed() > SILENCE => bail!("{} can't be read to its end", input.topic),
            Some(Err(_)) | None => {}
        }
    }
    if unread > 0 {
        stage.progress.say(&format!(
            "{unread} records of {} are no card transactions: they go to dead-letters",
            input.topic
        ));
    }
    let (at_s, cpu_s) = (began.elapsed().as_secs_f64(), cpu() - before);
    samples.push(Sample { at_s, records: found.records, cpu_s });
    stage.progress.say(&format!(
        "floor: {} records of {} bytes on average in {at_s:.1} s",
        found.records,
        bytes / found.records.max(1)
    ));
    let measurement = Measurement {
        records: Some(found.records),
        wall_s: Some(at_s),
        cpu_s: Some(cpu_s),
        ..Measurement::of("floor").warm(Warm::of(&samples, found.records, 0.0))
    };
    Ok((measurement, found))
}

fn cpu() -> f64 {
    usage::process(std::process::id()).map_or(0.0, |usage| usage.cpu_seconds)
}
