//! What people with a terminal ask of a running cluster: jobs and their parameters, rates and scenarios, the records of a topic. It all
//! goes over Kafka: telemetry says how things are, `millrace.control` takes commands, as it does from the gateway.

mod generators;
mod jobs;
mod tail;
mod talk;

pub use generators::{rate, scenario};
pub use jobs::{get, job, list, set};
pub use tail::{Tail, tail};
