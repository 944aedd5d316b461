//! A worker of the bench: `millrace-processor run` with one app.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_wire::bench::PREFIX;
use millrace_wire::telemetry::{AppBackend, StateBackend};
use millrace_wire::{ledger, topic};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::Options;
use super::stage::Stage;
use super::target::{CALL, Target};
use crate::logfile::{LogFile, tail};
use crate::process::{self, Group, Program};
use crate::usage::{self, Usage};

/// How long a worker may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// A running worker.
pub struct Worker {
    group: Group,
    log: PathBuf,
}

impl Worker {
    /// Starts worker `n` on an app that reads `source`.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start(stage: &Stage, options: &Options, n: u16, app: &str, source: &str) -> Result<Self> {
        Self::start_on(stage, options, n, app, source, StateBackend::Memory)
    }

    /// The same, with state in a place of choice.
    ///
    /// # Errors
    /// The program is not there.
    pub fn start_on(
        stage: &Stage,
        options: &Options,
        n: u16,
        app: &str,
        source: &str,
        backend: StateBackend,
    ) -> Result<Self> {
        let component = format!("{PREFIX}{n}");
        let chosen = AppBackend { app: app.to_owned(), backend }.to_string();
        let mut args = vec!["run", "--app", app, "--bench-source", source, "--backend", &chosen];
        let interval = options.commit_interval.map(|ms| ms.to_string());
        if let Some(interval) = &interval {
            args.extend(["--commit-interval-ms", interval]);
        }
        let mut env = stage.target.environment()?;
        env.extend([
            ("MILLRACE_COMPONENT".to_owned(), component.clone()),
            ("MILLRACE_LOG_FORMAT".to_owned(), "json".to_owned()),
            ("MILLRACE_CHECKPOINT_URL".to_owned(), format!("file://{}/checkpoints", stage.dir.display())),
            ("MILLRACE_STATE_DIR".to_owned(), stage.state_dir(&component).display().to_string()),
        ]);
        let program = Program {
            path: std::env::current_exe()?.with_file_name("millrace-processor"),
            args: args.into_iter().map(Into::into).collect(),
            env,
            account: None,
            dir: stage.dir.clone(),
        };
        let (group, mut output) = process::start(&program)?;
        let log = stage.dir.join(format!("{component}.log"));
        let mut file = LogFile::open(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // Ends with the worker, whose end closes the pipe.
        std::thread::Builder::new().name(format!("{component}-log")).spawn(move || {
            let mut buffer = [0_u8; 8_192];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                file.append(buffer.get(..n).unwrap_or_default());
            }
        })?;
        Ok(Self { group, log })
    }

    /// What it has taken so far; `None`: it has ended.
    pub fn usage(&self) -> Option<Usage> {
        // A process that has ended and was not waited for yet has no memory.
        usage::process(self.group.id().unsigned_abs()).filter(|usage| usage.resident_bytes > 0)
    }

    /// The most memory that it has had resident, bytes.
    pub fn peak(&self) -> Option<u64> {
        usage::peak(self.group.id().unsigned_abs())
    }

    /// The end of its log, for an error.
    pub fn last_words(&self) -> String {
        tail(&self.log, 5).join("\n")
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(mut self) {
        self.group.kill().await;
    }

    /// Stops it cleanly.
    pub async fn stop(mut self) {
        self.group.stop(STOP).await;
    }
}

/// Takes the entries of these apps out of the ledger: a record without a value for each of their tasks.
pub fn forget(target: &Target, apps: &[(String, i32)]) -> Result<()> {
    let producer: ThreadedProducer<_> = target.producer(5, rdkafka::producer::DefaultProducerContext)?;
    for (app, partitions) in apps {
        for partition in 0..*partitions {
            let key = ledger::key(app, partition);
            let sent = producer.send(BaseRecord::<str, [u8]>::to(topic::LEDGER).key(&key));
            sent.map_err(|(error, _): (KafkaError, _)| error)?;
        }
    }
    Ok(producer.flush(CALL)?)
}
