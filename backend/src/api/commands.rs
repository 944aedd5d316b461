//! Changes: checked, audited, given to Kafka, and answered with what became of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use millrace_service::clock::now_ms;
use millrace_wire::api::{ParamsChange, RateChange, ScenarioStart, Session};
use millrace_wire::control::{Command, MAX_RATE, MAX_SECONDS, RateSettings, ScenarioSettings};
use millrace_wire::scenario::Scenario;
use millrace_wire::telemetry::Body as Frame;

use super::Body;
use super::gate::Address;
use super::views::{unknown_job, unknown_stream};
use crate::clock::locked;
use crate::control::Outcome;
use crate::gateway::Gateway;
use crate::problem::Refusal;
use crate::telemetry::State as Telemetry;

pub async fn rate(
    State(gateway): State<Arc<Gateway>>,
    Extension(session): Extension<Session>,
    Extension(Address(address)): Extension<Address>,
    Path(stream): Path<String>,
    Body(RateChange { rate }): Body<RateChange>,
) -> Result<Response, Refusal> {
    generated(&gateway, &stream)?;
    if !rate.is_finite() || !(0.0..=MAX_RATE).contains(&rate) {
        return Err(Refusal::invalid(format!(
            "`rate` must be 0 to {MAX_RATE} events per second, not {rate}."
        )));
    }
    let detail = format!("{stream} to {rate} events/s");
    gateway.database.audit(&session.username, &address, "rate", &detail).await;
    let command = Command::Rate { stream: stream.clone(), settings: RateSettings { rate } };
    to_generators(&gateway, &session, &stream, command).await
}

pub async fn scenario(
    State(gateway): State<Arc<Gateway>>,
    Extension(session): Extension<Session>,
    Extension(Address(address)): Extension<Address>,
    Path(stream): Path<String>,
    Body(ScenarioStart { name, seconds }): Body<ScenarioStart>,
) -> Result<Response, Refusal> {
    generated(&gateway, &stream)?;
    if !name.fits(&stream) {
        let fit = Scenario::ALL.into_iter().filter(|scenario| scenario.fits(&stream)).map(Scenario::name);
        let fit: Vec<_> = fit.collect();
        let fit = if fit.is_empty() { "nothing".to_owned() } else { fit.join(", ") };
        return Err(Refusal::invalid(format!("In {stream} {fit} can be provoked, not {}.", name.name())));
    }
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(Refusal::invalid(format!("`seconds` must be 1 to {MAX_SECONDS}, not {seconds}.")));
    }
    let detail = format!("{} in {stream} for {seconds} s", name.name());
    gateway.database.audit(&session.username, &address, "scenario", &detail).await;
    let settings = ScenarioSettings { name, seconds };
    let command = Command::Scenario { stream: stream.clone(), settings };
    to_generators(&gateway, &session, &stream, command).await
}

/// Whether a process generates the stream.
fn generates(body: &Frame, stream: &str) -> bool {
    matches!(body, Frame::Producers { streams } if streams.iter().any(|s| s.stream == stream))
}

/// Refuses a stream that nobody generates.
fn generated(gateway: &Gateway, stream: &str) -> Result<(), Refusal> {
    let state = locked(&gateway.state);
    let now = now_ms();
    if state.shown(now).any(|(_, c)| generates(&c.frame.body, stream)) {
        Ok(())
    } else {
        Err(unknown_stream(&state, now))
    }
}

/// Gives a command to those who generate a stream.
async fn to_generators(
    gateway: &Gateway,
    session: &Session,
    stream: &str,
    command: Command,
) -> Result<Response, Refusal> {
    let turn = gateway.commands.turn().await;
    let concerned: BTreeSet<String> = {
        let state = locked(&gateway.state);
        let living = state.living(now_ms()).filter(|(_, c)| generates(&c.frame.body, stream));
        living.map(|(name, _)| name.clone()).collect()
    };
    let written = gateway.commands.write(&session.username, command).await?;
    locked(&gateway.state).command(written.version, written.record.clone());
    drop(turn);
    answer(written.acknowledged(concerned, "the generators, none of which is running").await)
}

