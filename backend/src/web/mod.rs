//! Everything that is not `/api/v1`: the page's files, security headers, `/health`, `/ready`, `/metrics`.

mod headers;
pub mod ops;
mod static_files;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;
use tower_http::compression::CompressionLayer;

use crate::api;
use crate::gateway::Gateway;

/// The whole server.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let page = static_files::router(&gateway.args.static_dir).layer(CompressionLayer::new());
    api::router(&gateway)
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ops::ready))
        .route("/metrics", get(ops::metrics))
        .fallback_service(page)
        .layer(from_fn(headers::add))
        .with_state(gateway)
}
