//! What can be broken, and how long it takes until the stream has caught up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::telemetry::ComponentState;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng;
use rand::rngs::StdRng;

use super::PATIENCE;
use super::kafka::Kafka;
use super::network::{Line, Network};
use crate::board::Snapshot;
use crate::cluster::Cluster;
use crate::commands;
use crate::control::{self, Action, Connection, Reply, Request};
use crate::layout::Layout;
use crate::ports::BROKERS;
use crate::state::State;

/// Longer than the workers' session timeout: their partitions go to others, and a zombie returns.
const PAUSED: Duration = Duration::from_secs(10);
/// A broker stays away so long.
const AWAY: Duration = Duration::from_secs(6);
/// The network does not deliver for so long.
const SPOILT: Duration = Duration::from_secs(8);
/// Records that count for a recovery were written until so long after the fault.
const AFTER: Duration = Duration::from_millis(200);
/// Between two looks at whether all is well. Each asks a broker for all of its topics.
const LOOK: Duration = Duration::from_millis(250);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// kill -9 of a worker; the supervisor starts it again.
    Worker,
    /// kill -9 of all workers at once.
    Workers,
    /// SIGSTOP of a worker until its partitions have gone to others, then SIGCONT.
    Pause,
    /// kill -9 of the indexer.
    Indexer,
    /// kill -9 of a broker, which comes back some seconds later.
    Broker,
    /// Nobody reaches a broker, which itself reaches the others: not dead enough to be replaced.
    Cut,
    /// A quarter of the packets to and from a broker get lost: everything is late.
    Loss,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Worker => "kill worker",
            Self::Workers => "kill all workers",
            Self::Pause => "pause worker",
            Self::Indexer => "kill indexer",
            Self::Broker => "kill broker",
            Self::Cut => "cut off broker",
            Self::Loss => "lossy network",
        })
    }
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Worker, Self::Workers, Self::Pause, Self::Indexer, Self::Broker, Self::Cut, Self::Loss];

    /// How the network is to be, for a fault of the network.
    pub fn line(self) -> Option<Line> {
        match self {
            Self::Cut => Some(Line::Cut),
            Self::Loss => Some(Line::Bad),
            _ => None,
        }
    }

    /// How long it is held on purpose.
    pub fn held(self) -> Duration {
        match self {
            Self::Worker | Self::Workers | Self::Indexer => Duration::ZERO,
            Self::Pause => PAUSED,
            Self::Broker => AWAY,
            Self::Cut | Self::Loss => SPOILT,
        }
    }
}

/// The cluster, through its supervisor, and the network between its parts.
pub struct Machine<'a> {
    layout: &'a Layout,
    cluster: Cluster,
    network: Option<Network>,
}

impl<'a> Machine<'a> {
    /// Of a data folder.
    pub fn new(layout: &'a Layout, network: Option<Network>) -> Result<Self> {
        Ok(Self { layout, cluster: commands::cluster(layout)?, network })
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        control::status(self.layout).await?.with_context(|| commands::not_running(self.layout))
    }

