//! Creates what is missing of the catalogue of topics.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use millrace_wire::topic::{self, Retention, Topic};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use crate::cluster::Cluster;

/// Settings of a topic.
pub fn settings(topic: &Topic) -> Vec<(&'static str, String)> {
    let mut settings = vec![("min.insync.replicas", topic::MIN_IN_SYNC.to_string())];
    match topic.retention {
        Retention::Millis(ms) => {
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", ms.to_string()));
        }
        // Only closed segments are compacted: small ones keep restores short.
        Retention::Compacted => {
            settings.push(("cleanup.policy", "compact".to_owned()));
            settings.push(("segment.bytes", (32 << 20).to_string()));
            settings.push(("min.cleanable.dirty.ratio", "0.3".to_owned()));
        }
    }
    settings
}

/// Creates the missing topics; their names. Repeats what fails until `patience` is over.
pub async fn setup(cluster: &Cluster, patience: Duration) -> Result<Vec<String>> {
    let catalogue = topic::catalogue();
    let deadline = Instant::now() + patience;
    let mut created = Vec::new();
    loop {
        let settings: Vec<_> = catalogue.iter().map(settings).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_of_the_catalogue_survives_a_broker() {
        for topic in topic::catalogue() {
            assert!(settings(&topic).contains(&("min.insync.replicas", "2".to_owned())), "{}", topic.name);
        }
    }

    #[test]
    fn changelogs_are_compacted_and_data_is_kept_for_a_week() {
        let of = |name: &str| {
            let catalogue = topic::catalogue();
            settings(catalogue.iter().find(|topic| topic.name == name).unwrap())
        };
        assert!(of(&topic::changelog("sensors")).contains(&("cleanup.policy", "compact".to_owned())));
        assert!(of(topic::IOT_SENSORS).contains(&("retention.ms", "604800000".to_owned())));
    }
}
