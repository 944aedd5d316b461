//! `/health`, `/ready` and `/metrics`: for machines, without a session. They say nothing that is secret.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use millrace_service::clock::now_ms;
use millrace_service::http::Observable;
use millrace_service::metrics::{Exposition, Kind};
use millrace_service::process_metrics;
use millrace_wire::api::{DependencyHealth, Readiness};

use crate::api::Operation;
use crate::gateway::Gateway;

/// The routes, each with what the OpenAPI document says of it.
pub fn routes() -> [(Operation, MethodRouter<Arc<Gateway>>); 3] {
    let open = |path, summary| Operation::new(Method::GET, path, None, summary);
    let ready = Operation {
        statuses: &[(503, "Kafka or the database does not answer; the body says which")],
        ..open("/ready", "Whether the gateway can do its work, and how what it needs is").answer("Readiness")
    };
    [
        (open("/health", "Answers as long as the gateway runs").text(), get(async || "ok\n")),
        (ready, get(self::ready)),
        (open("/metrics", "Metrics, in Prometheus' text format").text(), get(metrics)),
    ]
}

async fn dependencies(gateway: &Gateway) -> [DependencyHealth; 3] {
    let health = |name: &str, ok, detail| DependencyHealth { name: name.to_owned(), ok, detail };
    let view = gateway.kafka.get();
    let kafka = match view.away(now_ms()) {
        Some(why) => health("kafka", false, why),
        None => health(
            "kafka",
            true,
            format!("{} of {} brokers", view.brokers_up, gateway.args.brokers_expected()),
        ),
    };
    let elastic = gateway.search.health();
    let database = match gateway.database.ping().await {
        Ok(()) => health("database", true, "it answers".to_owned()),
        Err(_) => health("database", false, "it does not answer".to_owned()),
    };
    [kafka, health("elasticsearch", elastic.ok == Some(true), elastic.detail), database]
}

async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let dependencies = dependencies(&gateway).await;
    // Without Elasticsearch everything but past results works.
    let needed = dependencies.iter().filter(|d| d.name != "elasticsearch").all(|d| d.ok);
    let (status, word) = match (needed, dependencies.iter().all(|d| d.ok)) {
        (true, true) => (StatusCode::OK, "ready"),
        (true, false) => (StatusCode::OK, "degraded"),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let readiness = Readiness { status: word.to_owned(), dependencies: dependencies.into() };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let mut out = Exposition::default();
    add(&gateway, &mut out);
    process_metrics(&mut out);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out.render()).into_response()
}

/// The gateway as the shared metrics server sees it.
pub struct Process(pub Arc<Gateway>);

impl Observable for Process {
    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn metrics(&self, out: &mut Exposition) {
        add(&self.0, out);
    }
}

fn add(gateway: &Gateway, out: &mut Exposition) {
    let mut gauge =
        |name, help, labels: &[(&str, &str)], value| out.add(name, Kind::Gauge, help, labels, value);
    gauge("millrace_gateway_live_clients", "Open live sockets.", &[], gateway.hub.clients() as f64);
    let view = gateway.kafka.get();
    let (up, elastic) = (view.away(now_ms()).is_none(), gateway.search.health().ok == Some(true));
    gauge(
        "millrace_gateway_up",
        "Whether a dependency answers.",
        &[("dependency", "kafka")],
        f64::from(u8::from(up)),
    );
    let labels = [("dependency", "elasticsearch")];
    gauge("millrace_gateway_up", "Whether a dependency answers.", &labels, f64::from(u8::from(elastic)));
    gauge("millrace_brokers_up", "Brokers in the metadata.", &[], f64::from(view.brokers_up));
    for group in &view.groups {
        let labels = [("group", group.group.as_str())];
        gauge("millrace_group_lag_records", "Records not yet committed.", &labels, group.lag_records as f64);
        if let Some(seconds) = group.lag_seconds {
            gauge(
                "millrace_group_lag_seconds",
                "Age of the oldest record not yet committed.",
                &labels,
                seconds,
            );
        }
    }
    for topic in &view.topics {
        let labels = [("topic", topic.name.as_str())];
        gauge("millrace_topic_records_per_second", "Growth of a topic.", &labels, topic.records_per_s);
    }
    let overview = gateway.hub.overview();
    gauge("millrace_problems", "Problems on the Overview page.", &[], overview.problems.len() as f64);
    for app in &overview.apps {
        let labels = [("app", app.app.as_str())];
        let mut add = |name, help, value: Option<f64>| {
            if let Some(value) = value {
                gauge(name, help, &labels, value);
            }
        };
        add("millrace_app_records_per_minute", "Records read.", Some(app.records_per_min));
        add("millrace_app_alerts_per_minute", "Alerts.", Some(app.alerts_per_min));
        let help = "Share of the records of windows that came before their first result.";
        add("millrace_app_window_completeness", help, app.completeness);
        add("millrace_app_late_share", "Share of the records that came too late.", app.late_share);
        add("millrace_app_dead_letter_share", "Share of the records that are dead letters.", app.dead_share);
        let help = "Failed sessions of its workers, and violations of invariants.";
        add("millrace_app_errors_per_minute", help, Some(app.errors_per_min));
    }
    if let Some(latency) = overview.latency {
        for (quantile, ms) in [("0.5", latency.p50_ms), ("0.95", latency.p95_ms), ("0.99", latency.p99_ms)] {
            let help = "End-to-end latency over the last 10 s.";
            gauge("millrace_latency_seconds", help, &[("quantile", quantile)], ms / 1000.0);
        }
    }
    for (name, help, total) in [
        ("millrace_produced_total", "Records acknowledged to the generators.", overview.produced_total),
        ("millrace_consumed_total", "Source records processed.", overview.consumed_total),
        ("millrace_dead_letters_total", "Dead letters.", overview.dead_total),
        ("millrace_late_total", "Late records.", overview.late_total),
    ] {
        out.add(name, Kind::Counter, help, &[], total as f64);
    }
}
