//! Creates what is missing of the catalogue of topics.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use millrace_wire::topic::{self, Topic};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use crate::cluster::Cluster;

/// One question to the brokers.
const CALL: Duration = Duration::from_secs(10);

/// Creates the missing topics; their names. Repeats what fails until `patience` is over.
pub async fn setup(cluster: &Cluster, patience: Duration) -> Result<Vec<String>> {
    let catalogue = topic::catalogue();
    let deadline = Instant::now() + patience;
    let mut created = Vec::new();
    loop {
        // Mostly there is none: a cluster that comes back need not have a controller that answers yet.
        let known = cluster.topics(CALL).await.unwrap_or_default();
        let is_missing = |topic: &&Topic| !known.iter().any(|known| known.name == topic.name);
        let missing: Vec<&Topic> = catalogue.iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(created);
        }
        let settings: Vec<_> = missing.iter().map(|topic| topic.settings()).collect();
        let new: Vec<_> = missing
            .iter()
            .zip(&settings)
            .map(|(topic, settings)| NewTopic {
                name: &topic.name,
                num_partitions: topic.partitions,
                replication: TopicReplication::Fixed(topic::REPLICATION),
                config: settings.iter().map(|(key, value)| (*key, value.as_str())).collect(),
            })
            .collect();
        let options = AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL));
        let mut problems = Vec::new();
        match cluster.admin().create_topics(&new, &options).await {
            Err(error) => problems.push(error.to_string()),
            Ok(results) => {
                for result in results {
                    match result {
                        Ok(name) => created.push(name),
                        Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                        Err((name, code)) => problems.push(format!("{name}: {code}")),
                    }
                }
            }
        }
        if problems.is_empty() {
            return Ok(created);
        }
        if Instant::now() > deadline {
            bail!("cannot create topics: {}", problems.join("; "));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
