//! Creates what is missing of the catalogue of topics.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use millrace_wire::topic::{self, Topic};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use crate::cluster::Cluster;

/// Creates the missing topics; their names. Repeats what fails until `patience` is over.
pub async fn setup(cluster: &Cluster, patience: Duration) -> Result<Vec<String>> {
    let catalogue = topic::catalogue();
    let deadline = Instant::now() + patience;
    let mut created = Vec::new();
    loop {
        let settings: Vec<_> = catalogue.iter().map(Topic::settings).collect();
        let new: Vec<_> = catalogue
            .iter()
            .zip(&settings)
            .map(|(topic, settings)| NewTopic {
                name: &topic.name,
                num_partitions: topic.partitions,
                replication: TopicReplication::Fixed(topic::REPLICATION),
                config: settings.iter().map(|(key, value)| (*key, value.as_str())).collect(),
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(Duration::from_secs(10)))
            .operation_timeout(Some(Duration::from_secs(10)));
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
