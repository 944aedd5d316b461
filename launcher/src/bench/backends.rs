//! The backends compared on the query `totals`, whose state has an entry for each user: the same input, the same worker, and
//! every figure that a backend may change.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::bench::{Query, results};
use millrace_wire::telemetry::{Body, Checkpoint, Frame, Recovery, StateBackend};
use millrace_wire::topic;
use rdkafka::consumer::BaseConsumer;
use rdkafka::{Message, Offset};

use super::Options;
use super::input::{Cards, Input};
use super::latency::{latencies, wait};
use super::paced::{Paced, Reader, assign};
use super::recovery::kill;
use super::report::{Measurement, percentile};
use super::stage::Stage;
use super::watch::{Committed, Sample, Warm};
use super::worker::Worker;
use crate::clock::now_ms;

/// Events per second while latency, checkpoints and recoveries are measured.
const RATE: u32 = 1_000;
/// How often the worker is killed, and the time before: more than the interval of checkpoints.
const ROUNDS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(11_700);
/// How long nothing may be committed.
const STANDSTILL: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(25);
/// What is not measured after the catch-up.
const SETTLE: Duration = Duration::from_secs(5);

/// What the worker tells of itself.
struct Telemetry {
    consumer: BaseConsumer,
    app: String,
    checkpoints: Vec<Checkpoint>,
    recoveries: Vec<Recovery>,
}

impl Telemetry {
    fn follow(stage: &Stage, app: &str) -> Result<Self> {
        let consumer = stage.target.consumer("millrace-bench", "read_committed")?;
        let partitions = stage.target.partitions(topic::TELEMETRY)?.context("there is no telemetry")?;
        assign(&consumer, topic::TELEMETRY, partitions, Offset::End)?;
        Ok(Self { consumer, app: app.to_owned(), checkpoints: Vec::new(), recoveries: Vec::new() })
    }

    /// Takes in what there is.
    fn read(&mut self) {
        while let Some(message) = self.consumer.poll(Duration::ZERO) {
            let Ok(message) = message else { continue };
            let Ok(frame) = serde_json::from_slice::<Frame>(message.payload().unwrap_or_default()) else {
                continue;
            };
            let Body::Processor(processor) = frame.body else { continue };
            for app in processor.apps.into_iter().filter(|app| app.name == self.app) {
                self.checkpoints.extend(app.checkpoints.into_iter().filter(|one| one.error.is_none()));
                self.recoveries.extend(app.recoveries);
            }
        }
    }
}

