//! The apps and their jobs. A job is one file; an app lists its jobs.

pub mod sensors;
