//! What the tests of a running cluster (`tests/cluster`) and of its beginnings and ends (`tests/lifecycle`) need: they
//! drive it from outside, with its own command line, any Kafka client, Elasticsearch's interface and the gateway's.
//!
//! The coordinates come from the environment, which `./test integration` sets: see [`Cluster`]. A test waits for
//! conditions with deadlines ([`eventually`]), leaves the cluster as it found it, and can be repeated on it.

// All of this is test code: it asserts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod api;
mod cluster;
mod command;
mod kafka;
mod live;
mod search;
mod stage;
mod telemetry;
mod wait;

pub use api::{Answer, Api};
pub use cluster::Cluster;
pub use command::{Millrace, Said, signal, variable};
pub use kafka::{Kafka, Message, Outgoing};
pub use live::Live;
pub use search::Search;
pub use stage::{Averages, Stage, alert_ids, averages, reading};
pub use telemetry::{provoked, tasks};
pub use wait::{eventually, now_ms, pause};
