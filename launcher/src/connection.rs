//! Connection files for other programs, and the same settings as environment of our own processes.

use anyhow::Result;

use crate::credentials::{Credentials, ELASTICSEARCH_USER, KAFKA_USER};
use crate::layout::{Layout, write_private};
use crate::ports::Ports;

/// Prefix of the result indexes in Elasticsearch.
pub const INDEX_PREFIX: &str = "millrace";

/// `client.properties`, for Java clients and Kafka's own tools.
pub fn java(ports: Ports, credentials: &Credentials) -> String {
    format!(
        "bootstrap.servers={}\n\
         security.protocol=SASL_PLAINTEXT\n\
         sasl.mechanism=SCRAM-SHA-512\n\
         sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
         username=\"{KAFKA_USER}\" password=\"{}\";\n",
        ports.bootstrap(),
        credentials.kafka_password
    )
}

/// The keys of librdkafka clients.
pub fn librdkafka(ports: Ports, credentials: &Credentials) -> Vec<(&'static str, String)> {
    vec![
        ("bootstrap.servers", ports.bootstrap()),
        ("security.protocol", "SASL_PLAINTEXT".to_owned()),
        ("sasl.mechanism", "SCRAM-SHA-512".to_owned()),
        ("sasl.username", KAFKA_USER.to_owned()),
        ("sasl.password", credentials.kafka_password.clone()),
    ]
}

/// Kafka's settings in the environment of our processes.
pub fn kafka_env(ports: Ports, credentials: &Credentials) -> Vec<(String, String)> {
    vec![
        ("KAFKA_BOOTSTRAP_SERVERS".to_owned(), ports.bootstrap()),
        ("SECURITY_PROTOCOL".to_owned(), "SASL_PLAINTEXT".to_owned()),
        ("SASL_MECHANISM".to_owned(), "SCRAM-SHA-512".to_owned()),
        ("SASL_USERNAME".to_owned(), KAFKA_USER.to_owned()),
        ("SASL_PASSWORD".to_owned(), credentials.kafka_password.clone()),
    ]
}

/// Elasticsearch's settings in the environment of our processes.
pub fn elasticsearch_env(ports: Ports, credentials: &Credentials) -> Vec<(String, String)> {
    vec![
        ("ELASTICSEARCH_URL".to_owned(), ports.elasticsearch_url()),
        ("ELASTICSEARCH_USERNAME".to_owned(), ELASTICSEARCH_USER.to_owned()),
        ("ELASTICSEARCH_PASSWORD".to_owned(), credentials.elasticsearch_password.clone()),
        ("ELASTICSEARCH_INDEX_PREFIX".to_owned(), INDEX_PREFIX.to_owned()),
    ]
}

/// `env`: what a shell can source.
pub fn env(ports: Ports, credentials: &Credentials) -> String {
    let mut lines = vec![("KAFKA_BOOTSTRAP_SERVERS".to_owned(), ports.bootstrap())];
    lines.extend(elasticsearch_env(ports, credentials));
    lines.push(("MILLRACE_URL".to_owned(), ports.url()));
    assignments(&lines)
}

/// `KEY=value` lines. No value needs quoting.
pub fn assignments(variables: &[(String, String)]) -> String {
    variables.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

/// For producers, which librdkafka gives another partitioner than Java does.
const PARTITIONER: &str = "# Producers: the partitioner murmur2_random puts a key where Java's clients and the generators put it.\n";

/// Writes all three.
pub fn write(layout: &Layout, ports: Ports, credentials: &Credentials) -> Result<()> {
    let lines = librdkafka(ports, credentials).into_iter().map(|(key, value)| format!("{key}={value}\n"));
    let librdkafka: String = std::iter::once(PARTITIONER.to_owned()).chain(lines).collect();
    write_private(&layout.root().join("client.properties"), &java(ports, credentials))?;
    write_private(&layout.root().join("librdkafka.properties"), &librdkafka)?;
    write_private(&layout.root().join("env"), &env(ports, credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        Credentials {
            cluster_id: "c".to_owned(),
            kafka_password: "kp".to_owned(),
            controller_password: "cp".to_owned(),
            elasticsearch_password: "ep".to_owned(),
        }
    }

    #[test]
    fn java_clients_get_a_login_module() {
        let text = java(Ports::new(None), &credentials());
        assert!(text.starts_with("bootstrap.servers=127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094\n"));
        assert!(text.ends_with("ScramLoginModule required username=\"admin\" password=\"kp\";\n"));
    }

    #[test]
    fn env_has_exactly_the_documented_variables() {
        let text = env(Ports::new(Some(20000)), &credentials());
        let names: Vec<_> = text.lines().map(|line| line.split('=').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                "KAFKA_BOOTSTRAP_SERVERS",
                "ELASTICSEARCH_URL",
                "ELASTICSEARCH_USERNAME",
                "ELASTICSEARCH_PASSWORD",
                "ELASTICSEARCH_INDEX_PREFIX",
                "MILLRACE_URL"
            ]
        );
        assert!(text.contains("ELASTICSEARCH_URL=http://127.0.0.1:20007\n"));
    }
}
