//! Configuration of the processes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use millrace_core::Application;
use millrace_service::{ElasticsearchArgs, KafkaArgs, ServiceArgs};
use millrace_wire::telemetry::{AppBackend, StateBackend};

use crate::apps;
use crate::runtime::Strategy;
use crate::store::Disk;

/// `millrace-processor run`.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// This process.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Where checkpoints are kept: the URL of a folder (`file:///..`) or of an S3 bucket (`s3://bucket/prefix`; endpoint
    /// and credentials come from the usual `AWS_` variables).
    #[arg(long, env = "MILLRACE_CHECKPOINT_URL")]
    pub checkpoint_url: url::Url,
    /// Where the state of an app is kept: `APP=memory`, as for every app of which nothing is said, or `APP=disk`, for
    /// state that is larger than memory. May be said more than once.
    #[arg(
        long = "backend",
        env = "MILLRACE_STATE_BACKEND",
        value_name = "APP=BACKEND",
        value_delimiter = ','
    )]
    pub backends: Vec<AppBackend>,
    /// The folder for state on disk. Each worker needs its own; what is in it is a copy, and can be removed while the
    /// worker does not run.
    #[arg(long, env = "MILLRACE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Time between checkpoints of a task, ms.
    #[arg(long, env = "MILLRACE_CHECKPOINT_INTERVAL_MS", default_value_t = 10_000)]
    pub checkpoint_interval_ms: u64,
    /// A transaction is committed so long after its first record, ms; later if commits take longer than that. Longer means a
    /// higher latency and less work for the brokers: about 1 % of a core for each transaction per second.
    #[arg(long, env = "MILLRACE_COMMIT_INTERVAL_MS", default_value_t = 20)]
    pub commit_interval_ms: u64,
    /// When an app that failed is started again: fixed-delay:ATTEMPTS:DELAY_S, exponential-delay:FIRST_S:LARGEST_S or
    /// failure-rate:FAILURES:IN_S:DELAY_S.
    #[arg(long, env = "MILLRACE_RESTART_STRATEGY", default_value = "fixed-delay:3:10")]
    pub restart_strategy: Strategy,
    /// Runs this app only; may be said more than once. Every app of the demo if not said.
    #[arg(long = "app", value_name = "NAME")]
    pub apps: Vec<String>,
    /// The topic that the apps of `millrace bench` read.
    #[arg(long, value_name = "TOPIC", hide = true)]
    pub bench_source: Option<String>,
}

impl RunArgs {
    /// Name of this worker: its static group membership and its transactional id follow from it, so it must be the same
    /// after a restart and unique among the running workers.
    pub fn component(&self) -> &str {
        self.service.component.as_deref().unwrap_or("processor-1")
    }

    /// Where the state of an app is kept.
    pub fn backend(&self, app: &str) -> StateBackend {
        let said = self.backends.iter().rev().find(|said| said.app == app);
        said.map_or(StateBackend::Memory, |said| said.backend)
    }

    /// Opens the folder for state on disk, if one of these apps needs it.
    ///
    /// # Errors
    /// A backend is chosen for an app that there is not; no folder is named, or it can't be used.
    pub fn disk(&self, apps: &[&dyn Application]) -> anyhow::Result<Option<Disk>> {
        let known = |name: &str| apps::ALL.iter().chain(apps).any(|app| app.name() == name);
        for AppBackend { app, .. } in &self.backends {
            ensure!(known(app), "--backend {app}=..: there is no app {app}");
        }
        if apps.iter().all(|app| self.backend(app.name()) == StateBackend::Memory) {
            return Ok(None);
        }
        let dir =
            self.state_dir.as_ref().context("state on disk needs a folder: name it with --state-dir")?;
        Disk::open(dir).map(Some)
    }

    /// See [`RunArgs::commit_interval_ms`].
    pub fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms)
    }

    /// See [`RunArgs::checkpoint_interval_ms`].
    pub fn checkpoint_interval(&self) -> Duration {
        Duration::from_millis(self.checkpoint_interval_ms)
    }
}

/// `millrace-processor index`.
#[derive(Args, Clone)]
pub struct IndexArgs {
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Elasticsearch.
    #[command(flatten)]
    pub elasticsearch: ElasticsearchArgs,
    /// This process.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Documents of one bulk request at the most.
    #[arg(long, env = "MILLRACE_INDEX_BATCH", default_value_t = 1_000)]
    pub batch: usize,
    /// A bulk request is sent at the latest so long after its first document, ms.
    #[arg(long, env = "MILLRACE_INDEX_INTERVAL_MS", default_value_t = 200)]
    pub interval_ms: u64,
}
