//! The upgrade to the live feed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use millrace_wire::live::{JSON, POSTCARD};

use super::gate::Token;
use crate::gateway::Gateway;
use crate::live::hub::Encoding;
use crate::live::socket;
use crate::problem::Refusal;

/// The most that a client has to say in one message.
const MESSAGE: usize = 4 * 1024;
const CLIENTS: usize = 5_000;

pub async fn upgrade(
    State(gateway): State<Arc<Gateway>>,
    Extension(Token(token)): Extension<Token>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade =
        upgrade.map_err(|error| Refusal::bad_request(format!("This path is a WebSocket: {error}")))?;
    if gateway.hub.clients() >= CLIENTS {
        return Err(Refusal::away(
            "full",
            "Too many live clients",
            "Close a page, or try again in a moment.",
        ));
    }
    let upgrade = upgrade.protocols([POSTCARD, JSON]).max_message_size(MESSAGE).max_frame_size(MESSAGE);
    let encoding = match upgrade.selected_protocol().and_then(|p| p.to_str().ok()) {
        Some(POSTCARD) => Encoding::Postcard,
        Some(JSON) => Encoding::Json,
        _ => return Err(Refusal::bad_request(format!("Ask for the subprotocol {POSTCARD} or {JSON}."))),
    };
    Ok(upgrade.on_upgrade(move |socket| socket::run(socket, gateway, encoding, token)))
}
