//! `millrace verify JOB`: recomputes the results of a windowed job in batch, from what is in the topics, and compares them with
//! what the stream has emitted, window by window.
//!
//! What came too late is what `late-events` says, and what can't be read is what `dead-letters` says; both are checked:
//! a record there must indeed have been late, or unreadable.

mod batch;
mod jobs;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
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

use batch::{Group, Oracle, Params, Placed, Window, Windows};

use crate::commands::client;
use crate::layout::Layout;
use crate::out;
use crate::records;
use crate::terminal;

/// How long Kafka may be silent, and the processor may take to come to the end of the range.
const PATIENCE: Duration = Duration::from_secs(60);
/// How far out of order streams may be: the apps' bound, ms.
const OUT_OF_ORDER: i64 = 5_000;
/// A partition without records for so long does not hold event time back, ms.
const IDLE: i64 = 10_000;
/// Differences that are shown.
const SHOWN: usize = 20;

/// `millrace verify`.
#[derive(Debug, Args)]
pub struct Options {
    /// JOB or APP.JOB; every windowed job if none is named
    jobs: Vec<String>,
    /// Only windows whose records begin at this offset of their partition or behind it
    #[arg(long, default_value_t = 0)]
    from: i64,
    /// Only records before this offset of their partition; all that there are now if not said
    #[arg(long)]
    to: Option<i64>,
}

/// What a comparison came to.
#[derive(Debug, Default)]
struct Verdict {
    records: usize,
    late: usize,
    dead: usize,
    /// Windows compared.
    windows: usize,
    /// Windows that were not over at the end of the range, or began before it or before the last change of parameters; and
    /// overlapping ones of which one may have been over when a record came.
    open: usize,
    /// Key, window and what is wrong with it.
    differences: Vec<String>,
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
        let since = unmixed_since(&config, oracle, &about)?;
        let verdict = compare(&config, oracle, &params, (options, since))?;
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

/// Records in a side output: source topic, partition and offset.
type Places = HashSet<(String, i32, i64)>;

/// From when on all windows are those of the parameters in force. After a change, windows of the ones before it stay open
/// until they are over, and a record that is in one of them is not late.
fn unmixed_since(config: &ClientConfig, oracle: &Oracle, about: &JobDescriptor) -> Result<i64> {
    let ends = records::ends(config, topic::CONTROL, PATIENCE)?;
    let default =
        |(name, property): (&String, &Value)| Some((name.clone(), property.get("default")?.clone()));
    let properties = about.schema.get("properties").and_then(Value::as_object);
    let defaults: Params = properties.into_iter().flatten().filter_map(default).collect();
    let mut before = defaults.clone();
    let mut longest = 0;
    let mut since = i64::MIN;
    records::read(config, topic::CONTROL, (&vec![0; ends.len()], &ends), PATIENCE, |found| {
        if let Ok(record) = serde_json::from_slice::<ControlRecord>(&found.value)
            && let Command::Params { app, job, params } = record.command
            && (app.as_str(), job.as_str()) == (oracle.app, oracle.job)
        {
            let mut now = defaults.clone();
            now.extend(params);
            if now == before {
                return;
            }
            longest = longest.max(match (oracle.windows)(&before) {
                Windows::Sliding { size, .. } => size,
                Windows::Session { gap } => gap,
                Windows::Unknown => 0,
            });
            since = record.issued_at_ms + longest + jobs::lateness(&before) + OUT_OF_ORDER;
            before = now;
        }
    })?;
    Ok(since)
}

/// Windows that begin before `since` may be of other parameters.
fn compare(
    config: &ClientConfig,
    oracle: &Oracle,
    params: &Params,
    (options, since): (&Options, i64),
) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let ends = |topic: &str| records::ends(config, topic, PATIENCE);
    let start = vec![0; ends(oracle.input)?.len()];
    let mut to = BTreeMap::new();
    for &topic in oracle.streams {
        let limit = options.to.unwrap_or(i64::MAX);
        let ends: Vec<i64> = ends(topic)?.into_iter().map(|end| end.min(limit)).collect();
        until_processed(config, oracle.app, topic, &ends)?;
        to.insert(topic, ends);
    }

