//! The shared vocabulary of Millrace: everything that crosses a process boundary is defined here, once.
//!
//! | module | carried by | encoding |
//! |---|---|---|
//! | [`event`] | raw topics | JSON |
//! | [`result`] | result topics and Elasticsearch | JSON |
//! | [`scenario`] | in [`control`] | JSON |
//! | [`control`] | `millrace.control` (compacted) | JSON, versioned |
//! | [`ledger`] | `millrace.ledger` (compacted) | JSON, versioned |
//! | [`telemetry`] | `millrace.telemetry` | JSON, versioned |
//! | [`api`] | the gateway's REST interface | JSON |
//! | [`live`] | the gateway's WebSocket | postcard or JSON, by subprotocol |
//! | [`topic`] | - | names, kinds and settings of every topic |
//! | [`fork`] | - | names of forks |
//! | [`bench`] | - | names that `millrace bench` and its workers share |
//!
//! Invariant: nothing here does I/O, reads a clock or knows a client library, so that it also compiles to WASM.
//! Types that travel as postcard use no `flatten`, `untagged` or `skip_serializing_if`: the format is positional.

pub mod api;
#[cfg(test)]
mod architecture;
pub mod bench;
pub mod control;
pub mod event;
pub mod fork;
pub mod ledger;
pub mod live;
mod partitioner;
pub mod result;
pub mod scenario;
pub mod telemetry;
mod timestamp;
pub mod topic;

pub use partitioner::partition;
pub use timestamp::Timestamp;
