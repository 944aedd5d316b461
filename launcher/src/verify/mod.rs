//! `millrace verify JOB`: recomputes the results of a windowed job in batch, from what is in the topics, and compares them with
//! what the stream has emitted, window by window.
//!
//! What came too late is what `late-events` says, and what can't be read is what `dead-letters` says; both are checked:
//! a record there must indeed have been late, or unreadable.

mod batch;
mod change;
mod comparison;
mod event_time;
mod fields;
mod jobs;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use millrace_wire::control::{Command, ControlRecord};
use millrace_wire::result::header;
use millrace_wire::telemetry::JobDescriptor;
use millrace_wire::topic;
use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use batch::{Oracle, Params};
use change::Change;
use comparison::{Comparison, Place, Range, Record, Sides, Verdict};

use crate::commands::client;
use crate::layout::Layout;
use crate::out;
use crate::records;
use crate::terminal;

/// How long Kafka may be silent, and the processor may take to come to the end of the range.
const PATIENCE: Duration = Duration::from_secs(60);
/// Differences that are shown.
const SHOWN: usize = 20;

/// `millrace verify`.
#[derive(Debug, Args)]
pub struct Options {
    /// JOB or APP.JOB; every windowed job if none is named
    jobs: Vec<String>,
    #[command(flatten)]
    range: Range,
}

