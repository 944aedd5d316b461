//! What the launcher asks of Kafka as a client: who is there, what is under-replicated.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;

use crate::connection;
use crate::credentials::Credentials;
use crate::ports::Ports;

/// A client of the three brokers.
#[derive(Clone)]
pub struct Cluster {
    admin: Arc<AdminClient<DefaultClientContext>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cluster")
    }
}

/// A topic as the brokers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: usize,
    /// Copies of each.
    pub replication: usize,
    /// Partitions with a copy that is behind.
    pub under_replicated: usize,
    /// Partitions without a leader.
    pub leaderless: usize,
    /// Partitions that another broker leads than the usual one.
    pub displaced: usize,
}

/// librdkafka's configuration for any client of this cluster.
pub fn client_config(ports: Ports, credentials: &Credentials) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in connection::librdkafka(ports, credentials) {
        config.set(key, value);
    }
    config
        .set("client.id", "millrace-launcher")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500");
    config
}

impl Cluster {
    /// Connects in the background.
    pub fn new(ports: Ports, credentials: &Credentials) -> Result<Self> {
        let admin =
            AdminClient::from_config(&client_config(ports, credentials)).context("the Kafka client")?;
        Ok(Self { admin: Arc::new(admin) })
    }

    /// For creating topics.
    pub fn admin(&self) -> &AdminClient<DefaultClientContext> {
        &self.admin
    }

    async fn fetch<T: Send + 'static>(
        &self,
        patience: Duration,
        read: impl FnOnce(&rdkafka::metadata::Metadata) -> T + Send + 'static,
    ) -> Result<T> {
        let admin = Arc::clone(&self.admin);
        tokio::task::spawn_blocking(move || {
            let metadata = admin
                .inner()
                .fetch_metadata(None, patience)
                .with_context(|| format!("no broker answered within {} s", patience.as_secs()))?;
            Ok(read(&metadata))
        })
        .await?
    }

    /// Ids of the brokers that the controller counts as alive.
    pub async fn brokers(&self, patience: Duration) -> Result<Vec<i32>> {
        self.fetch(patience, |metadata| metadata.brokers().iter().map(|broker| broker.id()).collect()).await
    }

    /// Every topic, by name.
    pub async fn topics(&self, patience: Duration) -> Result<Vec<TopicView>> {
        let mut topics: Vec<TopicView> = self
            .fetch(patience, |metadata| {
                metadata
                    .topics()
                    .iter()
                    .map(|topic| {
                        let partitions = topic.partitions();
                        TopicView {
                            name: topic.name().to_owned(),
                            partitions: partitions.len(),
                            replication: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or(0),
                            under_replicated: partitions
                                .iter()
                                .filter(|p| p.isr().len() < p.replicas().len())
                                .count(),
                            leaderless: partitions.iter().filter(|p| p.leader() < 0).count(),
                            displaced: partitions
                                .iter()
                                .filter(|p| p.replicas().first() != Some(&p.leader()))
                                .count(),
                        }
                    })
                    .collect()
            })
            .await?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }
}
