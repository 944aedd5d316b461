//! `millrace health`: looks at everything from outside, names what is not well and what to do.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use millrace_wire::telemetry::ComponentState;
use serde_json::Value;

use crate::board::{Outcome, Snapshot};
use crate::cluster::{Cluster, TopicView};
use crate::commands::{cluster, not_running, word};
use crate::control;
use crate::credentials::{Credentials, ELASTICSEARCH_USER};
use crate::http;
use crate::layout::Layout;
use crate::out;
use crate::ports::{BROKERS, Ports};
use crate::state::State;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How it is, if well; else what is wrong and what to do.
    pub verdict: Result<String, (String, String)>,
}

fn well(what: &str, how: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), verdict: Ok(how.into()) }
}

fn unwell(what: &str, wrong: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), verdict: Err((wrong.into(), remedy.into())) }
}

/// Prints every finding; fails if one is bad.
pub async fn health(layout: &Layout) -> Result<ExitCode> {
    let Some(snapshot) = control::status(layout).await? else {
        out::line(format!("NOT WELL  {}", not_running(layout)));
        return Ok(ExitCode::FAILURE);
    };
    let state = State::load(layout)?.unwrap_or_default();
    let has = |name: &str| snapshot.components.iter().any(|component| component.name == name);
    let mut findings = components(&snapshot);
    if has("kafka-1") {
        findings.extend(kafka(&cluster(layout)?).await);
    }
    if has("elasticsearch") {
        findings.push(elasticsearch(state.ports(), &Credentials::load(layout)?).await);
    }
    if has("gateway") {
        findings.push(gateway(state.ports()).await);
    }
    for finding in &findings {
        match &finding.verdict {
            Ok(how) => out::line(format!("ok        {}: {how}", finding.what)),
            Err((wrong, remedy)) => out::line(format!("NOT WELL  {}: {wrong}. {remedy}", finding.what)),
        }
    }
    let bad = findings.iter().filter(|finding| finding.verdict.is_err()).count();
    if bad > 0 {
        out::line(format!("{bad} of {} checks failed", findings.len()));
        return Ok(ExitCode::FAILURE);
    }
    out::line(format!("all {} checks passed: {}", findings.len(), snapshot.url));
    Ok(ExitCode::SUCCESS)
}

/// `probe`.
pub async fn probe(port: u16) -> Result<ExitCode> {
    let answer = http::get(port, "/health", None).await?;
    out::line(answer.body.trim());
    Ok(if answer.status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn components(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    if matches!(snapshot.outcome, Outcome::Starting | Outcome::Stopping) {
        findings.push(unwell("cluster", snapshot.phase.clone(), "Wait a moment"));
    }
    findings.extend(snapshot.components.iter().map(|component| {
        let name = &component.name;
        let restarts = match component.restarts {
            0 => String::new(),
            1 => ", 1 restart".to_owned(),
            n => format!(", {n} restarts"),
        };
        let detail = component.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let wrong = format!("{}{detail}{restarts}", word(component.state));
        match component.state {
            ComponentState::Running => well(name, format!("running{restarts}")),
            ComponentState::Stopped => unwell(name, wrong, format!("`millrace component start {name}`")),
            _ => unwell(name, wrong, format!("`millrace logs {name}` says why")),
        }
    }));
    findings
}

async fn kafka(cluster: &Cluster) -> Vec<Finding> {
    let patience = Duration::from_secs(5);
    let brokers = match cluster.brokers(patience).await {
        Ok(brokers) => brokers,
        Err(error) => {
            return vec![unwell(
                "kafka",
                format!("{error:#}"),
                "`millrace status` shows which broker is down",
            )];
        }
    };
    let missing: Vec<String> =
        (1..=BROKERS).filter(|n| !brokers.contains(&i32::from(*n))).map(|n| n.to_string()).collect();
    let first = if missing.is_empty() {
        well("kafka", format!("{} brokers answer", brokers.len()))
    } else {
        let broker = missing.join(", ");
        unwell("kafka", format!("broker {broker} is missing"), format!("`millrace broker start {broker}`"))
    };
    let second = match cluster.topics(patience).await {
        Ok(topics) => replication(&topics),
        Err(error) => unwell("replication", format!("{error:#}"), "Try again in a moment"),
    };
    vec![first, second]
}

fn replication(topics: &[TopicView]) -> Finding {
    let behind: Vec<_> =
        topics.iter().filter(|topic| topic.under_replicated > 0).map(|topic| topic.name.as_str()).collect();
    let dead: Vec<_> =
        topics.iter().filter(|topic| topic.leaderless > 0).map(|topic| topic.name.as_str()).collect();
    if !dead.is_empty() {
        return unwell(
            "replication",
            format!("no leader in {}", dead.join(", ")),
            "Start the missing brokers",
        );
    }
    if !behind.is_empty() {
        return unwell(
            "replication",
            format!("copies are behind in {}", behind.join(", ")),
            "A broker is down or catching up: wait, or start it",
        );
    }
    let partitions: usize = topics.iter().map(|topic| topic.partitions).sum();
    well("replication", format!("{} topics, {partitions} partitions, every copy in sync", topics.len()))
}

async fn elasticsearch(ports: Ports, credentials: &Credentials) -> Finding {
    let authorization = http::basic(ELASTICSEARCH_USER, &credentials.elasticsearch_password);
    let answer = http::get(ports.elasticsearch(), "/_cluster/health?timeout=2s", Some(&authorization)).await;
    let remedy = "`millrace elasticsearch start`, or `millrace logs elasticsearch`";
    match answer {
        Err(error) => unwell("elasticsearch", format!("{error:#}"), remedy),
        Ok(answer) => {
            let status = serde_json::from_str::<Value>(&answer.body)
                .ok()
                .and_then(|body| Some(body.get("status")?.as_str()?.to_owned()));
            match status.as_deref() {
                Some(status @ ("green" | "yellow")) => well("elasticsearch", status),
                Some(status) => unwell("elasticsearch", format!("its health is {status}"), remedy),
                None => unwell("elasticsearch", format!("it answered {}", answer.status), remedy),
            }
        }
    }
}

async fn gateway(ports: Ports) -> Finding {
    let remedy = "`millrace logs gateway`";
    match http::get(ports.gateway(), "/ready", None).await {
        Ok(answer) if answer.status == 200 => well("gateway", "ready"),
        Ok(answer) => {
            let body: String = answer.body.chars().take(300).collect();
            unwell("gateway", format!("not ready ({}): {}", answer.status, body.trim()), remedy)
        }
        Err(error) => unwell("gateway", format!("{error:#}"), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, under_replicated: usize, leaderless: usize) -> TopicView {
        TopicView {
            name: name.to_owned(),
            partitions: 6,
            replication: 3,
            under_replicated,
            leaderless,
            displaced: 0,
        }
    }

    #[test]
    fn replication_names_the_topics_in_trouble() {
        assert!(replication(&[topic("a", 0, 0)]).verdict.is_ok());
        let (wrong, _) = replication(&[topic("a", 0, 0), topic("b", 2, 0)]).verdict.unwrap_err();
        assert_eq!(wrong, "copies are behind in b");
        let (wrong, _) = replication(&[topic("a", 3, 1), topic("b", 2, 0)]).verdict.unwrap_err();
        assert_eq!(wrong, "no leader in a");
    }
}