    let job = format!("{}/{}", oracle.app, oracle.job);
    let mut partials = HashMap::new();
    let mut late = Places::new();
    side(config, topic::LATE_EVENTS, &job, |place, value| {
        let partial = oracle.partial.filter(|_| place.0 != oracle.input);
        match partial.and_then(|partial| partial(&serde_json::from_slice(value).ok()?)) {
            Some(partial) => partials.entry(place).or_insert((partial, 0)).1 += 1,
            None => {
                late.insert(origin(place, value));
            }
        }
    })?;
    let late_partials: Vec<_> = partials
        .into_values()
        .filter_map(|(partial, times)| (times >= oracle.late_times).then_some(partial))
        .collect();
    let mut dead = Places::new();
    side(config, topic::DEAD_LETTERS, oracle.app, |place, _| {
        dead.insert(place);
    })?;

    let mut rows = Vec::new();
    let mut newest = Newest::default();
    for (&topic, ends) in &to {
        records::read(config, topic, (&start, ends), PATIENCE, |found| {
            let place = (found.partition, found.offset);
            let named = (topic.to_owned(), place.0, place.1);
            let value: Option<Value> = serde_json::from_slice(&found.value).ok();
            let row = value.as_ref().filter(|_| topic == oracle.input).and_then(|value| (oracle.row)(value));
            let is_dead = dead.contains(&named);
            let at = value.as_ref().and_then(jobs::at).filter(|_| !is_dead);
            let before = newest.see(topic, place.0, at, found.created_ms);
            let Some(row) = row else { return };
            if is_dead {
                verdict
                    .differences
                    .push(format!("{topic}/{}/{} can be read, and is a dead letter", place.0, place.1));
            } else if late.contains(&named) {
                verdict.late += 1;
                // With several streams another one may hold event time back or have pushed it.
                let due = before.is_some_and(|before| before - OUT_OF_ORDER > row.at);
                if oracle.streams.len() == 1 && !oracle.global && !due {
                    let text = format!("{topic}/{}/{} is a late event, and was in time", place.0, place.1);
                    verdict.differences.push(text);
                }
            } else {
                let ahead = before.map_or(i64::MIN, |before| before - OUT_OF_ORDER);
                rows.push(Placed { place, ahead, row });
            }
        })?;
    }
    (verdict.records, verdict.dead) = (rows.len(), dead.len());
    let mut results = BTreeMap::<(String, Window), Vec<Value>>::new();
    let output = ends(oracle.output)?;
    records::read(config, oracle.output, (&vec![0; output.len()], &output), PATIENCE, |found| {
        let Ok(value) = serde_json::from_slice::<Value>(&found.value) else { return };
        if let Some(place) = (oracle.result)(&value, params) {
            results.entry(place).or_default().push(value);
        }
    })?;
    let groups =
        batch::group(rows, (oracle.windows)(params), jobs::lateness(params), oracle.streams.len() > 1);
    let over = |window: Window, group: &Group| {
        let partitions: BTreeSet<i32> = group.places.iter().map(|(partition, _)| *partition).collect();
        let event_time = newest.event_time(oracle, &partitions);
        let inside = group.places.iter().all(|(_, offset)| *offset >= options.from);
        inside && event_time.is_some_and(|at| at >= window.1 - 1 + jobs::lateness(params))
    };
    for ((key, window), mut group) in groups {
        let mut found = results.remove(&(key.clone(), window)).unwrap_or_default();
        if window.0 < since || group.uncertain || !over(window, &group) {
            verdict.open += 1;
            continue;
        }
        verdict.windows += 1;
        if let (Some(merge), []) = (oracle.merge, found.as_slice()) {
            // A session that was over when an event near its end came: two in the stream, one in batch.
            let inside = |(k, w): &(String, Window)| *k == key && w.0 >= window.0 && w.1 <= window.1;
            let places: Vec<_> = results.keys().filter(|place| inside(place)).cloned().collect();
            let parts: Vec<_> = places.iter().filter_map(|place| results.remove(place)).flatten().collect();
            found.extend(merge(&parts));
        }
        let of_window =
            |(k, at, ..): &&(String, i64, f64, f64)| *k == key && (window.0..window.1).contains(at);
        for (_, at, count, sum) in late_partials.iter().filter(of_window) {
            verdict.late += *count as usize;
            group.without(*at, *count, *sum);
        }
        let differs = judge(oracle, &found, group.expected(oracle, params));
        if let Some(what) = differs {
            verdict.differences.push(format!("{key}, window {} to {}: {what}", window.0, window.1));
        }
    }
    // Results that nothing accounts for. With a range, those of other offsets are such too; and results go on coming.
    if options.from == 0 && options.to.is_none() {
        let horizon = newest.all();
        let unaccounted = |((_, window), _): &((String, Window), _)| window.0 >= since && window.1 <= horizon;
        for ((key, window), _) in results.into_iter().filter(unaccounted) {
            let text = format!("{key}, window {} to {}: a result, and no record for it", window.0, window.1);
            verdict.differences.push(text);
        }
    }
    Ok(verdict)
}

