//! At an even rate, from the creation of an event to a consumer of its committed result (the query `transform`), or from the
//! watermark that ends a window to a consumer of its committed result (`tumbling`).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::bench::{Query, results};
use millrace_wire::topic;

use super::Options;
use super::input::Cards;
use super::paced::{Paced, Reader, Seen};
use super::report::{Measurement, percentile};
use super::stage::Stage;
use super::worker::Worker;
use crate::clock::now_ms;

/// What is not measured at first.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long the first result may take.
const FIRST: Duration = Duration::from_secs(30);
/// How long results of the last events may take.
const DRAIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(100);

/// Measures at so many events per second.
///
/// # Errors
/// No results come.
pub async fn measure(stage: &mut Stage, options: &Options, query: Query, rate: u32) -> Result<Measurement> {
    let name = match query {
        Query::Transform => format!("latency-{rate}"),
        query => format!("{}-latency-{rate}", query.name()),
    };
    let source = stage.own_topic(&name).await?;
    let app = stage.app(query, topic::PARTITIONS).await?;
    let reader = Reader::start(&stage.target, &results(&app), topic::PARTITIONS)?;
    let worker = Worker::start(stage, options, 1, &app, &source)?;
    let paced = Paced::start(&stage.target, &source, rate, Cards::zipf(options.users))?;
    let ended = || format!("{name}: the worker ended:\n{}", worker.last_words());
    let began = Instant::now();
    while reader.take().is_empty() {
        worker.usage().with_context(ended)?;
        if began.elapsed() > FIRST {
            bail!("{name}: no result came within {} s:\n{}", FIRST.as_secs(), worker.last_words());
        }
        tokio::time::sleep(LOOK).await;
    }
    wait(stage, &name, WARM_UP, "warming up").await;
    let (from, before) = (now_ms(), worker.usage().with_context(ended)?);
    // What was seen so far is of the warming up.
    let _ = reader.take();
    wait(stage, &name, Duration::from_secs(options.seconds), "measuring").await;
    let (to, after) = (now_ms(), worker.usage().with_context(ended)?);
    wait(stage, &name, DRAIN.min(WARM_UP), "waiting for the last results").await;
    paced.end()?;
    let seen = reader.take();
    reader.end()?;
    worker.stop().await;
    let latencies = latencies(&seen, from, to);
    let seconds = (to - from) as f64 / 1_000.0;
    Ok(Measurement {
        records: Some((seconds * f64::from(rate)) as u64),
        results: Some(latencies.len() as u64),
        workers: Some(1),
        wall_s: Some(seconds),
        cpu_s: Some(after.cpu_seconds - before.cpu_seconds),
        rss_mb: Some(after.resident_bytes as f64 / 1e6),
        p50_ms: percentile(&latencies, 0.50),
        p95_ms: percentile(&latencies, 0.95),
        p99_ms: percentile(&latencies, 0.99),
        ..Measurement::of(&name)
    })
}

/// Says meanwhile what is waited for.
pub async fn wait(stage: &mut Stage, name: &str, time: Duration, what: &str) {
    let began = Instant::now();
    while began.elapsed() < time {
        let (at, of) = (began.elapsed().as_secs(), time.as_secs());
        stage.progress.going(|| format!("{name}: {what}, {at} of {of} s"));
        tokio::time::sleep(LOOK.min(time.saturating_sub(began.elapsed()))).await;
    }
}

/// Of the events created in this time, sorted, ms.
pub fn latencies(seen: &[Seen], from: i64, to: i64) -> Vec<f64> {
    let inside = seen.iter().filter(|seen| (from..to).contains(&seen.created));
    let mut latencies: Vec<f64> = inside.map(|seen| seen.at - seen.created as f64).collect();
    latencies.sort_by(f64::total_cmp);
    latencies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_the_measured_time_count() {
        let seen = [(99, 150.0), (100, 180.0), (150, 151.5), (200, 201.0)];
        let seen = seen.map(|(created, at)| Seen { created, at, partition: 0 });
        assert_eq!(latencies(&seen, 100, 200), [1.5, 80.0]);
    }
}
