//! Commands that talk to a running supervisor, or to its cluster.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::telemetry::ComponentState;
use rdkafka::ClientConfig;
use serde_json::json;

use crate::board::Snapshot;
use crate::cluster::{Cluster, client_config};
use crate::control::{self, Action, Connection, Reply, Request};
use crate::credentials::Credentials;
use crate::layout::Layout;
use crate::out;
use crate::state::State;
use crate::supervisor;
use crate::topics;

/// The supervisor's word for a state.
pub fn word(state: ComponentState) -> &'static str {
    match state {
        ComponentState::Starting => "starting",
        ComponentState::Running => "running",
        ComponentState::Restarting => "restarting",
        ComponentState::Stopped => "stopped",
        ComponentState::Failed => "failed",
    }
}

/// What every command says when nothing runs.
pub fn not_running(layout: &Layout) -> String {
    format!(
        "nothing runs on {}: `millrace up` starts it (--data DIR for another folder)",
        layout.root().display()
    )
}

/// `down`.
pub async fn down(layout: &Layout) -> Result<ExitCode> {
    let Some(mut connection) = Connection::open(layout)? else {
        out::line(not_running(layout));
        return Ok(ExitCode::SUCCESS);
    };
    let began = Instant::now();
    connection.send(&Request::Down).await?;
    while let Ok(Some(reply)) = connection.receive::<Reply>().await {
        if let Reply::Note(note) = reply {
            out::line(format!("{:>6.1} s  {note}", began.elapsed().as_secs_f64()));
        }
    }
    // The folder is free when the supervisor has ended.
    let deadline = Instant::now() + Duration::from_secs(10);
    while supervisor::lock(layout)?.is_none() {
        if Instant::now() > deadline {
            bail!(
                "the supervisor has stopped everything but does not end; see {}",
                layout.log("launcher").display()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// `status`.
pub async fn status(layout: &Layout, as_json: bool) -> Result<ExitCode> {
    let snapshot = control::status(layout).await?;
    if as_json {
        let value = match &snapshot {
            Some(snapshot) => as_value(snapshot),
            None => json!({"url": null, "components": []}),
        };
        out::line(serde_json::to_string_pretty(&value)?);
        return Ok(ExitCode::SUCCESS);
    }
    let Some(snapshot) = snapshot else {
        out::line(not_running(layout));
        return Ok(ExitCode::SUCCESS);
    };
    out::line(format!("{}   {} for {:.0} s", snapshot.url, snapshot.phase, snapshot.phase_s));
    out::line(format!(
        "{:<14} {:<10} {:>7} {:>8} {:>8} {:>8}  PORTS",
        "COMPONENT", "STATE", "PID", "RESTARTS", "CPU s", "MiB"
    ));
    for component in &snapshot.components {
        let ports: Vec<_> = component.ports.iter().map(u16::to_string).collect();
        out::line(format!(
            "{:<14} {:<10} {:>7} {:>8} {:>8.1} {:>8}  {}{}",
            component.name,
            word(component.state),
            component.process.pid,
            component.restarts,
            component.process.cpu_seconds,
            component.process.resident_bytes >> 20,
            ports.join(" "),
            component.detail.as_ref().map(|detail| format!("  {detail}")).unwrap_or_default()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn as_value(snapshot: &Snapshot) -> serde_json::Value {
    let components: Vec<_> = snapshot
        .components
        .iter()
        .map(|component| {
            json!({
                "name": component.name,
                "pid": (component.process.pid != 0).then_some(component.process.pid),
                "state": component.state,
                "restarts": component.restarts,
                "ports": component.ports,
                "detail": component.detail,
                "cpu_seconds": component.process.cpu_seconds,
                "resident_bytes": component.process.resident_bytes,
            })
        })
        .collect();
    json!({"url": snapshot.url, "pid": snapshot.pid, "components": components})
}

/// `worker|broker|elasticsearch|component start|kill|stop`; a start waits until the component is ready.
pub async fn component(layout: &Layout, name: &str, action: Action) -> Result<ExitCode> {
    let Some(mut connection) = Connection::open(layout)? else { bail!(not_running(layout)) };
    let began = Instant::now();
    connection.send(&Request::Component { name: name.to_owned(), action }).await?;
    match connection.receive().await? {
        Some(Reply::Done(done)) if action != Action::Start => {
            out::line(done);
            return Ok(ExitCode::SUCCESS);
        }
        Some(Reply::Done(_)) => {}
        Some(Reply::Error(error)) => bail!(error),
        _ => bail!("the supervisor ended"),
    }
    let deadline = began + Duration::from_secs(60);
    loop {
        let snapshot = control::status(layout).await?.context("the supervisor ended")?;
        let component = snapshot.components.into_iter().find(|component| component.name == name);
        let component = component.with_context(|| format!("there is no {name}"))?;
        match component.state {
            ComponentState::Running => {
                out::line(format!("{name} is ready after {:.1} s", began.elapsed().as_secs_f64()));
                return Ok(ExitCode::SUCCESS);
            }
            ComponentState::Failed => bail!("{name}: {}", component.detail.unwrap_or_default()),
            state if Instant::now() > deadline => {
                bail!("{name} is {} after 60 s: `millrace logs {name}`", word(state))
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A client of the folder's cluster.
pub fn cluster(layout: &Layout) -> Result<Cluster> {
    let state = State::load(layout)?.with_context(|| not_running(layout))?;
    Cluster::new(state.ports(), &Credentials::load(layout)?)
}

/// Settings of a client of the folder's cluster that belongs to no group but may ask for offsets.
pub fn client(layout: &Layout, name: &str) -> Result<ClientConfig> {
    let state = State::load(layout)?.with_context(|| not_running(layout))?;
    let mut config = client_config(state.ports(), &Credentials::load(layout)?);
    config.set("client.id", name).set("group.id", name).set("enable.auto.commit", "false");
    Ok(config)
}

/// `topics setup`.
pub async fn topics_setup(layout: &Layout) -> Result<ExitCode> {
    let created = topics::setup(&cluster(layout)?, Duration::from_secs(60)).await?;
    match created.as_slice() {
        [] => out::line("every topic is there"),
        created => out::line(format!("created {}", created.join(", "))),
    }
    Ok(ExitCode::SUCCESS)
}

/// `topics list`.
pub async fn topics_list(layout: &Layout) -> Result<ExitCode> {
    let topics = cluster(layout)?.topics(Duration::from_secs(10)).await?;
    out::line(format!("{:<36} {:>10} {:>6} {:>16}", "TOPIC", "PARTITIONS", "COPIES", "UNDER-REPLICATED"));
    for topic in topics {
        out::line(format!(
            "{:<36} {:>10} {:>6} {:>16}",
            topic.name, topic.partitions, topic.replication, topic.under_replicated
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// `user`: becomes `millrace-gateway user`, with the folder's database.
pub fn user(layout: &Layout, args: &[OsString]) -> Result<ExitCode> {
    let program = std::env::current_exe()?.with_file_name("millrace-gateway");
    if !program.exists() {
        bail!("{} does not exist: `./demo` builds it", program.display());
    }
    let error = std::process::Command::new(&program)
        .arg("user")
        .args(args)
        .env("MILLRACE_DATABASE_URL", layout.gateway_database_url())
        .exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
