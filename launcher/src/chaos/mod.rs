//! `millrace chaos`: breaks a running cluster at random while a known input flows through it, and compares what comes out,
//! key by key, with what one uninterrupted run would have given.
//!
//! The input is of its own customers, categories and accounts, beside whatever the generators write. The comparison is
//! plain arithmetic over what was written ([`input`]), not the engine. Faults of the network take root; without, they are left
//! out, and that is said.

mod check;
mod fault;
mod input;
mod kafka;
mod network;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use self::check::{Check, DOCUMENTS};
use self::fault::{Fault, Machine};
use self::input::{CATEGORIES, Writer};
use self::kafka::Kafka;
use self::network::Network;
use crate::layout::Layout;
use crate::out;

/// A killed worker shall be back so soon.
const AIM_WORKER: Duration = Duration::from_secs(2);
/// Every other fault shall be over so soon, from its beginning or, for what is put back on purpose, its end.
const AIM: Duration = Duration::from_secs(10);
/// Nothing may take longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// What may be under way before the first fault.
const BACKLOG: Duration = Duration::from_secs(600);
/// The input flows for so long before it is measured how far behind it its processing is.
const WARM: Duration = Duration::from_secs(10);
/// How often that is looked at: the median counts.
const LOOKS: usize = 5;
/// Brokers that were started a moment ago compile their code first: the first fault waits until processing gets quicker by
/// less than this part in [`WARM`].
const QUICKER: f64 = 0.2;
/// The next fault waits until processing is behind by at most so many times as much as then, so that a recovery is that of one
/// fault.
const AS_BEFORE: u32 = 2;
/// But for no longer than this.
const SETTLING: Duration = Duration::from_secs(90);
/// Between two faults, s.
const PAUSE_S: std::ops::Range<f64> = 2.0..8.0;

/// `millrace chaos`.
#[derive(Debug, Args)]
pub struct Options {
    /// How long faults are made, minutes
    #[arg(long, default_value_t = 2.0, value_name = "N")]
    minutes: f64,
    /// Faults, their victims and the input follow from it
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// Known records written per second: half orders, half transactions
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=5_000))]
    rate: u32,
    /// Only these kinds of fault
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    only: Vec<Fault>,
    /// One JSON line per fault, and one for the verdict
    #[arg(long)]
    json: bool,
}

/// What a fault did.
struct Made {
    at: Duration,
    fault: Fault,
    victims: Vec<String>,
    /// From the fault to the first moment at which what was written until just after it was processed (and indexed, if the
    /// fault concerns that).
    recovered: Duration,
    /// From the fault until everything ran as before it, and as quickly; `None`: not in time.
    settled: Option<Duration>,
}

impl Made {
    /// How long it may take: what is held back on purpose is not counted.
    fn aim(&self) -> Duration {
        match self.fault {
            Fault::Worker => AIM_WORKER,
            other => AIM + other.held(),
        }
    }
}

