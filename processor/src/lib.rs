//! The runtime around the engine: exactly-once workers ([`runtime`]) and the Elasticsearch indexer ([`index`]).
//! The jobs are in [`apps`].

pub mod apps;
pub mod checkpoint;
pub mod config;
pub mod index;
pub mod runtime;
pub mod savepoint;
pub mod store;
