//! What Kafka itself says: topics, brokers, groups and their lag, and the newest results.
//!
//! `sampler` (thread, once a second) -> [`View`] -> requests and the live tick read the newest view and its age.

pub mod lag;
pub mod sampler;
pub mod tail;

use std::sync::{Arc, Mutex};

use millrace_wire::api::{GroupView, TopicView};

use crate::clock::{locked, time_of_day};

/// Kafka at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// When it was read, epoch ms; 0 if Kafka has never answered.
    pub as_of_ms: i64,
    /// Why it is not newer, and since when.
    pub error: Option<(String, i64)>,
    /// When the offsets were read, epoch ms: older than `as_of_ms` while a broker is away.
    pub ends_ms: i64,
    /// Topics by name.
    pub topics: Vec<TopicView>,
    /// Consumer groups by name.
    pub groups: Vec<GroupView>,
    /// When each of them was read, epoch ms.
    pub groups_ms: Vec<i64>,
    /// Brokers in the cluster's metadata.
    pub brokers_up: u32,
}

/// Kafka is away after so long without an answer; a single one that is late is no reason for alarm.
const AWAY_MS: i64 = 5_000;

impl View {
    /// Why these numbers are old, if they are.
    pub fn away(&self, now_ms: i64) -> Option<String> {
        if self.as_of_ms == 0 {
            let error = self.error.as_ref().map(|(error, _)| format!(" ({error})")).unwrap_or_default();
            return Some(format!("Kafka has not answered yet{error}"));
        }
        (now_ms - self.as_of_ms > AWAY_MS).then(|| {
            let error = self.error.as_ref().map(|(error, _)| format!(" ({error})")).unwrap_or_default();
            format!(
                "Kafka does not answer since {}{error}: these numbers are old",
                time_of_day(self.as_of_ms)
            )
        })
    }
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
