//! The cluster: ours, or the one of `--bootstrap` and `--client-config`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::topic::{self, Topic};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use super::Options;
use crate::commands;
use crate::layout::Layout;
use crate::state::State;

/// One call to a broker.
pub const CALL: Duration = Duration::from_secs(10);

/// A cluster, with what every client of it needs.
pub struct Target {
    settings: BTreeMap<String, String>,
    admin: AdminClient<DefaultClientContext>,
    /// Copies of each partition of a new topic.
    replication: i32,
}

impl Target {
    /// # Errors
    /// Nothing runs on the data folder, the file can't be read, or no broker answers.
    pub fn new(layout: &Layout, options: &Options) -> Result<Self> {
        let file = match (&options.client_config, &options.bootstrap) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(_)) => None,
            (None, None) => {
                State::load(layout)?.with_context(|| commands::not_running(layout))?;
                Some(layout.root().join("librdkafka.properties"))
            }
        };
        let text = file.map(|file| {
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        });
        let mut settings = properties(&text.transpose()?.unwrap_or_default());
        if let Some(bootstrap) = &options.bootstrap {
            settings.insert("bootstrap.servers".to_owned(), bootstrap.clone());
        }
        // Refuses what workers can't be told, before anything is started.
        environment(&settings)?;
        let admin: AdminClient<_> = config(&settings).create().context("the Kafka client")?;
        let metadata = admin.inner().fetch_metadata(None, CALL).context("no broker answers")?;
        let replication = i32::try_from(metadata.brokers().len())?.min(topic::REPLICATION);
        Ok(Self { settings, admin, replication })
    }

    /// Kafka's settings in the environment of a worker.
    pub fn environment(&self) -> Result<Vec<(String, String)>> {
        environment(&self.settings)
    }

    /// A consumer without group management: `group` is only whose offsets it may ask for.
    pub fn consumer(&self, group: &str, isolation: &str) -> Result<BaseConsumer> {
        let mut config = config(&self.settings);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", isolation)
            // As the workers have it.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "32768")
            .set("queued.min.messages", "20000");
        config.create().context("the Kafka consumer")
    }

    /// A producer with Java's partitioner.
    pub fn producer<C: ProducerContext + 'static>(
        &self,
        linger_ms: u32,
        context: C,
    ) -> Result<ThreadedProducer<C>> {
        let mut config = config(&self.settings);
        config
            // Not idempotent: with five requests in flight librdkafka 2.12 spins until one is answered, takes a core from the
            // brokers, and so waits longer. A record that is written twice is one more record of the input.
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", linger_ms.to_string())
            .set("queue.buffering.max.messages", "200000");
        config.create_with_context(context).context("the Kafka producer")
    }

    /// Where a partition begins and ends. A topic that was just created may have no leader yet: asks again.
    pub fn ends(&self, consumer: &BaseConsumer, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let began = Instant::now();
        loop {
            match consumer.fetch_watermarks(topic, partition, CALL) {
                Ok(ends) => return Ok(ends),
                Err(error) if began.elapsed() > CALL => {
                    return Err(error).with_context(|| format!("the end of {topic}/{partition}"));
                }
                Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
            }
        }
    }

    /// Partitions of a topic; `None`: there is none of this name.
    pub fn partitions(&self, name: &str) -> Result<Option<i32>> {
        let metadata = self.admin.inner().fetch_metadata(None, CALL).context("no broker answers")?;
        let found =
            metadata.topics().iter().find(|topic| topic.name() == name && !topic.partitions().is_empty());
        found.map(|topic| Ok(i32::try_from(topic.partitions().len())?)).transpose()
    }

    /// Creates a topic unless it is there. Returns whether it did.
    pub async fn create(&self, topic: &Topic) -> Result<bool> {
        let mut settings = topic.settings();
        for (key, value) in &mut settings {
            if *key == "min.insync.replicas" {
                *value = topic::MIN_IN_SYNC.min(self.replication).to_string();
            }
        }
        let new = NewTopic {
            name: &topic.name,
            num_partitions: topic.partitions,
            replication: TopicReplication::Fixed(self.replication),
            config: settings.iter().map(|(key, value)| (*key, value.as_str())).collect(),
        };
        let results = self.admin.create_topics([&new], &call()).await?;
        match results.first() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((name, code))) => bail!("the topic {name} can't be created: {code}"),
            None => bail!("Kafka did not say whether it created {}", topic.name),
        }
    }

    /// Removes topics. Returns those that it could not, with the reason.
    pub async fn remove_topics(&self, names: &[String]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        failures(self.admin.delete_topics(&names, &call()).await)
    }

    /// Removes consumer groups. Returns those that it could not, with the reason.
    pub async fn remove_groups(&self, names: &[String]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        failures(self.admin.delete_groups(&names, &call()).await)
    }
}

fn call() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL))
}

/// What Kafka says of each of several things.
type Outcomes = Result<Vec<Result<String, (String, RDKafkaErrorCode)>>, rdkafka::error::KafkaError>;

fn failures(results: Outcomes) -> Vec<String> {
    match results {
        Ok(results) => results
            .into_iter()
            .filter_map(Result::err)
            .map(|(name, code)| format!("{name}: {code}"))
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn config(settings: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in settings {
        config.set(key, value);
    }
    config.set("client.id", "millrace-bench").set("socket.nagle.disable", "true");
    config
}

/// Lines `key=value`; empty lines and those that begin with `#` mean nothing.
fn properties(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// librdkafka's names in the environment of our processes.
fn environment(settings: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    let mut env = Vec::new();
    for (key, value) in settings {
        let name = match key.as_str() {
            "bootstrap.servers" | "metadata.broker.list" => "KAFKA_BOOTSTRAP_SERVERS",
            "security.protocol" => "SECURITY_PROTOCOL",
            "sasl.mechanism" | "sasl.mechanisms" => "SASL_MECHANISM",
            "sasl.username" => "SASL_USERNAME",
            "sasl.password" => "SASL_PASSWORD",
            "ssl.ca.location" => "SSL_CA_LOCATION",
            _ => bail!(
                "the client configuration sets {key}, which millrace-processor has no setting for: it knows \
                 bootstrap.servers, security.protocol, sasl.mechanism, sasl.username, sasl.password, ssl.ca.location"
            ),
        };
        env.push((name.to_owned(), value.clone()));
    }
    if !env.iter().any(|(name, _)| name == "KAFKA_BOOTSTRAP_SERVERS") {
        bail!(
            "no broker is named: --bootstrap HOST:PORT, or bootstrap.servers in the file of --client-config"
        );
    }
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_properties_becomes_the_environment_of_a_worker() {
        let settings = properties("# ours\nbootstrap.servers = a:1,b:2\n\nsasl.password=x=y\n");
        let env = environment(&settings).unwrap();
        assert_eq!(
            env,
            [("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2"), ("SASL_PASSWORD", "x=y")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_a_worker_cannot_be_told_is_refused_by_name() {
        let refused = |text: &str| environment(&properties(text)).unwrap_err().to_string();
        assert!(refused("bootstrap.servers=a\nssl.key.location=k").contains("ssl.key.location"));
        assert!(refused("sasl.username=u").contains("--bootstrap"));
    }
}
