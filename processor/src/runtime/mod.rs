//! The worker: one thread with one transactional producer, one consumer per app, and the tasks of its partitions.
//!
//! ```text
//! worker ─ session ─┬─ member, one per app ─┬─ assignment   partitions come and go
//!                   │                       ├─ comeback     how long it was away, in phases
//!                   │                       ├─ restore      checkpoint + changelog tail -> task
//!                   │                       └─ poll, step   records -> effects
//!                   └─ transaction, one for all: effects + changelogs + offsets, all or nothing
//! ```
//!
//! A session is one life of the producer, the consumers and tasks. Whatever goes wrong with a transaction ends the session; the
//! next one starts from what is committed ([`restart`]). Other threads see the worker only through [`status`].

mod assignment;
pub(crate) mod changelog;
mod comeback;
mod environment;
mod exposed;
mod member;
pub(crate) mod restart;
pub(crate) mod restore;
mod session;
mod status;
pub(crate) mod tasks;
pub(crate) mod transaction;
mod worker;

pub use assignment::{Assignment, Change, Generation, Membership};
pub use restart::{SessionError, Strategy};
pub use status::Status;
pub use transaction::Transactions;
pub use worker::run;
