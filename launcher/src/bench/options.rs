use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millrace_wire::bench::Query;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Each query on preloaded records, as fast as it goes
    CatchUp,
    /// From the creation of an event to its committed result; from the watermark that ends a window to its result
    Latency,
    /// From kill -9 of a worker to the first new committed result; the pause when a second worker comes and goes
    Recovery,
    /// Catch-up with one worker and with two
    Scaling,
    /// State in memory and on disk: catch-up, latency, checkpoints, recovery, memory, bytes
    Backends,
}

/// Options of `millrace bench`.
#[derive(Debug, Args)]
pub struct Options {
    /// Measure only these; `backends` takes long and is measured when asked for
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "PARTS",
        default_value = "catch-up,latency,recovery,scaling"
    )]
    pub only: Vec<Part>,
    /// Queries of the catch-up
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAMES",
        value_parser = query,
        default_value = "transform,tumbling,sliding,session,cep"
    )]
    pub queries: Vec<Query>,
    /// Records of the catch-up; a topic that holds more is read whole
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub records: u64,
    /// Users of the preloaded records, picked with probabilities proportional to 1/rank
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub users: u32,
    /// Event time of the preloaded records advances as if so many were made a second
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub event_rate: u32,
    /// Events per second while the latency is measured; that of windows at the first of them only
    #[arg(long, value_delimiter = ',', value_name = "N,..", default_value = "2000,10000", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub rates: Vec<u32>,
    /// How long the latency is measured, after 5 s of warming up
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// How often the worker is killed
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Keys of state of the worker that is killed
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys: u32,
    /// Keys of state with which the backends are compared
    #[arg(long, value_delimiter = ',', value_name = "N,..", default_value = "10000,1000000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub sizes: Vec<u32>,
    /// Commit interval of the workers [default: the processor's]
    #[arg(long, value_name = "MS")]
    pub commit_interval: Option<u64>,
    /// A line of JSON for each measurement, and no table
    #[arg(long)]
    pub json: bool,
    /// Leave what was created: topics and groups; the preloaded topic serves the next run
    #[arg(long)]
    pub keep: bool,
    /// Another cluster than the data folder's
    #[arg(long, value_name = "HOST:PORT,..")]
    pub bootstrap: Option<String>,
    /// How to reach it: a file of librdkafka's properties, one `key=value` a line
    #[arg(long, value_name = "FILE")]
    pub client_config: Option<PathBuf>,
    /// A topic that holds card transactions already
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
}

impl Options {
    /// Whether the cluster is somebody else's.
    pub fn is_foreign(&self) -> bool {
        self.bootstrap.is_some() || self.client_config.is_some()
    }
}

fn query(name: &str) -> Result<Query, String> {
    let names = || Query::ALL.map(Query::name).join(", ");
    Query::ALL.into_iter().find(|query| query.name() == name).ok_or_else(|| format!("there are {}", names()))
}
