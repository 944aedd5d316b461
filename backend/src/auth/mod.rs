//! Who may do what: users and sessions in a database, Argon2id, a limit on failed sign-ins, an audit log.

pub mod database;
pub mod limiter;
pub mod password;
pub mod sessions;

pub use database::Database;
pub use sessions::COOKIE;