/// Runs the command. Fails if stream and batch differ.
pub fn verify(layout: &Layout, options: &Options) -> Result<ExitCode> {
    let config = client(layout, "millrace-verify")?;
    let chosen: Vec<&Oracle> = jobs::ALL.iter().filter(|oracle| wanted(oracle, &options.jobs)).collect();
    for name in &options.jobs {
        if !jobs::ALL.iter().any(|oracle| wanted(oracle, std::slice::from_ref(name))) {
            let mut known: Vec<_> = jobs::ALL.iter().map(|o| format!("{}.{}", o.app, o.job)).collect();
            known.dedup();
            bail!("{name} is not a windowed job that can be verified, only {}", known.join(", "));
        }
    }
    let mut agree = true;
    for oracle in chosen {
        let (about, params) = terminal::job(layout, &format!("{}.{}", oracle.app, oracle.job))?;
        if let Some(why) = oracle.refusal(&params) {
            out::line(format!("{}: NOT COMPARED: {why}", oracle.name()));
            agree = false;
            continue;
        }
        let changes = changes(&config, oracle, &about)?;
        let verdict = compare(&config, oracle, &params, (options.range, changes))?;
        let Verdict { records, late, dead, windows, open, differences } = &verdict;
        let word = if differences.is_empty() { "agree" } else { "DIFFER" };
        out::line(format!(
            "{}: stream and batch {word}: {windows} windows of {records} records compared ({late} late, {dead} unreadable; \
             {open} windows not over, not in the range or from before the parameters' last change)",
            oracle.name()
        ));
        for difference in differences.iter().take(SHOWN) {
            out::line(format!("  {difference}"));
        }
        if differences.len() > SHOWN {
            out::line(format!("  and {} more", differences.len() - SHOWN));
        }
        agree &= differences.is_empty();
    }
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted(oracle: &Oracle, names: &[String]) -> bool {
    names.is_empty()
        || names.iter().any(|name| *name == oracle.job || *name == format!("{}.{}", oracle.app, oracle.job))
}

/// Every change of the job's parameters. `millrace.control` may have forgotten older ones.
fn changes(config: &ClientConfig, oracle: &Oracle, about: &JobDescriptor) -> Result<Vec<Change>> {
    let ends = records::ends(config, topic::CONTROL, PATIENCE)?;
    let default =
        |(name, property): (&String, &Value)| Some((name.clone(), property.get("default")?.clone()));
    let properties = about.schema.get("properties").and_then(Value::as_object);
    let defaults: Params = properties.into_iter().flatten().filter_map(default).collect();
    let mut before = defaults.clone();
    let mut changes = Vec::new();
    records::read(config, topic::CONTROL, (&vec![0; ends.len()], &ends), PATIENCE, |found| {
        if let Ok(record) = serde_json::from_slice::<ControlRecord>(&found.value)
            && let Command::Params { app, job, params } = record.command
            && (app.as_str(), job.as_str()) == (oracle.app, oracle.job)
        {
            let mut now = defaults.clone();
            now.extend(params);
            if now != before {
                changes.push(Change::new(oracle, record.issued_at_ms, (&before, &now)));
                before = now;
            }
        }
    })?;
    Ok(changes)
}

/// Reads what the processor has read of the streams, and what it has written.
fn compare(
    config: &ClientConfig,
    oracle: &Oracle,
    params: &Params,
    (range, changes): (Range, Vec<Change>),
) -> Result<Verdict> {
    let ends = |topic: &str| records::ends(config, topic, PATIENCE);
    let mut streams = Vec::new();
    for &topic in oracle.streams {
        let ends = range.ends(ends(topic)?);
        until_processed(config, oracle.app, topic, &ends)?;
        streams.push((topic, ends));
    }
    let mut comparison = Comparison::new(oracle, params, sides(config, oracle)?, changes);
    for (topic, ends) in &streams {
        records::read(config, topic, (&vec![0; ends.len()], ends), PATIENCE, |found| {
            let place = (found.partition, found.offset);
            comparison.record(&Record { topic, place, created_ms: found.created_ms, value: &found.value });
        })?;
    }
    let ends = ends(oracle.output)?;
    records::read(config, oracle.output, (&vec![0; ends.len()], &ends), PATIENCE, |found| {
        if let Ok(value) = serde_json::from_slice(&found.value) {
            comparison.result(value);
        }
    })?;
    Ok(comparison.verdict(range))
}

/// What the side outputs hold of the job and of its app.
fn sides(config: &ClientConfig, oracle: &Oracle) -> Result<Sides> {
    let job = format!("{}/{}", oracle.app, oracle.job);
    let mut sides = Sides::default();
    let mut partials = HashMap::new();
    side(config, topic::LATE_EVENTS, &job, |place, value| {
        let partial = oracle.partial.filter(|_| place.0 != oracle.input);
        match partial.and_then(|partial| partial(&serde_json::from_slice(value).ok()?)) {
            Some(partial) => partials.entry(place).or_insert((partial, 0)).1 += 1,
            None => {
                sides.late.insert(origin(place, value));
            }
        }
    })?;
    let of_these_windows = |(partial, times)| (times >= oracle.late_times).then_some(partial);
    sides.partials = partials.into_values().filter_map(of_these_windows).collect();
    side(config, topic::DEAD_LETTERS, oracle.app, |place, _| {
        sides.dead.insert(place);
    })?;
    Ok(sides)
}

/// Where a late record is from: a repartitioned one says so itself.
fn origin(place: Place, value: &[u8]) -> Place {
    let message: Option<Value> = serde_json::from_slice(value).ok();
    let origin = message.and_then(|message| serde_json::from_value(message.get("origin")?.clone()).ok());
    origin.unwrap_or(place)
}

/// Hands each record of a side output of `job` to `record`, with the place of its source.
fn side(config: &ClientConfig, topic: &str, job: &str, mut record: impl FnMut(Place, &[u8])) -> Result<()> {
    let ends = records::ends(config, topic, PATIENCE)?;
    records::read(config, topic, (&vec![0; ends.len()], &ends), PATIENCE, |found| {
        let number = |name| found.header(name)?.parse::<i64>().ok();
        let place = (found.header(header::TOPIC), number(header::PARTITION), number(header::OFFSET));
        if found.header(header::JOB) == Some(job)
            && let (Some(topic), Some(partition), Some(offset)) = place
            && let Ok(partition) = i32::try_from(partition)
        {
            record((topic.to_owned(), partition, offset), &found.value);
        }
    })
}

/// Waits until an app has processed a stream up to these offsets, for as long as it comes closer.
fn until_processed(config: &ClientConfig, app: &str, topic: &str, ends: &[i64]) -> Result<()> {
    let consumer = records::consumer(config, &topic::group(app))?;
    let (mut least, mut said, mut moved) = (i64::MAX, Instant::now(), Instant::now());
    loop {
        let mut wanted = TopicPartitionList::new();
        for (partition, _) in (0..).zip(ends) {
            wanted.add_partition(topic, partition);
        }
        let committed = consumer.committed_offsets(wanted, PATIENCE)?;
        let behind = (0..).zip(ends).map(|(partition, end)| {
            match committed.find_partition(topic, partition).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => (end - offset).max(0),
                _ => *end,
            }
        });
        let behind: i64 = behind.sum();
        if behind == 0 {
            return Ok(());
        }
        if behind < least {
            (least, moved) = (behind, Instant::now());
        }
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            out::line(format!("{app} has {behind} records of {topic} to process yet"));
        }
        if moved.elapsed() > PATIENCE {
            bail!(
                "{app} has processed nothing of {topic} for {} s, {behind} records before the end: `millrace health`",
                PATIENCE.as_secs()
            );
        }
        drop(consumer.poll(Duration::from_millis(100)));
    }
}
