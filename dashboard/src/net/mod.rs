//! The two ways to the gateway: [`rest`] for questions and changes, [`live`] for everything that moves.

pub mod live;
pub mod rest;