/// What is wrong with the results of a window.
fn judge(oracle: &Oracle, found: &[Value], expected: Option<batch::Fields>) -> Option<String> {
    match (found, expected) {
        ([], None) => None,
        ([], Some(_)) => Some("no result".to_owned()),
        ([.., _], None) => Some(format!("{} results, none is expected", found.len())),
        ([_, _, ..], Some(_)) if !oracle.updated => Some(format!("{} results", found.len())),
        ([.., last], Some(expected)) => batch::differs(last, &expected),
    }
}

/// Where a late record is from: a repartitioned one says so itself.
fn origin(place: (String, i32, i64), value: &[u8]) -> (String, i32, i64) {
    let message: Option<Value> = serde_json::from_slice(value).ok();
    let origin = message.and_then(|message| serde_json::from_value(message.get("origin")?.clone()).ok());
    origin.unwrap_or(place)
}

/// Hands each record of a side output of `job` to `record`, with the place of its source.
fn side(
    config: &ClientConfig,
    topic: &str,
    job: &str,
    mut record: impl FnMut((String, i32, i64), &[u8]),
) -> Result<()> {
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
        for partition in 0..topic::PARTITIONS {
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

/// The newest event time and create time of each partition of the streams.
#[derive(Debug, Default)]
struct Newest(HashMap<(String, i32), (i64, i64)>);

impl Newest {
    /// Takes notice of a record. Returns the newest event time of its partition before it.
    fn see(&mut self, topic: &str, partition: i32, at: Option<i64>, created: Option<i64>) -> Option<i64> {
        let known = self.0.get(&(topic.to_owned(), partition)).copied();
        if let Some(at) = at {
            let (event, create) = known.unwrap_or((i64::MIN, i64::MIN));
            let newest = (event.max(at), create.max(created.unwrap_or(i64::MIN)));
            self.0.insert((topic.to_owned(), partition), newest);
        }
        known.map(|(event, _)| event)
    }

    /// Up to where all partitions are read.
    fn all(&self) -> i64 {
        self.0.values().map(|(event, _)| event - OUT_OF_ORDER).min().unwrap_or(i64::MIN)
    }

    /// How far event time is for windows with records of these partitions.
    fn event_time(&self, oracle: &Oracle, partitions: &BTreeSet<i32>) -> Option<i64> {
        let newest = self.0.values().map(|(_, create)| *create).max()?;
        let holds = |((_, partition), (_, create)): &(&(String, i32), &(i64, i64))| {
            (oracle.global || partitions.contains(partition)) && newest - create < IDLE
        };
        let own = self.0.iter().filter(holds).map(|(_, (event, _))| event - OUT_OF_ORDER).min();
        // All idle: event time stands where the last one brought it.
        own.or_else(|| {
            let own = self.0.iter().filter(|((_, partition), _)| partitions.contains(partition));
            own.map(|(_, (event, _))| event - OUT_OF_ORDER).min()
        })
    }
}
