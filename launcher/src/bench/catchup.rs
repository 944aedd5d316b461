//! A query on a preloaded topic, from its first record to its last, as fast as it goes, exactly once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::bench::{Query, results};
use rdkafka::Offset;
use rdkafka::error::KafkaError;

use super::Options;
use super::input::Input;
use super::paced::assign;
use super::report::Measurement;
use super::stage::Stage;
use super::target::Target;
use super::watch::{Committed, Sample, Warm};
use super::worker::Worker;

/// Between two looks at the committed offsets.
const LOOK: Duration = Duration::from_millis(25);
/// How long nothing may be committed.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Measures a query with so many workers, under this name.
///
/// # Errors
/// A worker ended, or nothing moved for a minute.
pub async fn measure(
    stage: &mut Stage,
    options: &Options,
    input: &Input,
    query: Query,
    workers: u16,
    name: &str,
) -> Result<Measurement> {
    let app = stage.app(query, input.partitions()).await?;
    let committed = Committed::new(&stage.target, &app, &input.topic, input.partitions())?;
    let began = Instant::now();
    let mut running = Vec::new();
    for n in 1..=workers {
        running.push(Worker::start(stage, options, n, &app, &input.topic)?);
    }
    let mut samples: Vec<Sample> = Vec::new();
    let (mut resident, mut moved) = (0, Instant::now());
    let mut shared_s = (workers == 1).then_some(0.0);
    loop {
        let offsets = committed.offsets()?;
        let (mut cpu_s, mut bytes) = (0.0, 0);
        for worker in &running {
            let usage = worker
                .usage()
                .with_context(|| format!("{name}: the worker ended:\n{}", worker.last_words()))?;
            cpu_s += usage.cpu_seconds;
            bytes += usage.resident_bytes;
        }
        resident = resident.max(bytes);
        let (at_s, records) = (began.elapsed().as_secs_f64(), progress(&offsets, input));
        if samples.last().is_none_or(|last| last.records < records) {
            moved = Instant::now();
        }
        samples.push(Sample { at_s, records, cpu_s });
        stage.progress.going(|| format!("{name}: {records} of {} records committed", input.records));
        if offsets.iter().zip(&input.ends).all(|(offset, end)| offset >= end) {
            break;
        }
        if moved.elapsed() > STANDSTILL {
            let words = running.iter().map(Worker::last_words).collect::<Vec<_>>().join("\n");
            bail!("{name} stands still at {records} of {} records:\n{words}", input.records);
        }
        if shared_s.is_none() && committed.is_shared_by(&app, usize::from(workers))? {
            shared_s = Some(at_s);
        }
        tokio::time::sleep(LOOK).await;
    }
    for worker in running {
        worker.stop().await;
    }
    let results = count(&stage.target, &results(&app), input.partitions())?;
    let last = samples.last().copied();
    let measurement = Measurement {
        records: Some(input.records),
        results: Some(results),
        workers: Some(workers),
        wall_s: last.map(|last| last.at_s),
        cpu_s: last.map(|last| last.cpu_s),
        rss_mb: Some(resident as f64 / 1e6),
        ..Measurement::of(name).warm(Warm::of(&samples, input.records, shared_s.unwrap_or(f64::INFINITY)))
    };
    stage.progress.say(&format!("{name}: {results} results of {} records", input.records));
    Ok(measurement)
}

/// Records committed. Offsets without a record, which a topic written in transactions has, are spread evenly.
fn progress(offsets: &[i64], input: &Input) -> u64 {
    let (done, all): (i64, i64) = (offsets.iter().sum(), input.ends.iter().sum());
    if done >= all {
        return input.records;
    }
    (done as f64 / all.max(1) as f64 * input.records as f64) as u64
}

/// Committed records of a topic, once no transaction is open in it: a group's offsets are there before the markers of the
/// transaction that committed them are in every partition.
fn count(target: &Target, topic: &str, partitions: i32) -> Result<u64> {
    let consumer = target.consumer("millrace-bench", "read_committed")?;
    let all = target.consumer("millrace-bench", "read_uncommitted")?;
    let began = Instant::now();
    for partition in 0..partitions {
        while target.ends(&consumer, topic, partition)?.1 < target.ends(&all, topic, partition)?.1 {
            if began.elapsed() > STANDSTILL {
                bail!("a transaction stays open in {topic}/{partition}");
            }
            std::thread::park_timeout(LOOK);
        }
    }
    assign(&consumer, topic, partitions, Offset::Beginning)?;
    let (mut records, mut open, mut heard) = (0, partitions, Instant::now());
    while open > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => {
                records += 1;
                heard = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            _ if heard.elapsed() > STANDSTILL => bail!("{topic} can't be read to its end"),
            Some(Err(_)) | None => {}
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_without_a_record_are_spread_evenly() {
        let input = Input { topic: "t".to_owned(), ends: vec![100, 300], records: 200 };
        assert_eq!(progress(&[0, 0], &input), 0);
        assert_eq!(progress(&[100, 100], &input), 100);
        assert_eq!(progress(&[100, 300], &input), 200);
    }
}
