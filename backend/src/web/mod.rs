//! Everything that is not `/api/v1`: the page's files, security headers, `/health`, `/ready`, `/metrics`.

mod headers;
pub mod ops;
mod static_files;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use tower_http::compression::CompressionLayer;

use crate::api;
use crate::gateway::Gateway;

/// The whole server.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let page = page(&gateway.args.static_dir);
    ops::routes()
        .into_iter()
        .fold(api::router(&gateway), |router, (operation, handler)| router.route(operation.path, handler))
        .fallback_service(page)
        .layer(from_fn(headers::add))
        .with_state(gateway)
}

/// The page; what its build has not packed is packed on the way.
fn page(folder: &Path) -> Router {
    static_files::router(folder).layer(CompressionLayer::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, header};
    use tower::ServiceExt;

    /// Asks for a file: the encoding of the answer and its body.
    async fn get(folder: &Path, path: &str, accept: &str) -> (String, Vec<u8>) {
        let request = Request::builder().uri(path).header(header::ACCEPT_ENCODING, accept);
        let response = page(folder).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()[header::VARY], "accept-encoding", "{path} {accept}");
        let encoding = response.headers().get(header::CONTENT_ENCODING);
        let encoding = encoding.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
        (encoding, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn a_packed_file_is_served_as_the_build_has_packed_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["index.html", "app-0f3a9c2b11d4.js", "app_bg-0f3a9c2b11d4.wasm"] {
            for (suffix, content) in [("", "plain"), (".br", "packed by brotli"), (".gz", "packed by gzip")] {
                std::fs::write(folder.path().join(format!("{name}{suffix}")), content).unwrap();
            }
        }
        for path in ["/", "/jobs", "/app-0f3a9c2b11d4.js", "/app_bg-0f3a9c2b11d4.wasm"] {
            for (accept, encoding, content) in [
                ("gzip, deflate, br, zstd", "br", "packed by brotli"),
                ("gzip", "gzip", "packed by gzip"),
                ("identity", "", "plain"),
            ] {
                let got = get(folder.path(), path, accept).await;
                assert_eq!(got, (encoding.to_owned(), content.as_bytes().to_vec()), "{path} {accept}");
            }
        }
    }
}
