use std::time::Duration;

use millrace_wire::api::Acknowledgement;
use millrace_wire::live::Overview;
use millrace_wire::topic;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http;

use crate::eventually;

/// A client of the gateway.
#[derive(Clone)]
pub struct Api {
    agent: ureq::Agent,
    /// `http://host:port`.
    pub url: String,
    /// `name=value`, once signed in.
    pub cookie: Option<String>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// The body.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e} in {}: {}", self.status, self.text))
    }

    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Api {
    /// Someone who has not signed in.
    pub fn anonymous(url: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .max_redirects(0)
            .build();
        Self { agent: config.new_agent(), url: url.to_owned(), cookie: None }
    }

    /// Signs in.
    #[track_caller]
    pub fn sign_in(url: &str, username: &str, password: &str) -> Self {
        let mut api = Self::anonymous(url);
        let answer = api.send("POST", "/session", Some(&json!({"username": username, "password": password})));
        assert_eq!(answer.status, 200, "signing in as {username}: {}", answer.text);
        let cookie = answer.headers.get("set-cookie").expect("a session cookie").to_str().unwrap();
        api.cookie = cookie.split(';').next().map(str::to_owned);
        api
    }

    /// Sends a request to `/api/v1` + `path`.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.send_to(method, &format!("/api/v1{path}"), body)
    }

    /// Sends a request to any path.
    #[track_caller]
    pub fn send_to(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_send(method, path, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Sends a request to any path.
    ///
    /// # Errors
    /// There is no answer.
    pub fn try_send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, ureq::Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("origin", &self.url);
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        let mut answer = match body {
            Some(body) => {
                self.agent.run(request.header("content-type", "application/json").body(body.to_string())?)
            }
            None => self.agent.run(request.body(())?),
        }?;
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.body_mut().read_to_string()?,
        })
    }

    /// `GET`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    /// `PUT`.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, Some(body))
    }

    /// `GET /overview`.
    #[track_caller]
    pub fn overview(&self) -> Overview {
        self.get("/overview").expect(200).json()
    }

    /// Sets the rate of `iot-sensors` and returns the acknowledgement, which must come.
    #[track_caller]
    pub fn set_rate(&self, rate: f64) -> Acknowledgement {
        self.set_rate_of(topic::IOT_SENSORS, rate)
    }

    /// Sets the rate of a stream and returns the acknowledgement, which must come.
    #[track_caller]
    pub fn set_rate_of(&self, stream: &str, rate: f64) -> Acknowledgement {
        self.acknowledged(&format!("/producers/{stream}/rate"), &json!({"rate": rate}))
    }

    /// Changes parameters of a job, `<app>.<job>` or one of `sensors`, and returns the acknowledgement, which must come.
    #[track_caller]
    pub fn set_params(&self, job: &str, params: &Value) -> Acknowledgement {
        let job = if job.contains('.') { job.to_owned() } else { format!("sensors.{job}") };
        self.acknowledged(&format!("/jobs/{job}/params"), &json!({"params": params}))
    }

    /// A machine that is overloaded may take longer than the gateway waits: asks again, as a person would.
    #[track_caller]
    fn acknowledged(&self, path: &str, body: &Value) -> Acknowledgement {
        eventually(&format!("{path} {body} is acknowledged"), Duration::from_secs(60), || {
            let answer = self.put(path, body);
            if answer.status == 503 {
                return Err(answer.text);
            }
            assert!((200..300).contains(&answer.status), "{answer:?}");
            let acknowledgement: Acknowledgement = answer.json();
            if !acknowledgement.applied {
                println!("not yet: {acknowledgement:?}");
                return Err(answer.text);
            }
            assert!(acknowledgement.acknowledged_ms.is_some(), "{acknowledgement:?}");
            Ok(acknowledgement)
        })
    }
}
