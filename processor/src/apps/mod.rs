//! The apps and their jobs. A job is one file; an app lists its jobs.

pub mod sensors;

use millrace_core::Application;

/// Every app that a worker runs.
pub const ALL: &[&dyn Application] = &[&sensors::APP];