/// Runs `millrace chaos`. Fails if anything was lost, doubled or wrong.
pub async fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    let each = f64::from(options.rate) / 2.0 * 60.0 * options.minutes / f64::from(CATEGORIES);
    if each > 0.8 * f64::from(DOCUMENTS) {
        bail!(
            "more orders of one category than Elasticsearch gives in one answer: lower --rate or --minutes"
        );
    }
    let mut random = StdRng::seed_from_u64(options.seed);
    let said = |text: String| {
        if !options.json {
            out::line(text);
        }
    };
    let (kinds, network) = possible(&options.only)?;
    let machine = Machine::new(layout, network)?;
    machine.well(PATIENCE).await.context("chaos begins with a cluster that is well")?;
    let kafka = Kafka::new(layout)?;
    said("waiting until what was written before is processed and indexed".to_owned());
    kafka.settled(BACKLOG).await.context("chaos begins with streams that are read to their end")?;
    let check = Check::new(&kafka, options.seed)?;
    let writer = Writer::start(&kafka, &check.prefix, options.seed, options.rate)?;
    said(format!(
        "seed {}, {} records/s of {}*, faults for {} min",
        options.seed, options.rate, check.prefix, options.minutes
    ));
    let undisturbed = undisturbed(&kafka).await?;
    said(format!("without a fault, what is written is processed after {:.2} s", undisturbed.as_secs_f64()));
    if options.json {
        out::line(json!({"undisturbed_s": undisturbed.as_secs_f64()}).to_string());
    }
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(options.minutes * 60.0);
    let mut made = Vec::new();
    while Instant::now() < end && !writer.failed() {
        tokio::time::sleep(Duration::from_secs_f64(random.random_range(PAUSE_S))).await;
        let fault = kinds.get(random.random_range(0..kinds.len())).copied().unwrap_or(Fault::Worker);
        let (at, broken) = (began.elapsed(), Instant::now());
        let victims = machine.victims(fault, &mut random).await?;
        let recovery = machine.make(fault, &victims, &kafka).await;
        let recovered = recovery.with_context(|| format!("{fault} of {}", victims.join(", ")))?;
        let settled = settle(&machine, &kafka, undisturbed * AS_BEFORE).await?.then(|| broken.elapsed());
        let done = Made { at, fault, victims, recovered, settled };
        report(&done, options.json);
        made.push(done);
    }
    said("stopping the input; waiting until everything is processed and indexed".to_owned());
    let written = writer.end().await?;
    machine.well(PATIENCE).await?;
    kafka.settled(PATIENCE).await?;
    let verdict = check.compare(&kafka, &written, layout).await?;
    for finding in &verdict.findings {
        out::line(if options.json {
            json!({"finding": finding}).to_string()
        } else {
            format!("  {finding}")
        });
    }
    let slow = made.iter().filter(|made| made.recovered > made.aim()).count();
    let exact = verdict.findings.is_empty();
    if options.json {
        let (records, results) = (written.len(), verdict.results);
        out::line(
            json!({"verdict": if exact { "exact" } else { "wrong" }, "seed": options.seed, "faults": made.len(),
                         "records": records, "results": results, "late": verdict.late, "slow": slow}).to_string(),
        );
    } else {
        out::line(summary(&made));
        out::line(format!(
            "{} faults, {} records, {} results compared in Kafka and in Elasticsearch, {} late; {slow} recoveries over their aim",
            made.len(),
            written.len(),
            verdict.results,
            verdict.late
        ));
        out::line(if exact {
            "verdict: exact: nothing lost, nothing doubled, nothing wrong".to_owned()
        } else {
            format!("verdict: WRONG, {} findings", verdict.findings.len())
        });
    }
    if made.is_empty() {
        bail!("no fault was made: give it more --minutes");
    }
    Ok(if exact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits until processing is about as quick as it gets. Returns how far it is behind then.
async fn undisturbed(kafka: &Kafka) -> Result<Duration> {
    let began = Instant::now();
    tokio::time::sleep(WARM).await;
    let mut behind = usually_behind(kafka).await?;
    while began.elapsed() < SETTLING {
        tokio::time::sleep(WARM).await;
        let (before, now) = (behind, usually_behind(kafka).await?);
        behind = before.min(now);
        if now > before.mul_f64(1.0 - QUICKER) {
            break;
        }
    }
    Ok(behind)
}

/// How far processing is behind the input: the median of some looks.
async fn usually_behind(kafka: &Kafka) -> Result<Duration> {
    let mut behind = Vec::new();
    for _ in 0..LOOKS {
        behind.push(kafka.behind().await?);
    }
    behind.sort_unstable();
    behind.get(LOOKS / 2).copied().context("processing was not looked at")
}

/// Waits until everything runs, and processing is behind by at most `most`. Returns whether it came to that in time.
async fn settle(machine: &Machine<'_>, kafka: &Kafka, most: Duration) -> Result<bool> {
    machine.well(PATIENCE).await?;
    let began = Instant::now();
    while usually_behind(kafka).await? > most {
        if began.elapsed() > SETTLING {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The kinds of fault that are asked for and, if the network is to be broken, what breaks it. Without a wish, they are those
/// that this user can make.
fn possible(only: &[Fault]) -> Result<(Vec<Fault>, Option<Network>)> {
    let concerns_network = |fault: &Fault| fault.line().is_some();
    if !only.is_empty() && !only.iter().any(concerns_network) {
        return Ok((only.to_vec(), None));
    }
    match Network::open() {
        Ok(network) if only.is_empty() => Ok((Fault::ALL.to_vec(), Some(network))),
        Ok(network) => Ok((only.to_vec(), Some(network))),
        Err(error) if only.is_empty() => {
            out::complain(format!("the network is left alone: {error:#}"));
            Ok((Fault::ALL.into_iter().filter(|fault| !concerns_network(fault)).collect(), None))
        }
        Err(error) => Err(error),
    }
}

fn report(made: &Made, as_json: bool) {
    let (at, recovered) = (made.at.as_secs_f64(), made.recovered.as_secs_f64());
    out::line(if as_json {
        json!({"at_s": at, "fault": made.fault.to_string(), "victims": made.victims, "recovered_s": recovered,
               "held_s": made.fault.held().as_secs_f64(), "aim_s": made.aim().as_secs_f64(),
               "settled_s": made.settled.map(|settled| settled.as_secs_f64())})
        .to_string()
    } else {
        let settled = made.settled.map_or("slower than before".to_owned(), |settled| {
            format!("as before after {:.0} s", settled.as_secs_f64())
        });
        let over = if made.recovered > made.aim() { "  (over its aim)" } else { "" };
        format!(
            "{at:>7.1} s  {:<16} {:<24} back after {recovered:>5.2} s, {settled}{over}",
            made.fault.to_string(),
            made.victims.join(", ")
        )
    });
}

/// Median and worst recovery of each kind.
fn summary(made: &[Made]) -> String {
    let mut lines = vec![format!("{:<16} {:>5} {:>9} {:>9}", "FAULT", "TIMES", "MEDIAN s", "WORST s")];
    for fault in Fault::ALL {
        let mut times: Vec<_> =
            made.iter().filter(|made| made.fault == fault).map(|made| made.recovered.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
            lines.push(format!("{:<16} {:>5} {median:>9.2} {worst:>9.2}", fault.to_string(), times.len()));
        }
    }
    lines.join("\n")
}
