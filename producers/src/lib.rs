//! Event generators: one process, one thread and one module per stream.
//!
//! The path of an event: [`pace`] says how many are due, [`order`] gives each its event time, a [`Generator`]
//! ([`iot_sensors`], [`transactions`], [`orders`], [`user_events`], [`system_metrics`]) writes key and value, [`stream`] hands it to Kafka, and
//! [`delivery`] counts it once Kafka has acknowledged it. [`population`] is who there is, in all streams. [`process`] puts the parts together: commands in, telemetry out.
//!
//! Invariant: a generator is pure. It reads no clock and no shared randomness; the same seed and the same event times
//! give the same bytes. The exception is [`system_metrics`], which measures this machine and invents nothing.
//!
//! # Metrics
//! `/metrics` serves, per `stream`:
//!
//! | name | kind | what |
//! |---|---|---|
//! | `millrace_producer_records_total` | counter | records that Kafka acknowledged |
//! | `millrace_producer_bytes_total` | counter | bytes of their values |
//! | `millrace_producer_failed_total` | counter | records that Kafka refused |
//! | `millrace_producer_forgone_total` | counter | events never generated, because the stream was too far behind |
//! | `millrace_producer_in_flight` | gauge | records handed to the client and not yet acknowledged |
//! | `millrace_producer_target_rate` | gauge | events/s asked for |
//! | `process_cpu_seconds_total` | counter | CPU time of the process |
//! | `process_resident_memory_bytes` | gauge | its memory |

pub mod config;
pub mod delivery;
mod generator;
pub mod iot_sensors;
pub mod order;
pub mod orders;
pub mod pace;
pub mod population;
pub mod process;
pub mod processes;
pub mod provoked;
mod random;
pub mod stream;
pub mod system_metrics;
pub mod transactions;
pub mod user_events;
mod zipf;

pub use generator::{Generator, Record, Reference};
pub use random::Random;
pub use zipf::Zipf;
