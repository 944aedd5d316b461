//! From kill -9 of a worker with state to the first committed result of an event that was created afterwards. The worker is
//! started again at once, as its supervisor does. Then a second worker is started and stopped: how long a partition goes
//! without a result.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::bench::{Query, results};
use millrace_wire::topic;

use super::Options;
use super::input::Cards;
use super::latency::wait;
use super::paced::{Paced, Reader, Seen, Sender};
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
/// What is looked at after a worker has come or gone, and before that for comparison.
const AFTER: Duration = Duration::from_secs(5);
/// How long a recovery may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// Kills the worker again and again; then a second one comes and goes.
///
/// # Errors
/// It does not come back, or the second one is not given its part.
pub async fn measure(stage: &mut Stage, options: &Options) -> Result<Vec<Measurement>> {
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
    let scaled = scale(stage, options, (&app, &source), &committed, &reader).await?;
    paced.end()?;
    reader.end()?;
    worker.stop().await;
    times.sort_by(f64::total_cmp);
    let recovery = Measurement {
        keys: Some(options.keys),
        rounds: Some(options.rounds),
        workers: Some(1),
        rss_mb: Some(resident as f64 / 1e6),
        p50_ms: percentile(&times, 0.50),
        p95_ms: percentile(&times, 0.95),
        p99_ms: percentile(&times, 0.99),
        ..Measurement::of("recovery")
    };
    Ok(std::iter::once(recovery).chain(scaled).collect())
}

/// Starts a second worker, and stops it: how long partitions go without a result.
///
/// # Errors
/// It is not given its part, or that is not given back.
async fn scale(
    stage: &mut Stage,
    options: &Options,
    (app, source): (&str, &str),
    committed: &Committed,
    reader: &Reader,
) -> Result<Vec<Measurement>> {
    let mut scaled = Vec::new();
    let mut second = None;
    for (name, workers) in [("scale-out", 2), ("scale-in", 1)] {
        wait(stage, name, BETWEEN, "before it").await;
        let _ = reader.take();
        let before = now_ms();
        wait(stage, name, AFTER, "watching for comparison").await;
        let from = now_ms();
        second = match second {
            None => Some(Worker::start(stage, options, 2, app, source)?),
            Some(second) => {
                Worker::stop(second).await;
                None
            }
        };
        let began = Instant::now();
        while !committed.is_shared_by(app, workers)? {
            stage.progress.going(|| format!("{name}: waiting until the group has {workers} workers"));
            if began.elapsed() > PATIENCE {
                bail!("{name}: the group has not got {workers} workers within {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(LOOK * 20).await;
        }
        wait(stage, name, AFTER, "watching").await;
        let (to, seen) = (now_ms(), reader.take());
        let (pause, usual) = (longest_pause(&seen, from, to), longest_pause(&seen, before, from));
        stage.progress.say(&format!("{name}: a pause of {pause:.0} ms, without it {usual:.0} ms"));
        scaled.push(Measurement {
            keys: Some(options.keys),
            workers: Some(u16::try_from(workers)?),
            pause_ms: Some(pause),
            usual_pause_ms: Some(usual),
            ..Measurement::of(name)
        });
    }
    Ok(scaled)
}

/// The longest that one of the partitions went without a result between two moments, ms.
fn longest_pause(seen: &[Seen], from: i64, to: i64) -> f64 {
    let (from, to) = (from as f64, to as f64);
    let of = |partition: i32| {
        let inside = seen.iter().filter(move |seen| seen.partition == partition);
        let mut at: Vec<f64> = inside.map(|seen| seen.at.clamp(from, to)).collect();
        at.extend([from, to]);
        at.sort_by(f64::total_cmp);
        at.iter().zip(at.iter().skip(1)).map(|(earlier, later)| later - earlier).fold(0.0, f64::max)
    };
    (0..topic::PARTITIONS).map(of).fold(0.0, f64::max)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_that_of_the_partition_that_waits_longest() {
        let all = || (0..topic::PARTITIONS).flat_map(|partition| (0..=10).map(move |n| (partition, n)));
        let seen = |silent: fn(i32, i32) -> bool| {
            let heard = all().filter(move |(partition, n)| !silent(*partition, *n));
            let seen = heard.map(|(partition, n)| Seen { created: 0, at: f64::from(n) * 100.0, partition });
            seen.collect::<Vec<_>>()
        };
        assert_eq!(longest_pause(&seen(|_, _| false), 0, 1_000), 100.0);
        assert_eq!(
            longest_pause(&seen(|partition, n| partition == 4 && (3..7).contains(&n)), 0, 1_000),
            500.0
        );
        assert_eq!(longest_pause(&seen(|partition, n| partition == 1 && n > 7), 0, 1_000), 300.0);
        assert_eq!(longest_pause(&seen(|partition, _| partition == 0), 0, 1_000), 1_000.0);
        assert_eq!(longest_pause(&seen(|_, n| n > 5), 0, 500), 100.0);
    }
}
