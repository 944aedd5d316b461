//! The apps and their jobs. A job is one file; an app lists its jobs.

pub mod sensors;

use millrace_core::Application;
use millrace_core::stream::Origin;
use millrace_wire::result::Evidence;

/// Every app that a worker runs.
pub const ALL: &[&dyn Application] = &[&sensors::APP];

/// A record that an alert rests on, by its origin.
fn evidence(origin: Option<Origin>) -> Option<Evidence> {
    origin.map(|o| Evidence { topic: o.topic.into(), partition: o.partition, offset: o.offset })
}
