//! The routes under `/api/v1`. A route exists only through [`Routes::add`], which also says who may use it and puts it
//! into the OpenAPI document: the three can't drift apart.

mod commands;
mod gate;
mod live;
pub mod openapi;
mod session;
#[cfg(test)]
mod tests;
mod views;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post, put};
use millrace_wire::api::Role;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;
use crate::problem::Refusal;

/// Every path begins so.
pub const PREFIX: &str = "/api/v1";
const BODY_LIMIT: usize = 64 * 1024;

/// An operation: who may use it, and what the OpenAPI document says of it.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Method.
    pub method: Method,
    /// Path below [`PREFIX`], or below the root for what [`crate::web`] adds.
    pub path: &'static str,
    /// The least role; `None` without a session.
    pub role: Option<Role>,
    /// One line.
    pub summary: &'static str,
    /// Schema of the body, by name.
    pub body: Option<&'static str>,
    /// What comes back.
    pub answer: Option<Answer>,
    /// Query parameters: name, type, description.
    pub query: &'static [(&'static str, &'static str, &'static str)],
    /// Other statuses than the usual ones.
    pub statuses: &'static [(u16, &'static str)],
}

/// The body of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// JSON of the schema with this name.
    Json(&'static str),
    /// Plain text.
    Text,
}

impl Operation {
    /// Without a body; the rest by the functions below.
    pub fn new(method: Method, path: &'static str, role: Option<Role>, summary: &'static str) -> Self {
        Self { method, path, role, summary, body: None, answer: None, query: &[], statuses: &[] }
    }

    fn body(self, schema: &'static str) -> Self {
        Self { body: Some(schema), ..self }
    }

    /// It answers with JSON.
    pub fn answer(self, schema: &'static str) -> Self {
        Self { answer: Some(Answer::Json(schema)), ..self }
    }

    /// It answers with plain text.
    pub fn text(self) -> Self {
        Self { answer: Some(Answer::Text), ..self }
    }
}

/// The router and what is known of it, made together.
#[derive(Default)]
struct Routes {
    router: Router<Arc<Gateway>>,
    operations: Vec<Operation>,
}

impl Routes {
    fn add(mut self, operation: Operation, handler: MethodRouter<Arc<Gateway>>) -> Self {
        self.router = self.router.route(&format!("{PREFIX}{}", operation.path), handler);
        self.operations.push(operation);
        self
    }
}

/// Least roles by path and method.
pub type Roles = HashMap<(String, Method), Option<Role>>;

fn routes() -> Routes {
    let read = |path, summary| Operation::new(Method::GET, path, Some(Role::Viewer), summary);
    let open = |method, summary| Operation::new(method, "/session", None, summary);
    let change = |path, summary| Operation::new(Method::PUT, path, Some(Role::Operator), summary);
    let page = Operation {
        query: &[
            ("from", "integer", "not before, epoch ms (of `window_end`, or `timestamp` for alerts)"),
            ("to", "integer", "before, epoch ms"),
            ("key", "string", "of this sensor"),
            ("size", "integer", "documents on the page, 1 to 200, default 20"),
            ("after", "string", "`next` of the page before"),
        ],
        ..read("/results/{index}", "Results in Elasticsearch, newest first")
    };
    let acknowledged: &[(u16, &str)] =
        &[(202, "Given, but some process has not acknowledged it in time"), (503, "Kafka does not answer")];
    let params =
        Operation { statuses: acknowledged, ..change("/jobs/{j}/params", "Change parameters of a job") };
    let rate =
        Operation { statuses: acknowledged, ..change("/producers/{p}/rate", "Change the rate of a stream") };
    let checkpoint = Operation {
        statuses: acknowledged,
        ..Operation::new(
            Method::POST,
            "/jobs/{j}/checkpoints",
            Some(Role::Operator),
            "Have the app of a job make a checkpoint now",
        )
    };
    let scenario = Operation {
        statuses: acknowledged,
        ..Operation::new(
            Method::POST,
            "/producers/{p}/scenario",
            Some(Role::Operator),
            "Provoke something in a stream for a while",
        )
    };
    let upgraded: &[(u16, &str)] = &[(101, "The protocol of the live feed: see wire/src/live.rs")];
    let live = Operation {
        statuses: upgraded,
        ..read("/live", "The live feed (WebSocket; subprotocol millrace.v1.postcard or millrace.v1.json)")
    };
    Routes::default()
        .add(open(Method::POST, "Sign in").body("Credentials").answer("Session"), post(session::sign_in))
        .add(open(Method::GET, "Who is signed in").answer("Session"), get(session::who))
        .add(open(Method::DELETE, "Sign out"), delete(session::sign_out))
        .add(read("/overview", "The gauges of the Overview page").answer("Overview"), get(views::overview))
        .add(read("/topics", "Topics").answer("TopicListing"), get(views::topics))
        .add(read("/topics/{t}", "A topic").answer("TopicView"), get(views::topic))
        .add(read("/groups", "Consumer groups and their lag").answer("GroupListing"), get(views::groups))
        .add(read("/groups/{g}", "A consumer group").answer("GroupView"), get(views::group))
        .add(read("/jobs", "Jobs").answer("JobListing"), get(views::jobs))
        .add(read("/jobs/{j}", "A job").answer("JobView"), get(views::job))
        .add(
            read("/jobs/{j}/params", "Parameters in force and their schema").answer("ParamsView"),
            get(views::params),
        )
        .add(params.body("ParamsChange").answer("Acknowledgement"), put(commands::params))
        .add(
            read("/jobs/{j}/checkpoints", "Checkpoints, newest first").answer("CheckpointListing"),
            get(views::checkpoints),
        )
        .add(checkpoint.answer("Acknowledgement"), post(commands::checkpoint))
        .add(read("/producers", "Generated streams").answer("ProducerListing"), get(views::producers))
        .add(rate.body("RateChange").answer("Acknowledgement"), put(commands::rate))
        .add(scenario.body("ScenarioStart").answer("Acknowledgement"), post(commands::scenario))
        .add(
            read("/ledger", "What has become of every record, and whether it balances").answer("Ledger"),
            get(views::ledger),
        )
        .add(page.answer("ResultsPage"), get(views::results))
        .add(live, get(live::upgrade))
        .add(read("/openapi.json", "This document"), get(openapi::serve))
}

/// The operations, in order.
pub fn operations() -> Vec<Operation> {
    routes().operations
}

/// Everything under [`PREFIX`], behind the gate.
pub fn router(gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    let Routes { router, operations } = routes();
    let roles: Roles =
        operations.into_iter().map(|o| ((format!("{PREFIX}{}", o.path), o.method), o.role)).collect();
    let unknown =
        || async { Refusal::not_found(format!("{PREFIX}/openapi.json lists the paths that there are.")) };
    router
        .route(PREFIX, axum::routing::any(unknown))
        .route(&format!("{PREFIX}/"), axum::routing::any(unknown))
        .route(&format!("{PREFIX}/{{*rest}}"), axum::routing::any(unknown))
        .method_not_allowed_fallback(async || Refusal::method())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::middleware::from_fn_with_state((gateway.clone(), Arc::new(roles)), gate::check))
}

/// A JSON body; what is wrong with it becomes a problem.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        use axum::extract::rejection::JsonRejection;
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(JsonRejection::JsonDataError(error)) => Err(Refusal::invalid(error.body_text())),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Refusal::media_type()),
            Err(error) if error.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Refusal::too_large())
            }
            Err(error) => Err(Refusal::bad_request(error.body_text())),
        }
    }
}
