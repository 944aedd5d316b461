//! Signing in and out.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use millrace_wire::api::{Credentials, Session};

use super::Body;
use super::gate::Address;
use crate::auth::sessions;
use crate::gateway::Gateway;
use crate::problem::Refusal;

pub async fn sign_in(
    State(gateway): State<Arc<Gateway>>,
    Extension(Address(address)): Extension<Address>,
    Body(given): Body<Credentials>,
) -> Result<Response, Refusal> {
    let name = given.username;
    if let Err(wait) = gateway.limiter.attempt(&name, &address, Instant::now()) {
        gateway.database.audit(&name, &address, "sign-in-limited", "").await;
        return Err(Refusal::too_many(wait));
    }
    let known = gateway.database.credentials(&name).await?;
    let (hash, role) = known.map_or((None, None), |(hash, role)| (Some(hash), Some(role)));
    let good = gateway.passwords.verify(given.password, hash).await;
    let Some(role) = role.filter(|_| good) else {
        gateway.database.audit(&name, &address, "sign-in-refused", "").await;
        return Err(Refusal::wrong_credentials());
    };
    gateway.limiter.forgive(&name, &address);
    let (token, expires_at_ms) = gateway.database.start_session(&name).await?;
    gateway.database.audit(&name, &address, "sign-in", "").await;
    let cookie = sessions::cookie(Some(&token), gateway.secure());
    Ok(([(header::SET_COOKIE, cookie)], Json(Session { username: name, role, expires_at_ms }))
        .into_response())
}

pub async fn who(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Result<Json<Session>, Refusal> {
    let token = sessions::token(&headers).ok_or_else(Refusal::signed_out)?;
    gateway.database.session(token).await?.map(Json).ok_or_else(Refusal::signed_out)
}

pub async fn sign_out(
    State(gateway): State<Arc<Gateway>>,
    Extension(Address(address)): Extension<Address>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    if let Some(token) = sessions::token(&headers)
        && let Some(session) = gateway.database.session(token).await?
    {
        gateway.database.end_session(token).await?;
        gateway.announce_sign_out(token);
        gateway.database.audit(&session.username, &address, "sign-out", "").await;
    }
    let cookie = sessions::cookie(None, gateway.secure());
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}
