//! Sessions: 256 random bits in a cookie, of which the database has only the SHA-256.

use axum::http::{HeaderMap, header};
use millrace_service::clock::now_ms;
use millrace_wire::api::Session;
use sha2::{Digest, Sha256};
use sqlx::Row;

use super::Database;
use super::database::role_of;

/// Name of the cookie.
pub const COOKIE: &str = "millrace_session";
/// How long a session lasts.
pub const LIFETIME_MS: i64 = 12 * 3600 * 1000;

/// The session token that a request carries.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
        .filter(|value| value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `Set-Cookie` that starts (or, without a token, ends) a session.
pub fn cookie(token: Option<&str>, secure: bool) -> String {
    let age = if token.is_some() { LIFETIME_MS / 1000 } else { 0 };
    let secure = if secure { "; Secure" } else { "" };
    format!(
        "{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}{secure}",
        token.unwrap_or_default()
    )
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn fingerprint(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

impl Database {
    /// Starts a session and returns its token and end.
    pub async fn start_session(&self, username: &str) -> sqlx::Result<(String, i64)> {
        let now = now_ms();
        sqlx::query("DELETE FROM sessions WHERE expires_ms <= $1").bind(now).execute(self.pool()).await?;
        let token = hex(&rand::random::<[u8; 32]>());
        let insert =
            "INSERT INTO sessions (token_hash, username, created_ms, expires_ms) VALUES ($1, $2, $3, $4)";
        let ends = now + LIFETIME_MS;
        sqlx::query(insert)
            .bind(fingerprint(&token))
            .bind(username)
            .bind(now)
            .bind(ends)
            .execute(self.pool())
            .await?;
        Ok((token, ends))
    }

    /// The session of a token, with the role that its user has now.
    pub async fn session(&self, token: &str) -> sqlx::Result<Option<Session>> {
        let select = "SELECT u.name, u.role, s.expires_ms FROM sessions s JOIN users u ON u.name = s.username \
                      WHERE s.token_hash = $1 AND s.expires_ms > $2";
        let row =
            sqlx::query(select).bind(fingerprint(token)).bind(now_ms()).fetch_optional(self.pool()).await?;
        row.map(|row| {
            let role = role_of(&row.try_get::<String, _>(1)?);
            Ok(Session { username: row.try_get(0)?, role, expires_at_ms: row.try_get(2)? })
        })
        .transpose()
    }

    /// Ends a session.
    pub async fn end_session(&self, token: &str) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM sessions WHERE token_hash = $1")
            .bind(fingerprint(token))
            .execute(self.pool())
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        let value = "a".repeat(64);
        headers.insert(header::COOKIE, format!("theme=dark; {COOKIE}={value}; x=y").parse().unwrap());
        assert_eq!(token(&headers), Some(value.as_str()));
        headers.insert(header::COOKIE, format!("{COOKIE}=short").parse().unwrap());
        assert_eq!(token(&headers), None);
    }

    #[test]
    fn the_cookie_is_strict() {
        assert_eq!(
            cookie(Some("t"), true),
            "millrace_session=t; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200; Secure"
        );
        assert!(
            cookie(None, false).contains("millrace_session=; ") && cookie(None, false).contains("Max-Age=0")
        );
    }
}
