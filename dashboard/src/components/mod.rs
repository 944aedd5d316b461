//! The parts of the page, top to bottom.

pub mod apps;
pub mod charts;
pub mod checkpoints;
pub mod controls;
pub mod header;
pub mod ledger;
pub mod params;
pub mod pipeline;
pub mod problems;
pub mod results;
pub mod scenario;
pub mod sign_in;
pub mod stored;
pub mod system;
pub mod tiles;
