//! `millrace-processor run`, `index` and `savepoint`.

use clap::{Parser, Subcommand};
use millrace_processor::config::{IndexArgs, RunArgs};
use millrace_processor::savepoint::{self, SavepointArgs};
use millrace_processor::{apps, index, runtime};

/// Millrace's stream processor.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)] // one value per process
enum Command {
    /// Runs a worker: reads the raw topics, runs the jobs, writes results exactly once.
    Run(RunArgs),
    /// Copies the result topics into Elasticsearch.
    Index(IndexArgs),
    /// Makes, shows and restores savepoints.
    Savepoint(SavepointArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => {
            let apps = apps::chosen(&args.apps, args.bench_source.as_deref())?;
            runtime::run(args, apps)
        }
        Command::Index(args) => index::run(args),
        Command::Savepoint(args) => savepoint::run(args, apps::ALL),
    }
}
