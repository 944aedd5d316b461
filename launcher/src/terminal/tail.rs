//! `millrace tail TOPIC`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use super::talk::CALL;
use crate::commands::client;
use crate::layout::Layout;
use crate::out;

/// How long a topic may give nothing before its end counts as reached, with a transaction open in it.
const SILENCE: Duration = Duration::from_secs(5);

/// `millrace tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// Which
    topic: String,
    /// Records of before, over all partitions
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    /// Go on showing what comes
    #[arg(short, long)]
    follow: bool,
    /// Only records with this key
    #[arg(short, long)]
    key: Option<String>,
}

/// One JSON line per committed record: `{partition, offset, timestamp, key, headers, value}`. A value that is no JSON is
/// text, or, if it is no text either, hexadecimal.
pub fn tail(layout: &Layout, options: &Tail) -> Result<ExitCode> {
    let mut config = client(layout, "millrace-terminal")?;
    config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(None, CALL).context("Kafka does not answer: `millrace health`")?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
    let Some(topic) = topic else {
        let known: Vec<_> =
            metadata.topics().iter().map(|t| t.name()).filter(|n| !n.starts_with("__")).collect();
        bail!("there is no topic {}, only {}", options.topic, known.join(", "));
    };
    let mut open: Vec<i32> = topic.partitions().iter().map(|partition| partition.id()).collect();
    // Markers of transactions and other keys are skipped, so more than asked for are looked at.
    let looked_at = if options.key.is_some() { i64::MAX } else { 200 + 4 * i64::try_from(options.lines)? };
    let mut from = TopicPartitionList::new();
    for &partition in &open {
        let (start, end) = consumer.fetch_watermarks(&options.topic, partition, CALL)?;
        from.add_partition_offset(
            &options.topic,
            partition,
            Offset::Offset(start.max(end.saturating_sub(looked_at))),
        )?;
    }
    consumer.assign(&from)?;
    let (mut before, mut heard) = (Vec::new(), Instant::now());
    while !open.is_empty() && heard.elapsed() < SILENCE {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if wanted(options, &message) {
                    before.push((message.timestamp().to_millis(), line(&message)));
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => open.retain(|p| *p != partition),
            Some(Err(_)) | None => {}
        }
    }
    before.sort_by_key(|(at, _)| *at);
    for (_, line) in before.iter().skip(before.len().saturating_sub(options.lines)) {
        out::line(line);
    }
    // Until Ctrl-C, or until nobody reads.
    loop {
        if !options.follow {
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100))
            && wanted(options, &message)
        {
            out::line(line(&message));
        }
    }
}

fn wanted(options: &Tail, message: &BorrowedMessage<'_>) -> bool {
    options.key.as_ref().is_none_or(|key| message.key() == Some(key.as_bytes()))
}

fn line(message: &BorrowedMessage<'_>) -> String {
    let mut line = Map::new();
    line.insert("partition".to_owned(), message.partition().into());
    line.insert("offset".to_owned(), message.offset().into());
    line.insert("timestamp".to_owned(), message.timestamp().to_millis().into());
    line.insert("key".to_owned(), message.key().map_or(Value::Null, |key| Value::String(text(key))));
    let headers: Map<String, Value> = message
        .headers()
        .map(|headers| {
            headers
                .iter()
                .map(|h| (h.key.to_owned(), h.value.map_or(Value::Null, |v| text(v).into())))
                .collect()
        })
        .unwrap_or_default();
    if !headers.is_empty() {
        line.insert("headers".to_owned(), headers.into());
    }
    line.insert("value".to_owned(), message.payload().map_or(Value::Null, decoded));
    json!(line).to_string()
}

fn decoded(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| Value::String(text(bytes)))
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_what_they_are() {
        assert_eq!(decoded(br#"{"a":1}"#), json!({"a": 1}));
        assert_eq!(decoded(b"not json"), json!("not json"));
        assert_eq!(decoded(&[0xff, 0x00]), json!("ff00"));
    }
}
