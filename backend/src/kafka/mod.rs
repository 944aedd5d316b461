//! What Kafka itself says: topics, brokers, groups and their lag, and the newest results.
//!
//! `sampler` (thread, once a second) -> [`View`] -> requests and the live tick read the newest view and its age.

pub mod lag;
pub mod sampler;
pub mod tail;

use std::sync::{Arc, Mutex};

use millrace_wire::api::{GroupView, TopicView};

use crate::clock::locked;

/// Kafka at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// When it was read, epoch ms; 0 if Kafka has never answered.
    pub as_of_ms: i64,
    /// Why it is not newer, and since when.
    pub error: Option<(String, i64)>,
    /// Topics by name.
    pub topics: Vec<TopicView>,
    /// Consumer groups by name.
    pub groups: Vec<GroupView>,
    /// Brokers in the cluster's metadata.
    pub brokers_up: u32,
}

/// The newest view, shared.
#[derive(Default)]
pub struct Shared {
    view: Mutex<Arc<View>>,
}

impl Shared {
    /// The newest view.
    pub fn get(&self) -> Arc<View> {
        locked(&self.view).clone()
    }

    /// Replaces it.
    pub fn set(&self, view: View) {
        *locked(&self.view) = Arc::new(view);
    }
}
