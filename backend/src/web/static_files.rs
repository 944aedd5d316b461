//! The built dashboard. A path without a file and without an extension is a page of the dashboard itself: it gets
//! `index.html`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use tower::ServiceExt;
use tower_http::services::{ServeDir, ServeFile};

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Millrace</title>\
    <h1>The dashboard is not built</h1><p>Run <code>scripts/build-dashboard</code>, or set \
    <code>MILLRACE_STATIC_DIR</code> to the folder of a built one. The interface under <code>/api/v1</code> works \
    without it.</p></html>";

/// Serves `folder`.
pub fn router(folder: &Path) -> Router {
    Router::new().fallback(serve).with_state(Arc::new(folder.to_owned()))
}

async fn serve(State(folder): State<Arc<PathBuf>>, request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = request.uri().path().to_owned();
    let index = folder.join("index.html");
    if !tokio::fs::try_exists(&index).await.unwrap_or(false) {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::CACHE_CONTROL, NO_CACHE)], Html(MISSING))
            .into_response();
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let answer = if name.contains('.') {
        // The folder's own check keeps `..` and links out of it from being followed by a path.
        ServeDir::new(&*folder)
            .append_index_html_on_directories(false)
            .precompressed_br()
            .precompressed_gzip()
            .oneshot(request)
            .await
            .map(IntoResponse::into_response)
    } else {
        ServeFile::new(&index)
            .precompressed_br()
            .precompressed_gzip()
            .oneshot(request)
            .await
            .map(IntoResponse::into_response)
    };
    let mut response = answer.unwrap_or_else(|never| match never {});
    let good = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let cache = if good && hashed(name) { IMMUTABLE } else { NO_CACHE };
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response
}

/// Whether a name carries a hash of the content: `app-0f3a9c2b11d4e5f6.js`, `app-0f3a9c2b11d4e5f6_bg.wasm`.
fn hashed(name: &str) -> bool {
    let Some((stem, _)) = name.split_once('.') else { return false };
    stem.rsplit_once('-').is_some_and(|(_, tail)| {
        let hash = tail.strip_suffix("_bg").unwrap_or(tail);
        hash.len() >= 8 && hash.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    async fn get(router: &Router, path: &str) -> (StatusCode, String, String) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let header =
            |name| response.headers().get(name).map_or(String::new(), |v| v.to_str().unwrap().to_owned());
        (response.status(), header(header::CONTENT_TYPE), header(header::CACHE_CONTROL))
    }

    #[tokio::test]
    async fn files_pages_and_caches() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("dist");
        std::fs::write(parent.path().join("secret.txt"), "x").unwrap();
        let router = router(&folder);
        assert_eq!(get(&router, "/").await.0, StatusCode::SERVICE_UNAVAILABLE);
        std::fs::create_dir(&folder).unwrap();
        for name in ["index.html", "app-0f3a9c2b11d4e5f6_bg.wasm", "app-0f3a9c2b.js", "favicon.svg"] {
            std::fs::write(folder.join(name), "content").unwrap();
        }
        let immutable = "public, max-age=31536000, immutable".to_owned();
        let wasm = get(&router, "/app-0f3a9c2b11d4e5f6_bg.wasm").await;
        assert_eq!(wasm, (StatusCode::OK, "application/wasm".into(), immutable.clone()));
        assert_eq!(get(&router, "/app-0f3a9c2b.js").await.2, immutable);
        assert_eq!(get(&router, "/favicon.svg").await.2, "no-cache");
        for page in ["/", "/streams", "/jobs/sensors"] {
            assert_eq!(
                get(&router, page).await,
                (StatusCode::OK, "text/html".into(), "no-cache".into()),
                "{page}"
            );
        }
        for missing in
            ["/none.js", "/app-00000000.js", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt"]
        {
            let (status, _, cache) = get(&router, missing).await;
            assert!(status == StatusCode::NOT_FOUND && cache == "no-cache", "{missing} {status}");
        }
    }
}
