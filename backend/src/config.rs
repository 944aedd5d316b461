//! Command line and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use millrace_service::{ElasticsearchArgs, KafkaArgs, ServiceArgs};
use millrace_wire::api::Role;

/// Millrace's gateway: REST, WebSocket, sessions and the page.
#[derive(Parser)]
#[command(name = "millrace-gateway", version, about)]
pub struct Cli {
    /// Users, sessions and the audit log: `sqlite://FILE?mode=rwc` or `postgres://..`.
    #[arg(
        long,
        env = "MILLRACE_DATABASE_URL",
        default_value = "sqlite://gateway.db?mode=rwc",
        global = true,
        hide_env_values = true
    )]
    pub(crate) database_url: String,
    #[command(flatten)]
    pub(crate) gateway: GatewayArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Serve (the default).
    Serve,
    /// Add, list, change or remove users.
    User {
        #[command(subcommand)]
        action: UserAction,
    },
}

/// What to do with users. A password comes from MILLRACE_USER_PASSWORD, from standard input when that is not a
/// terminal, or is made up and printed once.
#[derive(Subcommand)]
pub enum UserAction {
    /// Add a user.
    Add {
        /// Name: letters, digits, `.`, `-`, `_`.
        name: String,
        /// What the user may do.
        #[arg(long, value_enum)]
        role: RoleArg,
    },
    /// List users.
    List,
    /// Remove a user and end its sessions.
    Remove {
        /// Name.
        name: String,
    },
    /// Change a password and end the user's sessions.
    Password {
        /// Name.
        name: String,
    },
}

/// A role on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub enum RoleArg {
    /// Look.
    Viewer,
    /// Change rates and parameters.
    Operator,
    /// Everything.
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Operator => Self::Operator,
            RoleArg::Admin => Self::Admin,
        }
    }
}

/// Settings of the server.
#[derive(Args, Clone)]
pub struct GatewayArgs {
    /// Address to serve on.
    #[arg(long, env = "MILLRACE_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Folder of the built dashboard.
    #[arg(long, env = "MILLRACE_STATIC_DIR", default_value = "dashboard/dist")]
    pub static_dir: PathBuf,
    /// Origins that a browser may send commands and open sockets from, `scheme://host[:port],..`; by default
    /// 127.0.0.1 and localhost on the port served.
    #[arg(long, env = "MILLRACE_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
    /// Brokers that there should be; by default as many as bootstrap servers.
    #[arg(long, env = "MILLRACE_BROKERS")]
    pub brokers: Option<u32>,
    /// The first admin's password; used only while there are no users. By environment only.
    #[arg(skip = std::env::var("MILLRACE_ADMIN_PASSWORD").ok())]
    pub admin_password: Option<String>,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    #[command(flatten)]
    pub elasticsearch: ElasticsearchArgs,
    #[command(flatten)]
    pub service: ServiceArgs,
}

impl GatewayArgs {
    /// The exact origins that are allowed, for the port that is really served.
    pub fn origins(&self, port: u16) -> Vec<String> {
        let given: Vec<String> = self
            .allowed_origins
            .iter()
            .map(|o| o.trim().trim_end_matches('/').to_ascii_lowercase())
            .filter(|o| !o.is_empty())
            .collect();
        if given.is_empty() {
            vec![format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")]
        } else {
            given
        }
    }

    /// Brokers that there should be.
    pub fn brokers_expected(&self) -> u32 {
        self.brokers.unwrap_or_else(|| {
            u32::try_from(self.kafka.bootstrap_servers.split(',').filter(|s| !s.trim().is_empty()).count())
                .unwrap_or(u32::MAX)
        })
    }
}
