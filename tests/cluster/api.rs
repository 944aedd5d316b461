use millrace_tests::{Api, Cluster, eventually, now_ms};
use millrace_wire::api::{ParamsView, Problem, Role, Session};
use serde_json::{Value, json};
use std::time::Duration;

/// A path of the interface with its parameters filled in.
fn filled(template: &str) -> String {
    let fill = |segment: &str| match (segment.starts_with('{'), template.split('/').nth(3)) {
        (true, Some("jobs")) => "sensors.humidity-average".to_owned(),
        (true, Some("producers" | "topics")) => "iot-sensors".to_owned(),
        (true, Some("groups")) => "millrace.sensors".to_owned(),
        (true, Some("results")) => "sensor-averages".to_owned(),
        (true, _) => "x".to_owned(),
        (false, _) => segment.to_owned(),
    };
    template.split('/').map(fill).collect::<Vec<_>>().join("/")
}

/// Methods and whole paths that the description lists.
fn described(api: &Api) -> Vec<(String, String)> {
    let description: Value = api.get("/openapi.json").expect(200).json();
    assert!(
        description["openapi"].as_str().is_some_and(|v| v.starts_with("3.")),
        "{}",
        description["openapi"]
    );
    let paths = description["paths"].as_object().expect("paths");
    let methods = |(path, item): (&String, &Value)| -> Vec<(String, String)> {
        let method = |m: &String| (m.clone(), path.clone());
        item.as_object()
            .unwrap()
            .keys()
            .filter(|m| ["get", "put", "post", "delete"].contains(&m.as_str()))
            .map(method)
            .collect()
    };
    paths.iter().flat_map(methods).collect()
}

#[test]
fn everything_that_is_described_and_reads_answers() {
    let cluster = Cluster::exclusive();
    let listed = described(&cluster.api);
    for (method, path) in [("get", "/ready"), ("get", "/metrics"), ("post", "/api/v1/jobs/{j}/checkpoints")] {
        assert!(listed.contains(&(method.to_owned(), path.to_owned())), "{method} {path}: {listed:?}");
    }
    for (_, path) in listed.iter().filter(|(method, _)| method == "get") {
        let answer = cluster.api.send_to("GET", &filled(path), None);
        // A request for the live feed that is no WebSocket's is a bad one.
        let wanted = if path == "/api/v1/live" { 400 } else { 200 };
        assert_eq!(answer.status, wanted, "GET {path}: {answer:?}");
    }
}

#[test]
fn an_anonymous_request_gets_401() {
    let cluster = Cluster::exclusive();
    let nobody = Api::anonymous(&cluster.api.url);
    let mut listed = described(&cluster.api);
    listed.push(("get".to_owned(), "/api/v1/no-such-thing".to_owned()));
    let (ours, root): (Vec<_>, Vec<_>) =
        listed.into_iter().partition(|(_, path)| path.starts_with("/api/v1/"));
    for (method, path) in ours.into_iter().filter(|(_, path)| path != "/api/v1/session") {
        let body = (method != "get" && method != "delete").then(|| json!({}));
        let answer = nobody.send_to(&method.to_uppercase(), &filled(&path), body.as_ref());
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
        assert_eq!(answer.json::<Problem>().status, 401);
    }
    nobody.get("/session").expect(401);
    for (_, path) in root {
        assert_eq!(nobody.send_to("GET", &path, None).status, 200, "{path}");
    }
}

#[test]
fn the_page_travels_packed() {
    let cluster = Cluster::exclusive();
    let index = Api::anonymous(&cluster.api.url).send_to("GET", "/", None).text;
    let links = index.split('"').filter(|text| text.contains('.') && !text.contains([' ', '<', '/']));
    let mut files: Vec<&str> = links.collect();
    for kind in [".wasm", ".js", ".css", ".svg"] {
        assert!(files.iter().any(|file| file.ends_with(kind)), "{files:?}");
    }
    files.push("");
    let size = |file: &str| -> u64 {
        let url = format!("{}/{file}", cluster.api.url);
        let answer = ureq::get(&url).header("accept-encoding", "br").call().unwrap();
        assert_eq!(answer.headers()["content-encoding"], "br", "{file}");
        answer.headers()["content-length"].to_str().unwrap().parse().unwrap()
    };
    let sum: u64 = files.iter().map(|file| size(file)).sum();
    println!("the page: {sum} bytes in {} files", files.len());
    assert!(sum < 350 * 1024, "{sum} bytes");
}

