//! Errors as RFC 9457 problem details: what happened, why, what to do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millrace_wire::api::Problem;

/// An answer that is a problem.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    retry_after_s: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, title, detail: detail.into(), retry_after_s: None }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request can't be read", detail)
    }

    /// 401.
    pub fn signed_out() -> Self {
        let detail = "There is no valid session: sign in with POST /api/v1/session.";
        Self::new(StatusCode::UNAUTHORIZED, "signed-out", "Not signed in", detail)
    }

    /// 401 for a sign-in.
    pub fn wrong_credentials() -> Self {
        let detail = "The name or the password is wrong.";
        Self::new(StatusCode::UNAUTHORIZED, "wrong-credentials", "Sign-in refused", detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    /// 405.
    pub fn method() -> Self {
        let detail = "This path does not know this method: /api/v1/openapi.json lists what there is.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Wrong method", detail)
    }

    /// 413.
    pub fn too_large() -> Self {
        let detail = "A body may have up to 64 KB.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    /// 415.
    pub fn media_type() -> Self {
        let detail = "Send the body as application/json.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "Not JSON", detail)
    }

    /// 422.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "A value is not allowed", detail)
    }

    /// 429.
    pub fn too_many(retry_after_s: u64) -> Self {
        let detail = format!("Too many failed sign-ins: try again in {retry_after_s} s.");
        let refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-sign-ins", "Wait a moment", detail);
        Self { retry_after_s: Some(retry_after_s), ..refusal }
    }

    /// 500: a bug.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        let detail = "This is a bug in the gateway; its log has the details.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The gateway failed", detail)
    }

    /// 503.
    pub fn away(kind: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail)
    }

    /// 503 for the database.
    pub fn database(error: &sqlx::Error) -> Self {
        tracing::error!(%error, "the database failed");
        let detail =
            "Users and sessions can't be read now; live pages that are open go on. Try again in a moment.";
        Self::away("database-away", "The database does not answer", detail)
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        Self::database(&error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = Problem {
            r#type: format!("/problems/{}", self.kind),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
