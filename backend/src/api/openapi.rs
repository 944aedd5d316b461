//! The OpenAPI document, made from the route table. The schemas are read off example values of the wire's own types, so
//! that a field can't be missing or have another name.

use axum::Json;
use axum::http::Method;
use millrace_wire::api::{
    Acknowledgement, Credentials, DependencyHealth, GroupPartition, GroupView, JobView, Ledger,
    LedgerPartition, LedgerStream, Listing, ParamsChange, ParamsView, PartitionView, Problem, ProducerView,
    RateChange, Readiness, ResultsPage, Role, ScenarioStart, Session, TopicView,
};
use millrace_wire::ledger::JobCount;
use millrace_wire::live::{
    AppGauge, ComponentGauge, GroupGauge, IndexerGauge, JobGauge, LedgerGauge, LedgerJob, Overview,
    ProblemNote, Quantiles, StreamGauge, WorkerGauge,
};
use millrace_wire::scenario::Scenario;
use millrace_wire::telemetry::{Checkpoint, Component, Provoked};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Answer, Operation, PREFIX, operations};
use crate::auth::COOKIE;
use crate::auth::database::role_name;
use crate::web::ops;

pub async fn serve() -> Json<Value> {
    Json(document())
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    let ours = operations().into_iter().map(|operation| (format!("{PREFIX}{}", operation.path), operation));
    let root = ops::routes().into_iter().map(|(operation, _)| (operation.path.to_owned(), operation));
    for (path, operation) in ours.chain(root) {
        let method = operation.method.as_str().to_lowercase();
        if let Some(item) = paths.entry(path).or_insert_with(|| json!({})).as_object_mut() {
            item.insert(method, describe(&operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Millrace gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sign in with POST /api/v1/session; every other path under /api/v1 needs the cookie that it sets. \
                            Errors are application/problem+json (RFC 9457).",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": COOKIE}},
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let parameters: Vec<Value> = operation
        .path
        .split(['{', '}'])
        .skip(1)
        .step_by(2)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .chain(operation.query.iter().map(|(name, kind, description)| {
            json!({"name": name, "in": "query", "description": description, "schema": {"type": kind}})
        }))
        .collect();
    let mut responses = Map::new();
    let upgrade = operation.statuses.iter().any(|(status, _)| *status == 101);
    if !upgrade {
        let (status, text) = if operation.method == Method::DELETE { ("204", "Done") } else { ("200", "OK") };
        let mut answer = json!({"description": text});
        if let (Some(body), Some(answer)) = (operation.answer, answer.as_object_mut()) {
            answer.insert("content".to_owned(), content(body));
        }
        responses.insert(status.to_owned(), answer);
    }
    for (status, text) in operation.statuses {
        let mut answer = json!({"description": text});
        if let (202, Some(body), Some(answer)) = (*status, operation.answer, answer.as_object_mut()) {
            answer.insert("content".to_owned(), content(body));
        }
        responses.insert(status.to_string(), answer);
    }
    let problem = json!({
        "description": "A problem: what happened, why, what to do",
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    });
    responses.insert("default".to_owned(), problem);
    let security = if operation.role.is_some() { json!([{"session": []}]) } else { json!([]) };
    let mut described = json!({
        "summary": operation.summary,
        "operationId": operation_id(operation),
        "parameters": parameters,
        "responses": responses,
        "security": security,
        "x-role": operation.role.map(role_name),
    });
    if let (Some(schema), Some(described)) = (operation.body, described.as_object_mut()) {
        let body = json!({"required": true, "content": {"application/json": {"schema": reference(schema)}}});
        described.insert("requestBody".to_owned(), body);
    }
    described
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn content(answer: Answer) -> Value {
    match answer {
        Answer::Json(schema) => json!({"application/json": {"schema": reference(schema)}}),
        Answer::Text => json!({"text/plain": {"schema": {"type": "string"}}}),
    }
}

fn operation_id(operation: &Operation) -> String {
    let words = operation.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    std::iter::once(operation.method.as_str().to_lowercase())
        .chain(words.map(str::to_owned))
        .collect::<Vec<_>>()
        .join("_")
}

fn provoked() -> Provoked {
    Provoked { name: Scenario::Burst, started_ms: 0, ends_ms: 30_000, provokes: "..".into() }
}

fn schemas() -> Value {
    let mut all = Map::new();
    let mut add = |name: &str, example: Value| {
        let mut schema = schema_of(&example);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("examples".to_owned(), json!([example]));
        }
        all.insert(name.to_owned(), schema);
    };
    let topic = TopicView {
        name: "iot-sensors".into(),
        kind: "raw".into(),
        partitions: vec![PartitionView {
            partition: 0,
            leader: 1,
            in_sync: vec![1],
            log_start: 0,
            high_watermark: 5,
            last_stable: 4,
            open_since_ms: Some(1),
        }],
        replication: 3,
        records_per_s: 99.5,
    };
    let partition = GroupPartition {
        topic: "iot-sensors".into(),
        partition: 0,
        committed: Some(5),
        end: 9,
        lag_records: 4,
        lag_seconds: Some(0.1),
    };
    let group = GroupView {
        group: "millrace.sensors".into(),
        lag_records: 4,
        lag_seconds: Some(0.1),
        trend_per_s: -0.5,
        partitions: vec![partition],
    };
    let job = JobView {
        id: "sensors.mold-filter".into(),
        app: "sensors".into(),
        job: "mold-filter".into(),
        description: "..".into(),
        inputs: vec!["iot-sensors".into()],
        outputs: vec!["sensor-alerts.high".into()],
    };
    let checkpoint = Checkpoint { app: "sensors".into(), error: Some("..".into()), ..Checkpoint::default() };
    let producer = ProducerView {
        stream: "iot-sensors".into(),
        target_rate: 100.0,
        rate: 99.5,
        max_rate: 50_000.0,
        scenario: Some(provoked()),
        scenarios: vec![Scenario::Burst],
        error: Some("..".into()),
    };
    add("Credentials", value(&Credentials { username: "admin".into(), password: "..".into() }));
    add("Session", value(&Session { username: "admin".into(), role: Role::Admin, expires_at_ms: 0 }));
    let problem = Problem {
        r#type: "/problems/not-found".into(),
        title: "..".into(),
        status: 404,
        detail: "..".into(),
    };
    add("Problem", value(&problem));
    add("Overview", value(&overview()));
    add("TopicView", value(&topic));
    add("TopicListing", value(&listing(topic)));
    add("GroupView", value(&group));
    add("GroupListing", value(&listing(group)));
    add("JobView", value(&job));
    add("JobListing", value(&listing(job)));
    add("CheckpointListing", value(&listing(checkpoint)));
    add("ProducerListing", value(&listing(producer)));
    add(
        "ParamsView",
        value(&ParamsView { params: Map::new(), schema: json!({"type": "object"}), version: -1 }),
    );
    add("ParamsChange", value(&ParamsChange { params: Map::new() }));
    add("RateChange", value(&RateChange { rate: 100.0 }));
    add("ScenarioStart", value(&ScenarioStart { name: Scenario::Burst, seconds: 30 }));
    add("Ledger", value(&ledger()));
    let kafka = DependencyHealth { name: "kafka".into(), ok: true, detail: "..".into() };
    add("Readiness", value(&Readiness { status: "ready".into(), dependencies: vec![kafka] }));
    let waiting_for = vec!["processor-2".into()];
    add(
        "Acknowledgement",
        value(&Acknowledgement { version: 7, applied: false, acknowledged_ms: Some(42.0), waiting_for }),
    );
    add(
        "ResultsPage",
        value(&ResultsPage { total: 1, items: vec![json!({})], next: Some("1717200000000.0.5".into()) }),
    );
    Value::Object(all)
}

fn listing<T>(item: T) -> Listing<T> {
    Listing { as_of_ms: 0, problem: Some("..".into()), items: vec![item] }
}

fn job_count() -> JobCount {
    JobCount {
        job: "mold-filter".into(),
        records: 9,
        filtered: 5,
        late: 0,
        dead: 0,
        pending: 0,
        done: 4,
        emitted: 4,
    }
}

fn ledger() -> Ledger {
    let stream =
        LedgerStream { topic: "iot-sensors".into(), read_to: 9, committed: Some(9), log_end: Some(9) };
    let partition = LedgerPartition {
        app: "sensors".into(),
        partition: 0,
        component: "processor-1".into(),
        at_ms: 0,
        streams: vec![stream],
        records: 9,
        dead: 0,
        jobs: vec![job_count()],
        findings: vec!["..".into()],
    };
    Ledger {
        as_of_ms: 0,
        balanced: false,
        findings: vec!["..".into()],
        emitted: 4,
        indexed: Some(4),
        partitions: vec![partition],
    }
}

fn overview() -> Overview {
    let component = Component { detail: Some("..".into()), ports: vec![9092], ..Component::default() };
    Overview {
        problems: vec![ProblemNote { about: "kafka".into(), text: "..".into(), since_ms: 0 }],
        streams: vec![StreamGauge {
            error: Some("..".into()),
            scenario: Some(provoked()),
            ..StreamGauge::default()
        }],
        apps: vec![AppGauge {
            completeness: Some(1.0),
            late_share: Some(0.0),
            dead_share: Some(0.0),
            ..AppGauge::default()
        }],
        jobs: vec![JobGauge { watermark_ms: Some(0), watermark_lag_ms: Some(0), ..JobGauge::default() }],
        groups: vec![GroupGauge { lag_seconds: Some(0.1), ..GroupGauge::default() }],
        workers: vec![WorkerGauge { partitions: vec![0], ..WorkerGauge::default() }],
        indexer: Some(IndexerGauge { error: Some("..".into()), ..IndexerGauge::default() }),
        components: vec![ComponentGauge { component, ..ComponentGauge::default() }],
        latency: Some(Quantiles::default()),
        ledger: Some(LedgerGauge {
            findings: vec!["..".into()],
            jobs: vec![LedgerJob { app: "sensors".into(), count: job_count() }],
            ..LedgerGauge::default()
        }),
        ..Overview::default()
    }
}

fn value(example: &impl Serialize) -> Value {
    serde_json::to_value(example).unwrap_or_default()
}

fn schema_of(example: &Value) -> Value {
    match example {
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(n) if n.is_f64() => json!({"type": "number"}),
        Value::Number(_) => json!({"type": "integer"}),
        Value::String(_) => json!({"type": "string"}),
        Value::Array(items) => json!({"type": "array", "items": items.first().map_or(json!({}), schema_of)}),
        Value::Object(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|(k, v)| (k.clone(), property(k, v))).collect();
            json!({"type": "object", "properties": properties})
        }
    }
}

/// Fields that are null when there is nothing to say.
const NULLABLE: [&str; 17] = [
    "acknowledged_ms",
    "committed",
    "detail",
    "error",
    "indexed",
    "indexer",
    "lag_seconds",
    "latency",
    "ledger",
    "log_end",
    "next",
    "problem",
    "scenario",
    "watermark_ms",
    "watermark_lag_ms",
    "error_since_ms",
    "checkpoint",
];

fn property(name: &str, example: &Value) -> Value {
    let mut schema = schema_of(example);
    // A worker's state is a word or an object.
    if name == "state" {
        return json!({});
    }
    if NULLABLE.contains(&name)
        && let Some(fields) = schema.as_object_mut()
        && let Some(kind) = fields.get("type").cloned()
    {
        fields.insert("type".to_owned(), json!([kind, "null"]));
    }
    schema
}