#[test]
fn a_wrong_password_gets_a_problem_and_no_cookie() {
    let cluster = Cluster::exclusive();
    let wrong = json!({"username": "admin", "password": "not the password"});
    let answer = Api::anonymous(&cluster.api.url).send("POST", "/session", Some(&wrong)).expect(401);
    assert!(answer.headers.get("set-cookie").is_none());
    let problem: Problem = answer.json();
    assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}

#[test]
fn a_viewer_looks_and_changes_nothing() {
    let cluster = Cluster::exclusive();
    let (name, password) = (format!("viewer-{}", now_ms()), "a long enough passphrase");
    cluster.millrace(&["user", "add", &name, "--role", "viewer"], &[("MILLRACE_USER_PASSWORD", password)]);
    let viewer = Api::sign_in(&cluster.api.url, &name, password);
    assert_eq!(viewer.get("/session").expect(200).json::<Session>().role, Role::Viewer);
    for path in
        ["/overview", "/topics", "/groups", "/jobs", "/producers", "/jobs/sensors.humidity-average/params"]
    {
        viewer.get(path).expect(200);
    }
    viewer.put("/producers/iot-sensors/rate", &json!({"rate": 1.0})).expect(403);
    viewer.put("/jobs/sensors.humidity-average/params", &json!({"params": {"window_size_s": 7}})).expect(403);
    let params: ParamsView = cluster.api.get("/jobs/sensors.humidity-average/params").expect(200).json();
    assert_eq!(params.params["window_size_s"], 300, "nothing has changed");
    cluster.millrace(&["user", "remove", &name], &[]);
    viewer.get("/overview").expect(401);
}

#[test]
fn a_change_that_makes_no_sense_is_refused_by_name() {
    let cluster = Cluster::exclusive();
    let refused = |params: Value, field: &str| {
        let answer =
            cluster.api.put("/jobs/sensors.humidity-average/params", &json!({"params": params})).expect(422);
        let problem: Problem = answer.json();
        assert!(problem.detail.contains(field), "{problem:?} does not name {field}");
    };
    refused(json!({"window_size_s": 0}), "window_size_s");
    refused(json!({"window_size_s": 86_401}), "window_size_s");
    refused(json!({"window_size_s": "five minutes"}), "window_size_s");
    refused(json!({"window_size_s": 1.5}), "window_size_s");
    refused(json!({"allowed_lateness_s": -1}), "allowed_lateness_s");
    refused(json!({"window_size": 10}), "window_size");
    for rate in [json!(-1), json!(50_001), json!("fast")] {
        let status = cluster.api.put("/producers/iot-sensors/rate", &json!({"rate": rate})).status;
        assert!([400, 422].contains(&status), "rate {rate}: {status}");
    }
    cluster.api.put("/producers/no-such-stream/rate", &json!({"rate": 1})).expect(404);
    cluster.api.put("/jobs/sensors.no-such-job/params", &json!({"params": {}})).expect(404);
}

#[test]
fn a_change_is_in_force_when_it_is_acknowledged() {
    let cluster = Cluster::exclusive();
    for size in [11, 12, 13] {
        let acknowledgement = cluster.api.set_params("humidity-average", &json!({"window_size_s": size}));
        println!("window size acknowledged in {:?} ms", acknowledgement.acknowledged_ms);
        eventually("the parameters say so", Duration::from_secs(5), || {
            let view: ParamsView =
                cluster.api.get("/jobs/sensors.humidity-average/params").expect(200).json();
            let now = (view.params["window_size_s"].clone(), view.version);
            if now == (json!(size), acknowledgement.version) { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }
}

#[test]
fn signing_out_ends_the_session() {
    let cluster = Cluster::exclusive();
    let (name, password) = (format!("leaver-{}", now_ms()), "a long enough passphrase");
    cluster.millrace(&["user", "add", &name, "--role", "operator"], &[("MILLRACE_USER_PASSWORD", password)]);
    let user = Api::sign_in(&cluster.api.url, &name, password);
    user.get("/overview").expect(200);
    assert!((200..300).contains(&user.send("DELETE", "/session", None).status));
    user.get("/overview").expect(401);
    cluster.millrace(&["user", "remove", &name], &[]);
}

#[test]
fn checkpoints_are_made_and_shown() {
    let cluster = Cluster::exclusive();
    eventually("a checkpoint is listed", Duration::from_secs(40), || {
        let answer = cluster.api.get("/jobs/sensors.humidity-average/checkpoints").expect(200);
        if answer.text.contains("duration_ms") { Ok(()) } else { Err(answer.text) }
    });
}
