//! Secrets of one data folder: made up at its first start, kept in a file that only its owner can read.
//!
//! The password of the page's `admin` is not among them: the gateway keeps its hash, nothing keeps the password.

use std::fs;

use anyhow::{Context, Result};
use rand::distr::Alphanumeric;
use rand::{Rng, RngCore};
use serde::{Deserialize, Serialize};

use crate::base64;
use crate::layout::{Layout, write_private};

/// SCRAM user of every client and broker.
pub const KAFKA_USER: &str = "admin";
/// PLAIN user between the controllers.
pub const CONTROLLER_USER: &str = "ctl";
/// File-realm user of Elasticsearch.
pub const ELASTICSEARCH_USER: &str = "millrace";

/// `credentials.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Kafka's cluster id: 16 bytes, URL-safe base64.
    pub cluster_id: String,
    /// Of [`KAFKA_USER`].
    pub kafka_password: String,
    /// Of [`CONTROLLER_USER`].
    pub controller_password: String,
    /// Of [`ELASTICSEARCH_USER`].
    pub elasticsearch_password: String,
}

impl Credentials {
    /// New ones.
    pub fn generate() -> Self {
        Self {
            cluster_id: cluster_id(),
            kafka_password: password(32),
            controller_password: password(32),
            elasticsearch_password: password(32),
        }
    }

    /// The folder's; made up if it has none.
    pub fn load_or_generate(layout: &Layout) -> Result<Self> {
        let path = layout.credentials();
        if path.exists() {
            return Self::load(layout);
        }
        let credentials = Self::generate();
        write_private(&path, &serde_json::to_string_pretty(&credentials)?)?;
        Ok(credentials)
    }

    /// The folder's.
    pub fn load(layout: &Layout) -> Result<Self> {
        let path = layout.credentials();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}: has the cluster been started?", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }
}

/// Letters and digits only: they need no quoting in any of the files that carry them.
pub fn password(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

fn cluster_id() -> String {
    loop {
        let mut bytes = [0; 16];
        rand::rng().fill_bytes(&mut bytes);
        let id = base64::url_safe(&bytes);
        // A leading dash would look like an option to StorageTool.
        if !id.starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_secrets_are_long_plain_and_different() {
        let a = Credentials::generate();
        let b = Credentials::generate();
        assert_eq!(a.cluster_id.len(), 22);
        assert_eq!(a.kafka_password.len(), 32);
        assert!(a.kafka_password.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(a.kafka_password, b.kafka_password);
        assert_ne!(a.kafka_password, a.elasticsearch_password);
    }
}