/// Measures one backend with so many keys.
///
/// # Errors
/// The worker ended or stands still.
pub async fn measure(
    stage: &mut Stage,
    options: &Options,
    input: &Input,
    keys: u32,
    backend: StateBackend,
) -> Result<Measurement> {
    let (name, source) = (format!("{}-{keys}", backend.name()), &input.topic);
    let app = stage.app(Query::Totals, topic::PARTITIONS).await?;
    let mut telemetry = Telemetry::follow(stage, &app)?;
    let start = |stage: &Stage| Worker::start_on(stage, options, 1, &app, source, backend);
    let mut worker = start(stage)?;
    let samples = catch_up(stage, input, &app, &worker, &name).await?;

    let reader = Reader::start(&stage.target, &results(&app), topic::PARTITIONS)?;
    let paced = Paced::start(&stage.target, source, RATE, Cards::uniform(keys))?;
    wait(stage, &name, SETTLE, "settling").await;
    let from = now_ms();
    let _ = reader.take();
    wait(stage, &name, Duration::from_secs(options.seconds), "latency").await;
    let to = now_ms();
    wait(stage, &name, SETTLE, "waiting for the last results").await;
    let latencies = latencies(&reader.take(), from, to);
    telemetry.read();

    let (mut times, mut restores, mut peak) = (Vec::new(), Vec::new(), 0);
    for round in 1..=ROUNDS {
        wait(stage, &name, BETWEEN, &format!("before kill {round} of {ROUNDS}")).await;
        peak = peak.max(worker.peak().with_context(|| format!("{name}: {}", worker.last_words()))?);
        telemetry.read();
        let before = telemetry.recoveries.len();
        let back;
        (worker, back) = kill(worker, &reader, || start(stage)).await?;
        times.push(back);
        wait(stage, &name, SETTLE, "reading its telemetry").await;
        telemetry.read();
        let recoveries = telemetry.recoveries.iter().skip(before);
        // All tasks of the app come back together: each says how long that took.
        let restored = recoveries.map(|recovery| recovery.duration_ms).fold(0.0, f64::max);
        stage
            .progress
            .say(&format!("{name}: kill {round} of {ROUNDS}: {back:.0} ms, restored in {restored:.0} ms"));
        restores.push(restored);
    }
    peak = peak.max(worker.peak().unwrap_or(0));
    paced.end()?;
    reader.end()?;
    worker.stop().await;
    telemetry.read();
    times.sort_by(f64::total_cmp);
    restores.sort_by(f64::total_cmp);
    let checkpoints = &telemetry.checkpoints;
    let mut durations: Vec<f64> = checkpoints.iter().map(|one| one.duration_ms).collect();
    durations.sort_by(f64::total_cmp);
    let newest = (0..topic::PARTITIONS)
        .filter_map(|partition| checkpoints.iter().rev().find(|one| one.partition == partition))
        .map(|one| one.bytes as f64 / 1e6);
    let (newest, restored) = (newest.sum::<f64>(), percentile(&restores, 0.50));
    // A task on disk goes on from what it has there.
    let from_checkpoints = restored.filter(|ms| backend == StateBackend::Memory && *ms > 0.0);
    let folder = stage.state_dir(&format!("{}1", millrace_wire::bench::PREFIX));
    let disk = (backend == StateBackend::Disk).then(|| bytes(&folder)).transpose()?;
    if disk.is_some() {
        // The next measurement has an app of its own; its worker has this folder.
        std::fs::remove_dir_all(&folder)?;
    }
    let last = samples.last().copied();
    Ok(Measurement {
        records: Some(input.records),
        workers: Some(1),
        keys: Some(keys),
        rounds: Some(ROUNDS),
        wall_s: last.map(|last| last.at_s),
        cpu_s: last.map(|last| last.cpu_s),
        peak_mb: Some(peak as f64 / 1e6),
        p50_ms: percentile(&latencies, 0.50),
        p95_ms: percentile(&latencies, 0.95),
        p99_ms: percentile(&latencies, 0.99),
        checkpoint_ms: percentile(&durations, 0.50),
        blocked_ms: checkpoints.iter().map(|one| one.blocked_ms).max_by(f64::total_cmp),
        checkpoint_mb: Some(newest),
        restore_ms: restored,
        restore_mb_per_s: from_checkpoints.map(|ms| newest / ms * 1_000.0),
        back_ms: percentile(&times, 0.50),
        disk_mb: disk.map(|bytes| bytes as f64 / 1e6),
        ..Measurement::of(&name).warm(Warm::of(&samples, input.records, 0.0))
    })
}

/// From a new consumer group to the commit of the last record.
async fn catch_up(
    stage: &mut Stage,
    input: &Input,
    app: &str,
    worker: &Worker,
    name: &str,
) -> Result<Vec<Sample>> {
    let committed = Committed::new(&stage.target, app, &input.topic, topic::PARTITIONS)?;
    let (began, mut moved) = (Instant::now(), Instant::now());
    let mut samples: Vec<Sample> = Vec::new();
    loop {
        let done: i64 =
            committed.offsets()?.iter().zip(&input.ends).map(|(offset, end)| offset.min(end)).sum();
        let records = u64::try_from(done)?;
        let usage =
            worker.usage().with_context(|| format!("{name}: the worker ended:\n{}", worker.last_words()))?;
        if samples.last().is_none_or(|last| last.records < records) {
            moved = Instant::now();
        }
        samples.push(Sample { at_s: began.elapsed().as_secs_f64(), records, cpu_s: usage.cpu_seconds });
        stage.progress.going(|| format!("{name}: {records} of {} records committed", input.records));
        if records >= input.records {
            return Ok(samples);
        }
        if moved.elapsed() > STANDSTILL {
            bail!("{name} stands still at {records} of {} records:\n{}", input.records, worker.last_words());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Length of all files in a folder.
fn bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}
