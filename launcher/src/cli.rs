//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use millrace_wire::telemetry::AppBackend;
use millrace_wire::topic;

use crate::control::Action;
use crate::layout::Layout;
use crate::savepoint::{self, Savepoint};
use crate::{bench, chaos, commands, health, logs, provision, reset, terminal, up, verify};

/// Starts, watches, breaks and stops a Millrace cluster on this machine.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, about, long_about = None)]
pub struct Cli {
    /// Data folder: everything that the cluster keeps
    #[arg(long, global = true, env = "MILLRACE_DATA", default_value = ".millrace", value_name = "DIR")]
    data: PathBuf,
    /// What to do; `up` if nothing is said
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options of a start.
#[derive(Debug, Default, Args)]
pub struct Up {
    /// Return when everything is ready, and leave it running
    #[arg(long)]
    pub detach: bool,
    /// Take ports N, N+1, .. instead of the well-known ones; remembered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1024..=65000))]
    pub port_base: Option<u16>,
    /// Worker processes; remembered [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: Option<u16>,
    /// Where the processor keeps checkpoints and savepoints: file:///DIR or s3://BUCKET/PREFIX (with the usual AWS_
    /// variables in the environment); remembered [default: a folder in the data folder]
    #[arg(long, env = "MILLRACE_CHECKPOINT_URL", value_name = "URL")]
    pub checkpoint_url: Option<String>,
    /// Where the state of an app is kept: APP=memory, or APP=disk for state that is larger than memory; may be said more than
    /// once; remembered [default: memory]
    #[arg(
        long = "backend",
        env = "MILLRACE_STATE_BACKEND",
        value_name = "APP=BACKEND",
        value_delimiter = ',',
        value_parser = backend
    )]
    pub backends: Vec<AppBackend>,
    /// Start only these components, for example kafka,elasticsearch
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// This is the copy that `--detach` leaves behind
    #[arg(long, hide = true)]
    pub supervisor: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything, or resume where it was stopped
    Up(Up),
    /// Stop everything
    Down,
    /// Show every component
    Status {
        /// As JSON: {url, components:[{name, pid, state, restarts, ports}]}
        #[arg(long)]
        json: bool,
    },
    /// Check everything; fails if something is not well, and says what to do
    Health,
    /// Kafka's topics
    Topics {
        #[command(subcommand)]
        command: Topics,
    },
    /// Show the jobs and what they have done
    Jobs,
    /// Show or change the parameters of a job
    Params {
        #[command(subcommand)]
        command: Params,
    },
    /// Change how fast a stream is generated
    Rate {
        /// Its topic
        stream: String,
        /// Events per second, 0 to 50000
        rate: f64,
    },
    /// Provoke something in a generated stream for a while, and say what should come of it
    Scenario {
        /// Its name; without one, they are listed
        name: Option<String>,
        /// The stream's topic; needed if the scenario fits several
        #[arg(long)]
        stream: Option<String>,
        /// For how long
        #[arg(long, default_value_t = 30)]
        seconds: u32,
    },
    /// Show the newest committed records of a topic, one JSON line each
    Tail(terminal::Tail),
    /// Show the end of the logs
    Logs {
        /// Go on showing what comes
        #[arg(short, long)]
        follow: bool,
        /// Lines of each log
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
        /// Only this component (or `launcher`)
        component: Option<String>,
    },
    /// Remove everything that the cluster keeps
    Reset {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Break or mend a worker
    Worker {
        /// What to do
        action: Action,
        /// Which, from 1
        n: u16,
    },
    /// Break or mend a broker
    Broker {
        /// What to do
        action: Action,
        /// Which, 1 to 3
        n: u16,
    },
    /// Break or mend Elasticsearch
    Elasticsearch {
        /// What to do
        action: Action,
    },
    /// Break or mend any component
    Component {
        /// What to do
        action: Action,
        /// As `millrace status` shows it
        name: String,
    },
    /// Break the running cluster at random while a known input flows, and compare what comes out
    Chaos(chaos::Options),
    /// Recompute the results of windowed jobs in batch, from the topics alone, and compare them with the stream's
    Verify(verify::Options),
    /// Measure throughput, latency, recovery and scaling of the processor
    Bench(Box<bench::Options>),
    /// Make, show, restore and fork savepoints: the state of the apps at one moment, kept until you remove it
    Savepoint {
        #[command(subcommand)]
        command: Savepoint,
    },
    /// Give an app, and those that read the same topics, more partitions, and its state to more tasks. The generators and the
    /// workers stop for as long as that takes
    Rescale {
        /// The app
        app: String,
        /// How many there are to be: a multiple of how many there are
        #[arg(long, value_name = "N")]
        partitions: i32,
    },
    /// Write what every component of a cluster in containers needs, each into its own folder (compose.yaml)
    Provision(provision::Options),
    /// Whether /health on this port of 127.0.0.1 answers 200, for health checks of containers
    #[command(hide = true)]
    Probe {
        /// The port
        port: u16,
    },
    /// The page's users: everything after `user` goes to `millrace-gateway user`
    #[command(disable_help_flag = true)]
    User {
        /// Arguments of `millrace-gateway user`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, Subcommand)]
enum Topics {
    /// Create what is missing of Millrace's topics
    Setup,
    /// Show every topic
    List,
}

#[derive(Debug, Subcommand)]
enum Params {
    /// Show them with their limits
    Get {
        /// APP.JOB, or JOB
        job: String,
    },
    /// Change them, and wait until they are in force
    Set {
        /// APP.JOB, or JOB
        job: String,
        /// NAME=VALUE, the value as JSON
        #[arg(required = true)]
        changes: Vec<String>,
    },
}

/// A choice for an app that there is.
fn backend(text: &str) -> Result<AppBackend, String> {
    let chosen: AppBackend = text.parse()?;
    let changelog = topic::changelog(&chosen.app);
    let known = topic::catalogue().iter().any(|topic| topic.name == changelog);
    if known { Ok(chosen) } else { Err(format!("there is no app {}", chosen.app)) }
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    let layout = Layout::new(&cli.data)?;
    match cli.command.unwrap_or_else(|| Command::Up(Up::default())) {
        Command::Up(options) => up::up(&options, &layout).await,
        Command::Down => commands::down(&layout).await,
        Command::Status { json } => commands::status(&layout, json).await,
        Command::Health => health::health(&layout).await,
        Command::Topics { command: Topics::Setup } => commands::topics_setup(&layout).await,
        Command::Topics { command: Topics::List } => commands::topics_list(&layout).await,
        Command::Jobs => blocking(move || terminal::list(&layout)).await,
        Command::Params { command: Params::Get { job } } => {
            blocking(move || terminal::get(&layout, &job)).await
        }
        Command::Params { command: Params::Set { job, changes } } => {
            blocking(move || terminal::set(&layout, &job, &changes)).await
        }
        Command::Rate { stream, rate } => blocking(move || terminal::rate(&layout, &stream, rate)).await,
        Command::Scenario { name, stream, seconds } => {
            blocking(move || terminal::scenario(&layout, name.as_deref(), stream.as_deref(), seconds)).await
        }
        Command::Tail(options) => blocking(move || terminal::tail(&layout, &options)).await,
        Command::Logs { follow, lines, component } => {
            logs::logs(&layout, component.as_deref(), lines, follow).await
        }
        Command::Reset { yes } => reset::reset(&layout, yes),
        Command::Worker { action, n } => {
            commands::component(&layout, &format!("processor-{n}"), action).await
        }
        Command::Broker { action, n } => commands::component(&layout, &format!("kafka-{n}"), action).await,
        Command::Elasticsearch { action } => commands::component(&layout, "elasticsearch", action).await,
        Command::Component { action, name } => commands::component(&layout, &name, action).await,
        Command::Verify(options) => blocking(move || verify::verify(&layout, &options)).await,
        Command::Chaos(options) => chaos::run(&layout, &options).await,
        Command::Bench(options) => bench::run(&layout, &options).await,
        Command::Savepoint { command } => savepoint::run(&layout, &command).await,
        Command::Rescale { app, partitions } => savepoint::rescale(&layout, &app, partitions).await,
        Command::Provision(options) => provision::provision(&layout, &options),
        Command::Probe { port } => health::probe(port).await,
        Command::User { args } => commands::user(&layout, &args),
    }
}

/// For commands that wait in the Kafka client.
async fn blocking(command: impl FnOnce() -> Result<ExitCode> + Send + 'static) -> Result<ExitCode> {
    tokio::task::spawn_blocking(command).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_said_means_up_and_data_goes_anywhere() {
        assert!(Cli::try_parse_from(["millrace"]).unwrap().command.is_none());
        let cli = Cli::try_parse_from(["millrace", "broker", "kill", "2", "--data", "/tmp/x"]).unwrap();
        assert_eq!(cli.data, PathBuf::from("/tmp/x"));
        assert!(matches!(cli.command, Some(Command::Broker { action: Action::Kill, n: 2 })));
    }

    #[test]
    fn backends_are_of_apps_that_there_are() {
        let up = |backend| Cli::try_parse_from(["millrace", "up", "--backend", backend]);
        let Some(Command::Up(options)) = up("commerce=disk,bank=memory").unwrap().command else {
            panic!("not up")
        };
        let chosen: Vec<String> = options.backends.iter().map(ToString::to_string).collect();
        assert_eq!(chosen, ["commerce=disk", "bank=memory"]);
        assert!(up("comerce=disk").unwrap_err().to_string().contains("no app comerce"));
        assert!(up("commerce=tape").unwrap_err().to_string().contains("APP=disk"));
    }

    #[test]
    fn user_passes_everything_on() {
        let cli = Cli::try_parse_from(["millrace", "user", "add", "--role", "viewer", "eve"]).unwrap();
        let Some(Command::User { args }) = cli.command else { panic!("not user") };
        assert_eq!(args, ["add", "--role", "viewer", "eve"]);
    }
}
