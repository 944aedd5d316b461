//! When a component counts as ready.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::http;

/// The sign of a component's readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// The broker accepts connections and the controller counts it as alive.
    Broker {
        /// Node id.
        id: u16,
        /// Its client listener.
        port: u16,
    },
    /// `GET` answers 200.
    Http {
        /// On 127.0.0.1.
        port: u16,
        /// Path and query.
        path: &'static str,
        /// `Authorization` header.
        authorization: Option<String>,
    },
}

/// Looks for signs.
#[derive(Debug)]
pub struct Probe {
    cluster: Cluster,
}

const INTERVAL: Duration = Duration::from_millis(100);

impl Probe {
    /// Asks this cluster about brokers.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// Whether the sign is there now.
    pub async fn check(&self, ready: &Ready) -> bool {
        match ready {
            Ready::Broker { id, port } => {
                TcpStream::connect(("127.0.0.1", *port)).await.is_ok()
                    && self
                        .cluster
                        .brokers(Duration::from_secs(2))
                        .await
                        .is_ok_and(|brokers| brokers.contains(&i32::from(*id)))
            }
            Ready::Http { port, path, authorization } => http::get(*port, path, authorization.as_deref())
                .await
                .is_ok_and(|answer| answer.status == 200),
        }
    }

    /// Waits for the sign.
    pub async fn wait(&self, ready: &Ready) {
        while !self.check(ready).await {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
