//! The interface as a client sees it: the real router and a real database; no Kafka, no Elasticsearch.

mod document;
mod roles;

use std::time::Instant;

use axum::body::Body as HttpBody;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use clap::Parser;
use millrace_service::Shutdown;
use millrace_service::clock::now_ms;
use millrace_wire::api::{Problem, Session};
use millrace_wire::telemetry::{
    App, Body as FrameBody, FORMAT, Frame, Generator, Job, JobDescriptor, ProcessUsage, Processor,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::auth::password;
use crate::clock::locked;
use crate::config::Cli;

const OURS: &str = "http://127.0.0.1:8080";

struct Server {
    gateway: Arc<Gateway>,
    router: Router,
    _folder: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn problem(&self) -> Problem {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert!(
            problem.r#type.starts_with("/problems/")
                && !problem.title.is_empty()
                && !problem.detail.is_empty()
        );
        problem
    }
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/gateway.db?mode=rwc", folder.path().display());
        // Port 1: nobody answers there.
        let args = [
            "millrace-gateway",
            "--kafka",
            "127.0.0.1:1",
            "--elasticsearch",
            "http://127.0.0.1:1",
            "--static-dir",
            "/nowhere",
        ];
        let cli = Cli::try_parse_from(args).unwrap();
        let database = crate::auth::Database::open(&url).await.unwrap();
        for (name, role) in [("vera", Role::Viewer), ("olaf", Role::Operator), ("ada", Role::Admin)] {
            let hash = password::hash(&format!("{name}-password")).unwrap();
            assert!(database.add_user(name, role, &hash).await.unwrap());
        }
        let gateway = Gateway::new(cli.gateway, 8080, database, Shutdown::default()).unwrap();
        Self { router: crate::web::router(gateway.clone()), gateway, _folder: folder }
    }

    async fn send(&self, request: Request<HttpBody>) -> Answer {
        let response: Response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn call(&self, method: &Method, path: &str, cookie: Option<&str>, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("{PREFIX}{path}"));
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                HttpBody::from(body.to_string())
            }
            None => HttpBody::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    async fn try_sign_in(&self, name: &str, password: &str) -> Answer {
        let body = json!({"username": name, "password": password});
        self.call(&Method::POST, "/session", None, Some(body)).await
    }

    async fn sign_in(&self, name: &str) -> String {
        let answer = self.try_sign_in(name, &format!("{name}-password")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }

    /// A generator and a worker report.
    fn report(&self) {
        let schema = json!({"type": "object", "properties": {"threshold": {"type": "number", "minimum": 0, "maximum": 100}}});
        let catalogue = vec![JobDescriptor {
            app: "sensors".into(),
            job: "mold-filter".into(),
            schema,
            ..Default::default()
        }];
        let params = json!({"threshold": 60}).as_object().unwrap().clone();
        let job = Job { name: "mold-filter".into(), params, params_version: -1, ..Default::default() };
        let app = App { name: "sensors".into(), jobs: vec![job], ..Default::default() };
        let stream = Generator { stream: "iot-sensors".into(), target_rate: 100.0, ..Default::default() };
        for (component, body) in [
            ("producers", FrameBody::Producers { streams: vec![stream] }),
            (
                "processor-1",
                FrameBody::Processor(Processor { apps: vec![app], catalogue, ..Default::default() }),
            ),
        ] {
            let (process, at_ms) = (ProcessUsage::default(), now_ms());
            let frame = Frame {
                v: FORMAT,
                component: component.into(),
                at_ms,
                started_ms: 1,
                process,
                acks: vec![],
                body,
            };
            locked(&self.gateway.state).apply(frame);
        }
    }
}

/// Every operation with its path filled in.
fn every() -> impl Iterator<Item = (Method, String, Operation)> {
    operations().into_iter().map(|o| {
        let path = o.path.replace("{j}", "sensors.mold-filter").replace("{p}", "iot-sensors");
        let path = path.replace("{index}", "sensor-averages").replace(['{', '}'], "");
        (o.method.clone(), path, o)
    })
}

#[tokio::test]
async fn nobody_sees_anything_without_a_session() {
    let server = Server::start().await;
    let forged = format!("{}={}", crate::auth::COOKIE, "0".repeat(64));
    for cookie in [None, Some(forged.as_str())] {
        for (method, path, _) in every().filter(|(_, path, _)| path != "/session") {
            let answer = server.call(&method, &path, cookie, Some(json!({}))).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            answer.problem();
        }
        for path in
            ["", "/", "/nothing", "/nothing/at/all", "/overview/", "/session/x", "/../v1/x", "/openapi.json"]
        {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
                let answer = server.call(&method, path, cookie, None).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            }
        }
        assert_eq!(
            server.call(&Method::GET, "/session", cookie, None).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(
        every().filter(|(_, _, o)| o.role.is_none()).count(),
        3,
        "only the three of /session are open"
    );
}

#[tokio::test]
async fn a_foreign_origin_is_refused() {
    let server = Server::start().await;
    let cookie = server.sign_in("ada").await;
    for (origin, fits) in [
        (Some(OURS), true),
        (None, true),
        (Some("http://evil.example"), false),
        (Some("null"), false),
        (Some("http://127.0.0.1:80800"), false),
        (Some("http://127.0.0.1:8080.evil.example"), false),
    ] {
        for (method, path) in
            [(Method::GET, "/live"), (Method::DELETE, "/session"), (Method::PUT, "/producers/x/rate")]
        {
            let mut request = Request::builder().method(&method).uri(format!("{PREFIX}{path}"));
            request = request.header(header::COOKIE, if path == "/session" { "" } else { &cookie });
            request = request.header(header::CONTENT_TYPE, "application/json");
            if let Some(origin) = origin {
                request = request.header(header::ORIGIN, origin);
            }
            if path == "/live" {
                request = request.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "websocket");
            }
            let answer = server.send(request.body(HttpBody::from("{\"rate\":1}")).unwrap()).await;
            assert_eq!(
                answer.status != StatusCode::FORBIDDEN,
                fits,
                "{origin:?} {method} {path} {}",
                answer.status
            );
        }
    }
}

#[tokio::test]
async fn sessions_begin_and_end() {
    let server = Server::start().await;
    let cookie = server.sign_in("olaf").await;
    let answer = server.call(&Method::GET, "/session", Some(&cookie), None).await;
    let session: Session = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((session.username.as_str(), session.role), ("olaf", Role::Operator));
    assert!(session.expires_at_ms > now_ms() + 11 * 3_600_000);
    assert_eq!(server.call(&Method::GET, "/overview", Some(&cookie), None).await.status, StatusCode::OK);
    let ended = server.call(&Method::DELETE, "/session", Some(&cookie), None).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    assert!(ended.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(
        server.call(&Method::GET, "/overview", Some(&cookie), None).await.status,
        StatusCode::UNAUTHORIZED
    );
    let cookie = server.sign_in("olaf").await;
    server.gateway.database.remove_user("olaf").await.unwrap();
    assert_eq!(
        server.call(&Method::GET, "/overview", Some(&cookie), None).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let server = Server::start().await;
    for name in ["ada", "nobody"] {
        for _ in 0..5 {
            let answer = server.try_sign_in(name, "guess").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert_eq!(answer.problem().r#type, "/problems/wrong-credentials");
        }
        let started = Instant::now();
        let answer = server.try_sign_in(name, "ada-password").await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.headers[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() <= 60);
        assert!(started.elapsed().as_millis() < 500);
        answer.problem();
    }
    server.sign_in("vera").await;
}

#[tokio::test]
async fn errors_are_problems() {
    let server = Server::start().await;
    server.report();
    let cookie = server.sign_in("olaf").await;
    let put = |path: &'static str, body: Value| server.call(&Method::PUT, path, Some(&cookie), Some(body));
    let post = |path: &'static str, body: Value| server.call(&Method::POST, path, Some(&cookie), Some(body));
    let rate = "/producers/iot-sensors/rate";
    let scenario = "/producers/iot-sensors/scenario";
    let params = "/jobs/sensors.mold-filter/params";
    for (answer, status, says) in [
        (put(rate, json!({"rate": -1})).await, 422, "0 to 50000"),
        (put(rate, json!({"rate": 50_001})).await, 422, "not 50001"),
        (put(rate, json!({"rate": "x"})).await, 422, "rate"),
        (put(rate, json!({"rate": 1, "more": 2})).await, 422, "more"),
        (put("/producers/none/rate", json!({"rate": 1})).await, 404, "iot-sensors"),
        (post("/producers/none/scenario", json!({"name": "burst"})).await, 404, "iot-sensors"),
        (post(scenario, json!({"name": "vip-spree"})).await, 422, "burst, late-storm"),
        (post(scenario, json!({"name": "flood"})).await, 422, "flood"),
        (post(scenario, json!({"name": "mold", "seconds": 0})).await, 422, "1 to 3600, not 0"),
        (
            put(params, json!({"params": {"threshold": 101}})).await,
            422,
            "`threshold` must be at most 100, not 101",
        ),
        (put(params, json!({"params": {"script": 1}})).await, 422, "`script` is not a parameter"),
        (put(params, json!({"params": {}})).await, 422, "nothing to change"),
        (put("/jobs/sensors.none/params", json!({"params": {}})).await, 404, "sensors.mold-filter"),
        (put("/overview", json!({})).await, 405, "openapi.json"),
        (put("/nothing", json!({})).await, 404, "openapi.json"),
        (put(rate, json!({"rate": "x".repeat(70_000)})).await, 413, "64 KB"),
        (server.call(&Method::PUT, rate, Some(&cookie), None).await, 415, "application/json"),
        (server.call(&Method::GET, "/results/none", Some(&cookie), None).await, 404, "sensor-averages"),
        (
            server.call(&Method::GET, "/results/sensor-averages?size=x", Some(&cookie), None).await,
            422,
            "size",
        ),
        (server.call(&Method::GET, "/results/sensor-averages?q=1", Some(&cookie), None).await, 422, "q"),
        (
            server.call(&Method::GET, "/results/sensor-averages", Some(&cookie), None).await,
            503,
            "live data go on",
        ),
        (server.call(&Method::GET, "/topics/none", Some(&cookie), None).await, 404, "topics"),
        (server.call(&Method::GET, "/live", Some(&cookie), None).await, 400, "WebSocket"),
    ] {
        assert_eq!(answer.status.as_u16(), status, "{says}");
        let detail = answer.problem().detail;
        assert!(detail.contains(says), "{detail:?} does not say {says:?}");
    }
    let mut request =
        Request::builder().method(Method::PUT).uri(format!("{PREFIX}{rate}")).header(header::COOKIE, &cookie);
    request = request.header(header::CONTENT_TYPE, "application/json");
    let answer = server.send(request.body(HttpBody::from("{\"rate\":")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    answer.problem();
}

#[tokio::test]
async fn a_command_without_kafka_is_a_problem_within_its_deadline() {
    let server = Server::start().await;
    server.report();
    let cookie = server.sign_in("olaf").await;
    let started = Instant::now();
    let answer = server
        .call(&Method::PUT, "/producers/iot-sensors/rate", Some(&cookie), Some(json!({"rate": 5})))
        .await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.problem().r#type, "/problems/kafka-away");
    assert!(started.elapsed().as_secs_f64() < 4.0, "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_is_known_is_shown_without_kafka() {
    let server = Server::start().await;
    server.report();
    let cookie = server.sign_in("vera").await;
    let get = |path: &'static str| server.call(&Method::GET, path, Some(&cookie), None);
    assert_eq!(get("/jobs").await.json()["items"][0]["id"], "sensors.mold-filter");
    assert_eq!(get("/jobs/sensors.mold-filter/params").await.json()["params"]["threshold"], 60);
    assert_eq!(get("/producers").await.json()["items"][0]["target_rate"], 100.0);
    assert_eq!(get("/topics").await.json()["problem"], "Kafka has not answered yet");
    let ready = server.send(Request::builder().uri("/ready").body(HttpBody::empty()).unwrap()).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        ready.json()["dependencies"][2],
        json!({"name": "database", "ok": true, "detail": "it answers"})
    );
    let metrics = server.send(Request::builder().uri("/metrics").body(HttpBody::empty()).unwrap()).await;
    assert!(String::from_utf8(metrics.body).unwrap().contains("millrace_gateway_up{dependency=\"kafka\"} 0"));
}
