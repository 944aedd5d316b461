//! Changes: checked, audited, given to Kafka, and answered with what became of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use millrace_service::clock::now_ms;
use millrace_wire::api::{ParamsChange, RateChange, Session};
use millrace_wire::control::{Command, MAX_RATE, RateSettings};
use millrace_wire::telemetry::Body as Frame;

use super::Body;
use super::gate::Address;
use super::views::{unknown_job, unknown_stream};
use crate::clock::locked;
use crate::control::Outcome;
use crate::gateway::Gateway;
use crate::problem::Refusal;

pub async fn rate(
    State(gateway): State<Arc<Gateway>>,
    Extension(session): Extension<Session>,
    Extension(Address(address)): Extension<Address>,
    Path(stream): Path<String>,
    Body(RateChange { rate }): Body<RateChange>,
) -> Result<Response, Refusal> {
    {
        let state = locked(&gateway.state);
        let now = now_ms();
        let makes = |body: &Frame| matches!(body, Frame::Producers { streams } if streams.iter().any(|s| s.stream == stream));
        if !state.shown(now).any(|(_, c)| makes(&c.frame.body)) {
            return Err(unknown_stream(&state, now));
        }
    }
    if !rate.is_finite() || !(0.0..=MAX_RATE).contains(&rate) {
        return Err(Refusal::invalid(format!(
            "`rate` must be 0 to {MAX_RATE} events per second, not {rate}."
        )));
    }
    let detail = format!("{stream} to {rate} events/s");
    gateway.database.audit(&session.username, &address, "rate", &detail).await;
    let turn = gateway.commands.turn().await;
    let concerned: BTreeSet<String> = {
        let state = locked(&gateway.state);
        let makes = |body: &Frame| matches!(body, Frame::Producers { streams } if streams.iter().any(|s| s.stream == stream));
        state.living(now_ms()).filter(|(_, c)| makes(&c.frame.body)).map(|(name, _)| name.clone()).collect()
    };
    let command = Command::Rate { stream, settings: RateSettings { rate } };
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
        let runs = |body: &Frame| matches!(body, Frame::Processor(p) if p.apps.iter().any(|a| a.name == app));
        let concerned: BTreeSet<String> =
            state.living(now).filter(|(_, c)| runs(&c.frame.body)).map(|(name, _)| name.clone()).collect();
        let in_force = state.params(&app, &job, now);
        let key = Command::Params { app: app.clone(), job: job.clone(), params: Default::default() }.key();
        let newest = state.newest_command(&key).and_then(|(version, record)| match &record.command {
            Command::Params { params, .. } => Some((*version, params.clone())),
            Command::Rate { .. } => None,
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
    answer(written.acknowledged(concerned, "the workers, none of which is running").await)
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
