//! What can be read. No handler here waits for Kafka: they answer from what the threads have read, and say how old it is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use millrace_service::clock::now_ms;
use millrace_wire::api::{
    GroupView, JobView, Ledger, Listing, ParamsView, ProducerView, ResultsPage, TopicView,
};
use millrace_wire::control::MAX_RATE;
use millrace_wire::live::Overview;
use millrace_wire::scenario::Scenario;
use millrace_wire::telemetry::{Body, Checkpoint, JobDescriptor, Recovery};
use millrace_wire::topic;

use crate::clock::{locked, time_of_day};
use crate::gateway::Gateway;
use crate::kafka::View;
use crate::ledger::Indexed;
use crate::problem::Refusal;
use crate::search::Filter;
use crate::telemetry;

/// Telemetry is old after so long.
const OLD_MS: i64 = 3_000;
/// Offsets are old after so long.
const OLD_OFFSETS_MS: i64 = 5_000;

pub async fn overview(State(gateway): State<Arc<Gateway>>) -> Json<Overview> {
    Json(Overview::clone(&gateway.hub.overview()))
}

/// A listing of what was read from Kafka at `read_ms`.
fn listing<T>(view: &View, read_ms: i64, items: Vec<T>) -> Json<Listing<T>> {
    let now = now_ms();
    let old = now - read_ms > OLD_OFFSETS_MS;
    let problem = view.away(now).or_else(|| {
        let since = time_of_day(read_ms);
        old.then(|| format!("A broker does not answer: some of these numbers stand still since {since}"))
    });
    Json(Listing { as_of_ms: read_ms, problem, items })
}

fn heard<T>(state: &telemetry::State, items: Vec<T>) -> Json<Listing<T>> {
    let as_of_ms = state.heard_ms();
    let problem = if as_of_ms == 0 {
        Some("No process has reported yet".to_owned())
    } else if now_ms() - as_of_ms > OLD_MS {
        Some(format!("No process has reported since {}: this is old", time_of_day(as_of_ms)))
    } else {
        None
    };
    Json(Listing { as_of_ms, problem, items })
}

pub async fn topics(State(gateway): State<Arc<Gateway>>) -> Json<Listing<TopicView>> {
    let view = gateway.kafka.get();
    listing(&view, view.ends_ms, view.topics.clone())
}

pub async fn topic(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
) -> Result<Json<TopicView>, Refusal> {
    let view = gateway.kafka.get();
    let found = view.topics.iter().find(|t| t.name == name).cloned();
    found.map(Json).ok_or_else(|| Refusal::not_found(with_problem("/api/v1/topics lists the topics.", &view)))
}

pub async fn groups(State(gateway): State<Arc<Gateway>>) -> Json<Listing<GroupView>> {
    let view = gateway.kafka.get();
    let oldest = view.groups_ms.iter().copied().min().unwrap_or(0);
    listing(&view, oldest.min(view.ends_ms), view.groups.clone())
}

pub async fn group(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
) -> Result<Json<GroupView>, Refusal> {
    let view = gateway.kafka.get();
    let found = view.groups.iter().find(|g| g.group == name).cloned();
    found.map(Json).ok_or_else(|| Refusal::not_found(with_problem("/api/v1/groups lists the groups.", &view)))
}

fn with_problem(text: &str, view: &View) -> String {
    view.away(now_ms()).map_or_else(|| text.to_owned(), |problem| format!("{text} {problem}."))
}

fn job_view(descriptor: &JobDescriptor) -> JobView {
    JobView {
        id: format!("{}.{}", descriptor.app, descriptor.job),
        app: descriptor.app.clone(),
        job: descriptor.job.clone(),
        description: descriptor.description.clone(),
        inputs: descriptor.inputs.clone(),
        outputs: descriptor.outputs.clone(),
    }
}

pub fn unknown_job(state: &telemetry::State) -> Refusal {
    let known: Vec<String> = state.jobs().map(|d| format!("{}.{}", d.app, d.job)).collect();
    Refusal::not_found(if known.is_empty() {
        "No worker has said yet which jobs there are.".to_owned()
    } else {
        format!("There are the jobs {}.", known.join(", "))
    })
}

pub fn unknown_stream(state: &telemetry::State, now_ms: i64) -> Refusal {
    let known: Vec<String> = state.overview(now_ms).streams.into_iter().map(|s| s.stream).collect();
    Refusal::not_found(if known.is_empty() {
        "No generator has reported in the last minute: are the producers running?".to_owned()
    } else {
        format!("There are generators of {}.", known.join(", "))
    })
}

