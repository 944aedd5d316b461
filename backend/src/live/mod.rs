//! The live feed: one tick for everyone (`hub`), a socket per client (`socket`).

pub mod hub;
pub mod socket;

pub use hub::Hub;
