//! Users, sessions and the audit log: SQLite by default, Postgres by URL.

use std::os::unix::fs::OpenOptionsExt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use millrace_service::clock::now_ms;
use millrace_wire::api::Role;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyPool, Row};

const SCHEMA: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS users (name TEXT NOT NULL PRIMARY KEY, role TEXT NOT NULL, \
     password_hash TEXT NOT NULL, created_ms BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS sessions (token_hash TEXT NOT NULL PRIMARY KEY, username TEXT NOT NULL, \
     created_ms BIGINT NOT NULL, expires_ms BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS audit (at_ms BIGINT NOT NULL, who TEXT NOT NULL, address TEXT NOT NULL, \
     action TEXT NOT NULL, detail TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS audit_by_time ON audit (at_ms)",
];

/// The database.
#[derive(Clone)]
pub struct Database {
    pool: AnyPool,
}

/// A user as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Since when, epoch ms.
    pub created_ms: i64,
}

/// A role's name as it is stored.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// What is stored; a name that is not known may do the least.
pub fn role_of(name: &str) -> Role {
    match name {
        "admin" => Role::Admin,
        "operator" => Role::Operator,
        _ => Role::Viewer,
    }
}

impl Database {
    /// Opens the database and makes its tables.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        sqlx::any::install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        if sqlite {
            private_file(url);
        }
        let options = AnyConnectOptions::from_str(url).context("MILLRACE_DATABASE_URL can't be read")?;
        let pool = AnyPoolOptions::new()
            .max_connections(if sqlite { 4 } else { 8 })
            .acquire_timeout(Duration::from_secs(3))
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        for pragma in [
                            "PRAGMA busy_timeout = 3000",
                            "PRAGMA journal_mode = WAL",
                            "PRAGMA synchronous = NORMAL",
                        ] {
                            sqlx::query(pragma).execute(&mut *connection).await?;
                        }
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .context("the database can't be opened: check MILLRACE_DATABASE_URL")?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&pool).await.context("the database's tables can't be made")?;
        }
        Ok(Self { pool })
    }

    /// The connections, for the other files of this folder.
    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Whether it answers.
    pub async fn ping(&self) -> sqlx::Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop)
    }

    /// Whether there is no user yet.
    pub async fn no_users(&self) -> sqlx::Result<bool> {
        Ok(sqlx::query("SELECT name FROM users LIMIT 1").fetch_optional(&self.pool).await?.is_none())
    }

    /// Adds a user; `false` if the name is taken.
    pub async fn add_user(&self, name: &str, role: Role, password_hash: &str) -> sqlx::Result<bool> {
        let insert = "INSERT INTO users (name, role, password_hash, created_ms) VALUES ($1, $2, $3, $4) \
                      ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(insert)
            .bind(name)
            .bind(role_name(role))
            .bind(password_hash)
            .bind(now_ms())
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Users by name.
    pub async fn users(&self) -> sqlx::Result<Vec<User>> {
        let rows = sqlx::query("SELECT name, role, created_ms FROM users ORDER BY name")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let role = role_of(&row.try_get::<String, _>(1)?);
                Ok(User { name: row.try_get(0)?, role, created_ms: row.try_get(2)? })
            })
            .collect()
    }

    /// Removes a user and its sessions; `false` if there is none.
    pub async fn remove_user(&self, name: &str) -> sqlx::Result<bool> {
        self.end_sessions(name).await?;
        let done = sqlx::query("DELETE FROM users WHERE name = $1").bind(name).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Changes a password and ends the user's sessions; `false` if there is no such user.
    pub async fn set_password(&self, name: &str, password_hash: &str) -> sqlx::Result<bool> {
        let update = "UPDATE users SET password_hash = $1 WHERE name = $2";
        let done = sqlx::query(update).bind(password_hash).bind(name).execute(&self.pool).await?;
        self.end_sessions(name).await?;
        Ok(done.rows_affected() > 0)
    }

    /// A user's password hash and role.
    pub async fn credentials(&self, name: &str) -> sqlx::Result<Option<(String, Role)>> {
        let row = sqlx::query("SELECT password_hash, role FROM users WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok((row.try_get(0)?, role_of(&row.try_get::<String, _>(1)?)))).transpose()
    }

    async fn end_sessions(&self, name: &str) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM sessions WHERE username = $1").bind(name).execute(&self.pool).await.map(drop)
    }

    /// Writes a line of the audit log. A failure is logged and stops nothing.
    pub async fn audit(&self, who: &str, address: &str, action: &str, detail: &str) {
        tracing::info!(who, address, action, detail, "audit");
        let insert = "INSERT INTO audit (at_ms, who, address, action, detail) VALUES ($1, $2, $3, $4, $5)";
        let clipped: String = detail.chars().take(2_000).collect();
        let who: String = who.chars().take(100).collect();
        let done = sqlx::query(insert)
            .bind(now_ms())
            .bind(who)
            .bind(address)
            .bind(action)
            .bind(clipped)
            .execute(&self.pool)
            .await;
        if let Err(error) = done {
            tracing::error!(%error, "the audit log can't be written");
        }
    }

    /// Actions in the audit log, oldest first.
    #[cfg(test)]
    pub async fn audited(&self) -> Vec<(String, String)> {
        let rows =
            sqlx::query("SELECT who, action FROM audit ORDER BY at_ms").fetch_all(&self.pool).await.unwrap();
        rows.iter().map(|r| (r.get(0), r.get(1))).collect()
    }
}

/// SQLite would make the file readable for everyone.
fn private_file(url: &str) {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    let path = path.split('?').next().unwrap_or(path);
    if !url.contains("mode=rwc") || path.is_empty() || path == ":memory:" {
        return;
    }
    // SQLite itself reports what is wrong with the path.
    let _ = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
}