pub async fn jobs(State(gateway): State<Arc<Gateway>>) -> Json<Listing<JobView>> {
    let state = locked(&gateway.state);
    heard(&state, state.jobs().map(job_view).collect())
}

pub async fn job(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Refusal> {
    let state = locked(&gateway.state);
    state.job(&id).map(|d| Json(job_view(d))).ok_or_else(|| unknown_job(&state))
}

pub async fn params(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<ParamsView>, Refusal> {
    let state = locked(&gateway.state);
    let descriptor = state.job(&id).ok_or_else(|| unknown_job(&state))?;
    let (version, params) = state.params_shown(descriptor, now_ms());
    Ok(Json(ParamsView { params, schema: descriptor.schema.clone(), version }))
}

pub async fn checkpoints(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<Listing<Checkpoint>>, Refusal> {
    let state = locked(&gateway.state);
    let descriptor = state.job(&id).ok_or_else(|| unknown_job(&state))?;
    let of_app = state.checkpoints().0.iter().rev().filter(|c| c.app == descriptor.app).cloned().collect();
    let Json(mut listing) = heard(&state, of_app);
    if listing.problem.is_none() {
        listing.problem = passed_over(&descriptor.app, state.recoveries().0);
    }
    Ok(Json(listing))
}

/// What the newest recovery of each task could not use.
fn passed_over(app: &str, recoveries: &VecDeque<Recovery>) -> Option<String> {
    let newest: BTreeMap<i32, &Recovery> =
        recoveries.iter().filter(|r| r.app == app).map(|r| (r.partition, r)).collect();
    let told = newest.values().filter(|r| !r.passed_over.is_empty()).map(|r| {
        let from = r.checkpoint.map_or_else(|| "the changelog".to_owned(), |id| format!("checkpoint {id}"));
        let (at, reasons) = (time_of_day(r.at_ms), r.passed_over.join("; "));
        format!("{app}/{} was put back from {from} at {at}, passing over {reasons}", r.partition)
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join(". "))
}

pub async fn producers(State(gateway): State<Arc<Gateway>>) -> Json<Listing<ProducerView>> {
    let state = locked(&gateway.state);
    let now = now_ms();
    let mut items = Vec::new();
    for (_, tracked) in state.shown(now) {
        if let Body::Producers { streams } = &tracked.frame.body {
            items.extend(streams.iter().map(|s| ProducerView {
                stream: s.stream.clone(),
                target_rate: s.target_rate,
                rate: tracked.rate(&format!("produced/{}", s.stream), now),
                max_rate: MAX_RATE,
                scenario: s.scenario.clone(),
                scenarios: Scenario::ALL.into_iter().filter(|scenario| scenario.fits(&s.stream)).collect(),
                error: s.error.clone(),
            }));
        }
    }
    heard(&state, items)
}

pub async fn ledger(State(gateway): State<Arc<Gateway>>) -> Json<Ledger> {
    // Elasticsearch first: what it holds was counted before.
    let documents = gateway.search.count().await;
    let view = gateway.kafka.get();
    let behind = view.groups.iter().find(|g| g.group == topic::INDEXER_GROUP).map(|g| g.lag_records);
    let indexed = documents.map(|documents| Indexed { documents, behind });
    Json(locked(&gateway.books).balance(&view, indexed, now_ms()))
}

pub async fn results(
    State(gateway): State<Arc<Gateway>>,
    Path(index): Path<String>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<ResultsPage>, Refusal> {
    let Query(filter) = filter.map_err(|error| Refusal::invalid(error.body_text()))?;
    gateway.search.page(&index, &filter).await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_was_passed_over_is_told_until_the_next_recovery() {
        let recovery = |partition, at_ms, passed_over: &[&str]| Recovery {
            app: "sensors".into(),
            partition,
            at_ms,
            checkpoint: Some(6),
            passed_over: passed_over.iter().map(|&reason| reason.to_owned()).collect(),
            ..Recovery::default()
        };
        let mut all =
            VecDeque::from([recovery(1, 0, &[]), recovery(3, 1_000, &["checkpoint 7: it is torn"])]);
        let text =
            "sensors/3 was put back from checkpoint 6 at 00:00:01 UTC, passing over checkpoint 7: it is torn";
        assert_eq!(passed_over("sensors", &all).as_deref(), Some(text));
        assert_eq!(passed_over("bank", &all), None);
        all.push_back(recovery(3, 2_000, &[]));
        assert_eq!(passed_over("sensors", &all), None);
    }
}
