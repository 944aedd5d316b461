//! The gateway: REST, WebSocket, sessions and the page.
//!
//! | module | concern |
//! |---|---|
//! | `telemetry` | frames of `millrace.telemetry` reduced to gauges, rates and history (pure), and the thread that reads them |
//! | `kafka` | topics, brokers, groups and lag, sampled in the background (never on request); the newest results |
//! | `control` | commands: checked, written to `millrace.control`, their acknowledgements awaited |
//! | `search` | queries of the result indices in Elasticsearch |
//! | `live` | one tick for everyone, and a socket per client |
//! | `auth` | users, sessions, roles, the login limit, the audit log |
//! | `api` | the routes under `/api/v1`, and the one gate in front of them |
//! | `web` | the page's files, security headers, `/health`, `/ready`, `/metrics` |
//!
//! Invariant: no request waits for Kafka, except a command; and nothing that a client sends becomes a query string, a
//! script or a path.

mod api;
mod auth;
mod clock;
mod config;
mod control;
mod gateway;
mod kafka;
mod ledger;
mod live;
mod params;
mod problem;
mod problems;
mod search;
mod telemetry;
mod user_cli;
mod web;

pub use config::Cli;

use config::Command;

/// Runs what the command line asks for.
///
/// # Errors
/// The database or the listen address can't be used, or a user command is refused.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        None | Some(Command::Serve) => gateway::serve(cli.gateway, &cli.database_url).await,
        Some(Command::User { action }) => user_cli::run(action, &cli.database_url).await,
    }
}
