//! From kill -9 of a worker with state to the first committed result of an event that was created afterwards. The worker is
//! started again at once, as its supervisor does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::bench::{Query, results};
use millrace_wire::topic;

use super::Options;
use super::input::Cards;
use super::paced::{Paced, Reader, Sender};
use super::report::{Measurement, percentile};
use super::stage::Stage;
use super::watch::Committed;
use super::worker::Worker;
use crate::clock::now_ms;

/// Events per second meanwhile.
const RATE: u32 = 1_000;
/// From one kill to the next: more than the interval of checkpoints (10 s), so that each round is of the usual kind, and no
/// multiple of it, so that they come at different moments.
const BETWEEN: Duration = Duration::from_millis(11_700);
/// How long a recovery may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// Kills the worker again and again.
///
/// # Errors
/// It does not come back.
pub async fn measure(stage: &mut Stage, options: &Options) -> Result<Measurement> {
    let source = stage.own_topic("recovery").await?;
    let app = stage.app(Query::Totals, topic::PARTITIONS).await?;
    let mut sender = Sender::new(&stage.target, 50)?;
    let mut cards = Cards::uniform(options.keys);
    for user in 0..usize::try_from(options.keys)? {
        sender.send(&source, &cards.of(user, now_ms()))?;
    }
    sender.flush(PATIENCE)?;
    let committed = Committed::new(&stage.target, &app, &source, topic::PARTITIONS)?;
    let mut worker = Worker::start(stage, options, 1, &app, &source)?;
    let began = Instant::now();
    loop {
        let done: i64 = committed.offsets()?.iter().sum();
        if done >= i64::from(options.keys) {
            break;
        }
        stage.progress.going(|| format!("recovery: state of {done} of {} keys", options.keys));
        if worker.usage().is_none() || began.elapsed() > PATIENCE {
            bail!("recovery: the worker does not build its state:\n{}", worker.last_words());
        }
        tokio::time::sleep(LOOK * 20).await;
    }
    let reader = Reader::start(&stage.target, &results(&app), topic::PARTITIONS)?;
    let paced = Paced::start(&stage.target, &source, RATE, cards)?;
    let (mut times, mut resident) = (Vec::new(), 0);
    for round in 1..=options.rounds {
        let (rest, rounds) = (Instant::now(), options.rounds);
        while rest.elapsed() < BETWEEN {
            stage.progress.going(|| format!("recovery: before round {round} of {rounds}"));
            tokio::time::sleep(LOOK * 20).await;
        }
        let usage = worker.usage().with_context(|| format!("the worker ended:\n{}", worker.last_words()))?;
        resident = resident.max(usage.resident_bytes);
        let back;
        (worker, back) = kill(worker, &reader, || Worker::start(stage, options, 1, &app, &source)).await?;
        stage.progress.say(&format!("recovery: round {round} of {rounds}: {back:.0} ms"));
        times.push(back);
    }
    paced.end()?;
    reader.end()?;
    worker.stop().await;
    times.sort_by(f64::total_cmp);
    Ok(Measurement {
        keys: Some(options.keys),
        rounds: Some(options.rounds),
        workers: Some(1),
        rss_mb: Some(resident as f64 / 1e6),
        p50_ms: percentile(&times, 0.50),
        p95_ms: percentile(&times, 0.95),
        p99_ms: percentile(&times, 0.99),
        ..Measurement::of("recovery")
    })
}

/// Kills a worker and starts it again at once. Returns the new one, and how long it took until the first committed result of
/// an event that was created after the kill, ms.
///
/// # Errors
/// It does not come back.
pub async fn kill(
    worker: Worker,
    reader: &Reader,
    start: impl FnOnce() -> Result<Worker>,
) -> Result<(Worker, f64)> {
    let killed = now_ms();
    worker.kill().await;
    let worker = start()?;
    let _ = reader.take();
    let patience = Instant::now();
    loop {
        // Results of events created before may have been committed before.
        if let Some(new) = reader.take().iter().find(|seen| seen.created >= killed) {
            return Ok((worker, new.at - killed as f64));
        }
        if patience.elapsed() > PATIENCE {
            bail!("no new result within {} s of a kill:\n{}", PATIENCE.as_secs(), worker.last_words());
        }
        tokio::time::sleep(LOOK).await;
    }
}
