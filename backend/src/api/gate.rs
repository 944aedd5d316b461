//! The one gate: origin, session, role. Every request under `/api/v1` passes it, whether its path exists or not.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{PREFIX, Roles};
use crate::auth::database::role_name;
use crate::auth::sessions;
use crate::gateway::Gateway;
use crate::problem::Refusal;
use millrace_wire::api::Role;

/// Where a request comes from, for the limiter and the audit log.
#[derive(Debug, Clone)]
pub struct Address(pub String);

/// The token of the session that the gate let in.
#[derive(Clone)]
pub struct Token(pub String);

pub async fn check(
    State((gateway, roles)): State<(Arc<Gateway>, Arc<Roles>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match admit(&gateway, &roles, &mut request).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn admit(gateway: &Gateway, roles: &Roles, request: &mut Request) -> Result<(), Refusal> {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_string());
    let address = Address(address.unwrap_or_else(|| "unknown".to_owned()));
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map_or_else(String::new, |p| p.as_str().to_owned());
    let changes = !matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
    let upgrades = request.headers().contains_key(header::UPGRADE) || path == format!("{PREFIX}/live");
    if (changes || upgrades) && !origin_allowed(request.headers(), &gateway.origins) {
        let shown =
            request.headers().get(header::ORIGIN).and_then(|o| o.to_str().ok()).unwrap_or("?").to_owned();
        gateway
            .database
            .audit("anonymous", &address.0, "origin-refused", &format!("{method} {path} from {shown}"))
            .await;
        return Err(Refusal::forbidden(
            "This origin is not on the allow-list: open the page under its own address, or add the origin to \
             MILLRACE_ALLOWED_ORIGINS.",
        ));
    }
    let least = if path == format!("{PREFIX}/session") {
        roles.get(&(path.clone(), method.clone())).copied().unwrap_or(None)
    } else {
        // What the table does not know (an unknown path or method) is only for those who are signed in.
        Some(roles.get(&(path.clone(), method.clone())).copied().flatten().unwrap_or(Role::Viewer))
    };
    if let Some(least) = least {
        let token = sessions::token(request.headers()).ok_or_else(Refusal::signed_out)?.to_owned();
        let session = gateway.database.session(&token).await?.ok_or_else(Refusal::signed_out)?;
        if session.role < least {
            let what = format!("{method} {}", request.uri().path());
            gateway.database.audit(&session.username, &address.0, "role-refused", &what).await;
            let (has, needs) = (role_name(session.role), role_name(least));
            return Err(Refusal::forbidden(format!(
                "You are signed in as {has}; this needs the role {needs}."
            )));
        }
        request.extensions_mut().insert(session);
        request.extensions_mut().insert(Token(token));
    }
    request.extensions_mut().insert(address);
    Ok(())
}

/// A browser says where a page comes from; it must be one of ours. Other programs say nothing, and have no cookie that
/// they were not given.
fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => origin.to_str().is_ok_and(|o| allowed.iter().any(|a| a == o)),
        (Some(_), Some(_)) => false,
    }
}
