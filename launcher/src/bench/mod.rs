//! `millrace bench`: what the processor takes for a record, how late results are, how soon a killed worker is back.
//!
//! ```text
//! options ─ target ─ stage ─┬─ input ─ floor        what any consumer takes that only parses
//!                           ├─ catchup              (a) each query alone, (d) with a second worker
//!                           ├─ latency ─┐
//!                           ├─ recovery ┼ paced     (b), (c): a producer that keeps time, a reader of what is committed
//!                           └─ backends ┘           (e): all of that with state in memory and on disk
//!                                  report           one table, or a line of JSON for each
//! ```
//!
//! The workers measured are `millrace-processor` as it is, started here with one app of the bench each
//! ([`millrace_wire::bench`]): the runtime, the transactions and the settings are those of the demo. What is measured
//! is read from outside: committed offsets, result topics, `/proc`.

mod backends;
mod catchup;
mod floor;
mod input;
mod latency;
mod options;
mod paced;
mod progress;
mod quiet;
mod recovery;
mod report;
mod stage;
mod target;
mod watch;
mod worker;

use std::process::ExitCode;

use anyhow::{Result, bail};
use millrace_wire::bench::Query;
use millrace_wire::telemetry::StateBackend;

use tokio::signal::unix::{SignalKind, signal};

pub use options::Options;
use options::Part;
use quiet::Quiet;
use report::Report;
use stage::Stage;
use target::Target;

use crate::layout::Layout;

/// What shows how the rate grows with the workers.
const SCALED: Query = Query::Tumbling;

/// Runs the benchmark.
///
/// # Errors
/// There is no cluster, or a measurement did not come to its end. What was created is removed all the same.
pub async fn run(layout: &Layout, options: &Options) -> Result<ExitCode> {
    let target = Target::new(layout, options)?;
    let mut stage = Stage::set(target, options).await?;
    let quiet = if options.is_foreign() { None } else { Quiet::ask(&stage) };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut report = Report::new(options.json);
    let measured = tokio::select! {
        measured = measure(&mut stage, options, &mut report) => measured,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminated.recv() => Err(anyhow::anyhow!("told to stop")),
    };
    if let Some(quiet) = quiet {
        quiet.end(&stage);
    }
    stage.clear(options.keep).await;
    report.finish();
    measured?;
    if report.is_empty() {
        bail!("nothing was measured: see --only and --queries");
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(stage: &mut Stage, options: &Options, report: &mut Report) -> Result<()> {
    let wants = |part| options.only.contains(&part);
    if wants(Part::CatchUp) || wants(Part::Scaling) {
        let input = input::preloaded(stage, options).await?;
        let (floor, input) = floor::measure(stage, &input)?;
        report.add(floor);
        if wants(Part::CatchUp) {
            for &query in &options.queries {
                report.add(catchup::measure(stage, options, &input, query, 1, query.name()).await?);
            }
        }
        if wants(Part::Scaling) {
            for workers in [1, 2] {
                let name = format!("{}-workers-{workers}", SCALED.name());
                report.add(catchup::measure(stage, options, &input, SCALED, workers, &name).await?);
            }
        }
    }
    if wants(Part::Latency) {
        for &rate in &options.rates {
            report.add(latency::measure(stage, options, Query::Transform, rate).await?);
        }
        if let Some(&rate) = options.rates.first() {
            report.add(latency::measure(stage, options, Query::Tumbling, rate).await?);
        }
    }
    if wants(Part::Recovery) {
        recovery::measure(stage, options).await?.into_iter().for_each(|measured| report.add(measured));
    }
    if wants(Part::Backends) {
        for &keys in &options.sizes {
            let input = input::twice(stage, keys).await?;
            for backend in [StateBackend::Memory, StateBackend::Disk] {
                report.add(backends::measure(stage, options, &input, keys, backend).await?);
            }
        }
    }
    Ok(())
}
