//! What the interface says of itself.

use super::*;
use crate::web::ops;

/// What every gateway of this version has.
const ROUTES: [(&str, &str); 24] = [
    ("post", "/api/v1/session"),
    ("get", "/api/v1/session"),
    ("delete", "/api/v1/session"),
    ("get", "/api/v1/overview"),
    ("get", "/api/v1/topics"),
    ("get", "/api/v1/topics/{t}"),
    ("get", "/api/v1/groups"),
    ("get", "/api/v1/groups/{g}"),
    ("get", "/api/v1/jobs"),
    ("get", "/api/v1/jobs/{j}"),
    ("get", "/api/v1/jobs/{j}/params"),
    ("put", "/api/v1/jobs/{j}/params"),
    ("get", "/api/v1/jobs/{j}/checkpoints"),
    ("post", "/api/v1/jobs/{j}/checkpoints"),
    ("get", "/api/v1/producers"),
    ("put", "/api/v1/producers/{p}/rate"),
    ("post", "/api/v1/producers/{p}/scenario"),
    ("get", "/api/v1/ledger"),
    ("get", "/api/v1/results/{index}"),
    ("get", "/api/v1/live"),
    ("get", "/api/v1/openapi.json"),
    ("get", "/health"),
    ("get", "/ready"),
    ("get", "/metrics"),
];

#[test]
fn the_document_lists_what_every_gateway_has() {
    let document = openapi::document();
    for (method, path) in ROUTES {
        assert!(document["paths"][path][method]["responses"].is_object(), "{method} {path}");
    }
}

#[tokio::test]
async fn what_the_root_answers_is_what_the_document_says() {
    let server = Server::start().await;
    let document = openapi::document();
    for path in ["/health", "/ready", "/metrics"] {
        let answer = server.send(Request::builder().uri(path).body(HttpBody::empty()).unwrap()).await;
        let described = &document["paths"][path]["get"];
        assert_eq!(described["security"], json!([]), "{path} needs no session");
        let media = described["responses"]["200"]["content"].as_object().unwrap().keys().next().unwrap();
        let got = answer.headers[header::CONTENT_TYPE].to_str().unwrap();
        assert!(got.starts_with(media), "{path}: {got}, but {media} is described");
        assert!(described["responses"][answer.status.as_str()].is_object(), "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn the_document_describes_every_route_and_the_headers_are_strict() {
    let server = Server::start().await;
    let cookie = server.sign_in("vera").await;
    let answer = server.call(&Method::GET, "/openapi.json", Some(&cookie), None).await;
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = 0;
    let ours = operations().into_iter().map(|operation| (format!("{PREFIX}{}", operation.path), operation));
    let root = ops::routes().into_iter().map(|(operation, _)| (operation.path.to_owned(), operation));
    for (path, operation) in ours.chain(root) {
        let entry = &document["paths"][&path][operation.method.as_str().to_lowercase()];
        assert!(entry["summary"].is_string(), "{} {path}", operation.method);
        described += 1;
    }
    let in_document: usize =
        document["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
    assert_eq!(described, in_document);
    // Every reference leads somewhere.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    let page = server.send(Request::builder().uri("/").body(HttpBody::empty()).unwrap()).await;
    assert!(String::from_utf8(page.body).unwrap().contains("scripts/build-dashboard"));
    for headers in [&answer.headers, &page.headers] {
        assert_eq!(
            headers[header::CONTENT_SECURITY_POLICY],
            "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; style-src-attr 'unsafe-inline'; \
             frame-ancestors 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'"
        );
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
    }
}
