//! The indexer: copies the result topics into Elasticsearch, effectively once.
//!
//! ```text
//! result topics (read_committed) ─ document ─ bulk ─ acknowledged ─ commit the group's offsets
//!                                     └ refused for good ─ dead-letters ┘
//! ```
//!
//! A document's id is `<topic>-<partition>-<offset>`, so that a batch that is sent again replaces itself. Offsets are
//! committed only after Elasticsearch has acknowledged every document before them. While Elasticsearch is away nothing
//! is read: Kafka keeps what is not indexed yet.

mod bulk;
mod document;
mod status;
mod template;
mod worker;

pub use worker::run;
