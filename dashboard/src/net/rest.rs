//! The gateway's REST interface, same origin; the session's cookie goes with every request by itself.

use leptos::prelude::window;
use millrace_wire::api::{
    Acknowledgement, Credentials, JobView, Listing, ParamsChange, ParamsView, Problem, RateChange,
    ResultsPage, ScenarioStart, Session,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, Request, RequestCredentials, RequestInit, Response};

/// Why a request has no answer that we can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status; 0 when the gateway can't be reached.
    pub status: u16,
    /// What happened.
    pub title: String,
    /// Why, and what to do.
    pub detail: String,
}

impl Failure {
    fn unreachable() -> Self {
        Self {
            status: 0,
            title: "The gateway can't be reached".into(),
            detail: "It may be starting, or the connection is down. Try again in a moment.".into(),
        }
    }

    /// There is no session, or it has ended.
    pub fn signed_out(&self) -> bool {
        self.status == 401
    }

    /// Both parts as one sentence.
    pub fn text(&self) -> String {
        if self.detail.is_empty() { self.title.clone() } else { format!("{}: {}", self.title, self.detail) }
    }
}

/// Who is signed in.
pub async fn session() -> Result<Session, Failure> {
    get("session").await
}

/// Signs in.
pub async fn sign_in(username: String, password: String) -> Result<Session, Failure> {
    send("POST", "session", &Credentials { username, password }).await
}

/// Signs out; that there was no session any more is no failure.
pub async fn sign_out() -> Result<(), Failure> {
    match request("DELETE", "session", None).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.signed_out() => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Jobs that run.
pub async fn jobs() -> Result<Vec<JobView>, Failure> {
    // The list may come bare or with the time at which it was true.
    let text = request("GET", "jobs", None).await?;
    match serde_json::from_str::<Listing<JobView>>(&text) {
        Ok(listing) => Ok(listing.items),
        Err(_) => parse(&text),
    }
}

/// A job's parameters and their schema.
pub async fn params(job: &str) -> Result<ParamsView, Failure> {
    get(&format!("jobs/{job}/params")).await
}

/// Changes some of a job's parameters.
pub async fn set_params(job: &str, params: Map<String, Value>) -> Result<Acknowledgement, Failure> {
    send("PUT", &format!("jobs/{job}/params"), &ParamsChange { params }).await
}

/// Changes a generator's rate, events/s.
pub async fn set_rate(stream: &str, rate: f64) -> Result<Acknowledgement, Failure> {
    send("PUT", &format!("producers/{stream}/rate"), &RateChange { rate }).await
}

/// Provokes something in a generator's stream for a while.
pub async fn start_scenario(stream: &str, start: &ScenarioStart) -> Result<Acknowledgement, Failure> {
    send("POST", &format!("producers/{stream}/scenario"), start).await
}

/// The newest stored documents of a result topic.
pub async fn results(index: &str, size: usize) -> Result<ResultsPage, Failure> {
    get(&format!("results/{index}?size={size}")).await
}

async fn get<T: DeserializeOwned>(path: &str) -> Result<T, Failure> {
    parse(&request("GET", path, None).await?)
}

async fn send<T: DeserializeOwned>(method: &str, path: &str, body: &impl Serialize) -> Result<T, Failure> {
    let body = serde_json::to_string(body).unwrap_or_default();
    parse(&request(method, path, Some(&body)).await?)
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure {
        status: 200,
        title: "The gateway's answer is not what this page expects".into(),
        detail: format!("{error}. Reload the page: it may be older than the gateway."),
    })
}

/// The body of a successful answer.
async fn request(method: &str, path: &str, body: Option<&str>) -> Result<String, Failure> {
    let response = fetch(method, path, body).await.map_err(|_| Failure::unreachable())?;
    let text = match response.text() {
        Ok(promise) => JsFuture::from(promise).await.ok().and_then(|t| t.as_string()).unwrap_or_default(),
        Err(_) => String::new(),
    };
    if response.ok() {
        return Ok(text);
    }
    let status = response.status();
    Err(match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => Failure { status, title: problem.title, detail: problem.detail },
        Err(_) => Failure { status, title: format!("The gateway answered {status}"), detail: String::new() },
    })
}

async fn fetch(method: &str, path: &str, body: Option<&str>) -> Result<Response, JsValue> {
    let headers = Headers::new()?;
    headers.set("accept", "application/json, application/problem+json")?;
    let init = RequestInit::new();
    init.set_method(method);
    init.set_credentials(RequestCredentials::SameOrigin);
    if let Some(body) = body {
        headers.set("content-type", "application/json")?;
        init.set_body(&JsValue::from_str(body));
    }
    init.set_headers(&headers);
    let request = Request::new_with_str_and_init(&format!("/api/v1/{path}"), &init)?;
    JsFuture::from(window().fetch_with_request(&request)).await?.dyn_into()
}
