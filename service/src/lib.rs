//! What every Millrace process does alike: read its configuration, write logs, connect to Kafka, follow
//! `millrace.control`, publish telemetry, answer `/health` and `/metrics`, and stop when asked.
//!
//! Invariant: nothing here knows what a job, a generator or a page is.

pub mod clock;
pub mod config;
pub mod control;
pub mod http;
pub mod log;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;
mod usage;

pub use config::{ElasticsearchArgs, KafkaArgs, ServiceArgs};
pub use shutdown::Shutdown;
pub use usage::{process_metrics, process_usage};
