//! Configuration shared by the processes. Defaults stand here; environment variables and flags override them. The
//! variable names are the ones in the data folder's `env` file.

use std::net::SocketAddr;

use clap::Args;
use rdkafka::ClientConfig;

/// How to reach Kafka.
#[derive(Args, Clone)]
pub struct KafkaArgs {
    /// Brokers to start from, `host:port,..`.
    #[arg(
        long = "kafka",
        env = "KAFKA_BOOTSTRAP_SERVERS",
        default_value = "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"
    )]
    pub bootstrap_servers: String,
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`; by default what `SSL_ENABLED` and `SASL_USERNAME` ask for.
    #[arg(long, env = "SECURITY_PROTOCOL")]
    pub security_protocol: Option<String>,
    /// Encrypt connections to the brokers.
    #[arg(long, env = "SSL_ENABLED", default_value_t = false, action = clap::ArgAction::Set)]
    pub ssl_enabled: bool,
    /// SASL mechanism.
    #[arg(long, env = "SASL_MECHANISM", default_value = "SCRAM-SHA-512")]
    pub sasl_mechanism: String,
    /// SASL user.
    #[arg(long, env = "SASL_USERNAME")]
    pub sasl_username: Option<String>,
    /// SASL password. By environment only, so that it stands in no process list.
    #[arg(skip = std::env::var("SASL_PASSWORD").ok())]
    pub sasl_password: Option<String>,
    /// File with the certificates of the authorities to trust.
    #[arg(long, env = "SSL_CA_LOCATION")]
    pub ssl_ca_location: Option<String>,
}

impl KafkaArgs {
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub fn protocol(&self) -> String {
        self.security_protocol.clone().unwrap_or_else(|| {
            match (self.sasl_username.is_some(), self.ssl_enabled) {
                (true, true) => "SASL_SSL",
                (true, false) => "SASL_PLAINTEXT",
                (false, true) => "SSL",
                (false, false) => "PLAINTEXT",
            }
            .to_owned()
        })
    }

    /// A client configuration with the connection and the settings that every client here wants.
    pub fn client(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        let protocol = self.protocol();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", client_id)
            // Half of this is also how soon a client that starts tries another broker, beside the first.
            .set("reconnect.backoff.ms", "400")
            .set("reconnect.backoff.max.ms", "1000")
            // TCP sends again what a network has lost later and later, a new connection at once.
            .set("socket.timeout.ms", "5000")
            .set("socket.connection.setup.timeout.ms", "3000")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("log.connection.close", "false");
        if protocol.starts_with("SASL") {
            config
                .set("sasl.mechanism", &self.sasl_mechanism)
                .set("sasl.username", self.sasl_username.as_deref().unwrap_or_default())
                .set("sasl.password", self.sasl_password.as_deref().unwrap_or_default());
        }
        config.set("security.protocol", protocol);
        if let Some(file) = &self.ssl_ca_location {
            config.set("ssl.ca.location", file);
        }
        config
    }

    /// A consumer configuration: no automatic commits, no automatic offset store, fast fetches.
    /// `isolation` is `read_committed` or `read_uncommitted`.
    pub fn consumer(&self, client_id: &str, group: &str, isolation: &str) -> ClientConfig {
        let mut config = self.client(client_id);
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", isolation)
            // The default of 1000 ms stalls a reader that is faster than its broker.
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "50");
        config
    }

    /// An idempotent producer configuration with Java's partitioner.
    pub fn producer(&self, client_id: &str) -> ClientConfig {
        let mut config = self.client(client_id);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4");
        config
    }
}

/// How to reach Elasticsearch.
#[derive(Args, Clone)]
pub struct ElasticsearchArgs {
    /// Its address.
    #[arg(long = "elasticsearch", env = "ELASTICSEARCH_URL", default_value = "http://127.0.0.1:9200")]
    pub url: String,
    /// User.
    #[arg(long = "elasticsearch-username", env = "ELASTICSEARCH_USERNAME", default_value = "")]
    pub username: String,
    /// Password. By environment only, so that it stands in no process list.
    #[arg(skip = std::env::var("ELASTICSEARCH_PASSWORD").unwrap_or_default())]
    pub password: String,
    /// A result topic is indexed as `<prefix>-<topic>`.
    #[arg(long = "index-prefix", env = "ELASTICSEARCH_INDEX_PREFIX", default_value = "millrace")]
    pub index_prefix: String,
}

impl ElasticsearchArgs {
    /// The index of a result topic.
    pub fn index(&self, topic: &str) -> String {
        format!("{}-{topic}", self.index_prefix)
    }
}

/// What every process has.
#[derive(Args, Clone)]
pub struct ServiceArgs {
    /// Name in telemetry and logs.
    #[arg(long, env = "MILLRACE_COMPONENT")]
    pub component: Option<String>,
    /// Where to serve `/health` and `/metrics`; nowhere if not given.
    #[arg(long, env = "MILLRACE_HTTP_ADDR")]
    pub http_addr: Option<SocketAddr>,
    /// Log filter, as in `info,millrace_processor=debug`. The default leaves out rdkafka's own copy of every event that
    /// a consumer meets, ends of partitions among them: our code says what matters.
    #[arg(long, env = "MILLRACE_LOG", default_value = "info,rdkafka::client=off")]
    pub log: String,
    /// Log lines as JSON or for people; by default JSON unless standard error is a terminal.
    #[arg(long, env = "MILLRACE_LOG_FORMAT")]
    pub log_format: Option<crate::log::Format>,
}
