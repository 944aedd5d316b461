//! `/health` and `/metrics` of a process that has no other interface.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::metrics::Exposition;
use crate::{Shutdown, process_metrics};

/// What a process says about itself.
pub trait Observable: Send + Sync + 'static {
    /// `Err` says what is not well.
    fn health(&self) -> Result<(), String>;
    /// Adds its metrics; what every process has is added to them.
    fn metrics(&self, out: &mut Exposition);
}

/// Serves until `shutdown`; does nothing without an address.
///
/// # Errors
/// The address can't be listened on.
pub async fn serve(
    addr: Option<SocketAddr>,
    process: Arc<dyn Observable>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let Some(addr) = addr else { return Ok(()) };
    let listener = tokio::net::TcpListener::bind(addr).await.with_context(|| {
        format!("can't listen on {addr} for /health and /metrics: set MILLRACE_HTTP_ADDR to a free port")
    })?;
    let (healthy, measured) = (process.clone(), process);
    let router = Router::new()
        .route(
            "/health",
            get(async move || match healthy.health() {
                Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
                Err(text) => (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")),
            }),
        )
        .route(
            "/metrics",
            get(async move || {
                let mut text = Exposition::default();
                measured.metrics(&mut text);
                process_metrics(&mut text);
                ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text.render()).into_response()
            }),
        );
    tokio::spawn(async move {
        let served =
            axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.wait().await }).await;
        if let Err(error) = served {
            tracing::error!(%error, "the metrics server stopped");
        }
    });
    Ok(())
}