    /// Waits until every component runs, and every partition has all of its copies and the leader that it usually has.
    pub async fn well(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let wrong = match self.away().await? {
                None => self.displaced().await,
                away => away,
            };
            let Some(wrong) = wrong else { return Ok(()) };
            if Instant::now() > deadline {
                bail!("after {} s: {wrong}", patience.as_secs());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn away(&self) -> Result<Option<String>> {
        let components = self.snapshot().await?.components;
        let away = components.into_iter().filter(|component| component.state != ComponentState::Running);
        let away: Vec<_> = away.map(|component| component.name).collect();
        Ok((!away.is_empty()).then(|| format!("not running: {}", away.join(", "))))
    }

    async fn displaced(&self) -> Option<String> {
        let topics = match self.cluster.topics(PATIENCE).await {
            Ok(topics) => topics,
            Err(error) => return Some(format!("{error:#}")),
        };
        let wrong = topics.into_iter().filter(|topic| topic.under_replicated + topic.displaced > 0);
        let wrong: Vec<_> = wrong.map(|topic| topic.name).collect();
        (!wrong.is_empty()).then(|| format!("without a copy or their usual leader: {}", wrong.join(", ")))
    }

    /// Whom a fault is to hit.
    pub async fn victims(&self, fault: Fault, random: &mut StdRng) -> Result<Vec<String>> {
        let kind = match fault {
            Fault::Worker | Fault::Workers | Fault::Pause => "processor-",
            Fault::Indexer => "indexer",
            Fault::Broker | Fault::Cut | Fault::Loss => "kafka-",
        };
        let components = self.snapshot().await?.components;
        let mut names: Vec<_> = components
            .into_iter()
            .map(|component| component.name)
            .filter(|name| name.starts_with(kind))
            .collect();
        if names.is_empty() {
            bail!("there is no {kind} to break");
        }
        if fault != Fault::Workers {
            let chosen = random.random_range(0..names.len());
            names.swap(0, chosen);
            names.truncate(1);
        }
        Ok(names)
    }

    async fn pid(&self, name: &str) -> Result<Pid> {
        let components = self.snapshot().await?.components;
        let component = components.into_iter().find(|component| component.name == name);
        let pid = component.map(|component| component.process.pid).filter(|pid| *pid > 0);
        Ok(Pid::from_raw(i32::try_from(pid.with_context(|| format!("{name} has no process"))?)?))
    }

    /// Where these brokers listen.
    fn ports(&self, brokers: &[String]) -> Result<Vec<u16>> {
        let ports = State::load(self.layout)?.with_context(|| commands::not_running(self.layout))?.ports();
        let chosen = (1..=BROKERS).filter(|n| brokers.contains(&format!("kafka-{n}")));
        Ok(chosen.flat_map(|n| [ports.broker(n), ports.controller(n)]).collect())
    }

    async fn order(&self, name: &str, action: Action) -> Result<()> {
        let mut connection =
            Connection::open(self.layout)?.with_context(|| commands::not_running(self.layout))?;
        connection.send(&Request::Component { name: name.to_owned(), action }).await?;
        match connection.receive().await? {
            Some(Reply::Done(_)) => Ok(()),
            Some(Reply::Error(error)) => bail!(error),
            _ => bail!("the supervisor ended"),
        }
    }

    /// Makes a fault, mends what does not mend itself, and waits until the stream has caught up. Returns how long that took.
    pub async fn make(&self, fault: Fault, victims: &[String], kafka: &Kafka) -> Result<Duration> {
        let began = Instant::now();
        let mut pids = Vec::new();
        for victim in victims {
            pids.push(self.pid(victim).await?);
        }
        match fault {
            // The process, not the component: its supervisor must notice.
            Fault::Worker | Fault::Workers | Fault::Indexer => {
                for pid in pids {
                    kill(pid, Signal::SIGKILL)?;
                }
            }
            Fault::Pause => {
                for &pid in &pids {
                    kill(pid, Signal::SIGSTOP)?;
                }
                tokio::time::sleep(PAUSED).await;
                for pid in pids {
                    kill(pid, Signal::SIGCONT)?;
                }
            }
            Fault::Broker => {
                for victim in victims {
                    self.order(victim, Action::Kill).await?;
                }
                tokio::time::sleep(AWAY).await;
                for victim in victims {
                    self.order(victim, Action::Start).await?;
                }
            }
            Fault::Cut | Fault::Loss => {
                let line = self.network.as_ref().zip(fault.line());
                let (network, line) = line.context("there is no network to spoil")?;
                network.spoil(&self.ports(victims)?, line, SPOILT)?;
                tokio::time::sleep(SPOILT).await;
            }
        }
        tokio::time::sleep(AFTER).await;
        if fault != Fault::Indexer {
            kafka.processed(PATIENCE).await?;
        }
        if matches!(fault, Fault::Indexer | Fault::Broker | Fault::Cut | Fault::Loss) {
            kafka.indexed(PATIENCE).await?;
        }
        Ok(began.elapsed())
    }
}