pub async fn params(
    State(gateway): State<Arc<Gateway>>,
    Extension(session): Extension<Session>,
    Extension(Address(address)): Extension<Address>,
    Path(id): Path<String>,
    Body(change): Body<ParamsChange>,
) -> Result<Response, Refusal> {
    let descriptor = {
        let state = locked(&gateway.state);
        state.job(&id).cloned().ok_or_else(|| unknown_job(&state))?
    };
    let (app, job) = (descriptor.app, descriptor.job);
    crate::params::check(&descriptor.schema, &change.params)
        .map_err(|why| Refusal::invalid(format!("{why}.")))?;
    if change.params.is_empty() {
        return Err(Refusal::invalid("`params` names nothing to change."));
    }
    let detail = format!("{id} {}", serde_json::Value::Object(change.params.clone()));
    gateway.database.audit(&session.username, &address, "params", &detail).await;
    let turn = gateway.commands.turn().await;
    let (mut complete, concerned) = {
        let state = locked(&gateway.state);
        let now = now_ms();
        let concerned = workers_of(&state, &app, now);
        let in_force = state.params(&app, &job, now);
        let key = Command::Params { app: app.clone(), job: job.clone(), params: Default::default() }.key();
        let newest = state.newest_command(&key).and_then(|(version, record)| match &record.command {
            Command::Params { params, .. } => Some((*version, params.clone())),
            _ => None,
        });
        // A command that is on its way counts already, so that two quick changes of different parameters both hold.
        let base = match (in_force, newest) {
            (Some((at, params)), Some((version, newer))) if version > at => merged(params, newer),
            (Some((_, params)), _) => params,
            (None, Some((_, params))) => params,
            (None, None) => Default::default(),
        };
        (base, concerned)
    };
    complete.extend(change.params);
    let command = Command::Params { app, job, params: complete };
    let written = gateway.commands.write(&session.username, command).await?;
    locked(&gateway.state).command(written.version, written.record.clone());
    drop(turn);
    answer(written.acknowledged(concerned, NO_WORKER).await)
}

pub async fn checkpoint(
    State(gateway): State<Arc<Gateway>>,
    Extension(session): Extension<Session>,
    Extension(Address(address)): Extension<Address>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let app = {
        let state = locked(&gateway.state);
        state.job(&id).ok_or_else(|| unknown_job(&state))?.app.clone()
    };
    gateway.database.audit(&session.username, &address, "checkpoint", &app).await;
    let concerned = workers_of(&locked(&gateway.state), &app, now_ms());
    let written = gateway.commands.write(&session.username, Command::Checkpoint { app }).await?;
    answer(written.acknowledged(concerned, NO_WORKER).await)
}

/// For whom a command waits that no worker takes.
const NO_WORKER: &str = "the workers, none of which is running";

/// The living workers that run an app.
fn workers_of(state: &Telemetry, app: &str, now_ms: i64) -> BTreeSet<String> {
    let runs = |body: &Frame| matches!(body, Frame::Processor(p) if p.apps.iter().any(|a| a.name == app));
    let workers = state.living(now_ms).filter(|(_, c)| runs(&c.frame.body));
    workers.map(|(name, _)| name.clone()).collect()
}

fn merged(
    mut below: serde_json::Map<String, serde_json::Value>,
    above: serde_json::Map<String, serde_json::Value>,
) -> serde_json::Map<String, serde_json::Value> {
    below.extend(above);
    below
}

fn answer(outcome: Outcome) -> Result<Response, Refusal> {
    match outcome {
        Outcome::Applied(answer) => Ok(Json(answer).into_response()),
        Outcome::Waiting(answer) => Ok((StatusCode::ACCEPTED, Json(answer)).into_response()),
        Outcome::Refused(why) => Err(Refusal::invalid(format!("The change was refused: {why}."))),
    }
}
