//! The runtime around the engine: exactly-once workers and the Elasticsearch indexer.

pub mod apps;
