//! What a step asks its owner to do.
//!
//! ```
//! use millrace_core::{Effect, Effects};
//!
//! let mut effects = Effects::default();
//! effects.emit("totals", "ada", &serde_json::json!({"sum": 3}));
//! for effect in effects.iter() {
//!     let Effect::Emit { topic, key, value } = effect else { continue };
//!     assert_eq!((*topic, effects.bytes(key), effects.bytes(value)), ("totals", &b"ada"[..], &br#"{"sum":3}"#[..]));
//! }
//! effects.clear();
//! assert!(effects.is_empty());
//! ```

use std::ops::Range;

use serde::Serialize;

/// One thing to do. Keys and values are byte ranges in the [`Effects`] that hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write a record to `topic`.
    Emit {
        /// Where to.
        topic: &'static str,
        /// Its key.
        key: Range<usize>,
        /// Its value.
        value: Range<usize>,
    },
    /// Write a marker to a partition of a repartition topic.
    Marker {
        /// Where to.
        topic: &'static str,
        /// Its partition.
        partition: i32,
        /// Its value; it has no key.
        value: Range<usize>,
    },
    /// The record of this step came after its window had closed: it goes to `late-events` as it is.
    Late {
        /// The job that refused it.
        job: &'static str,
        /// Watermark at that moment, epoch ms.
        watermark: i64,
    },
    /// The record of this step can't be processed: it goes to `dead-letters` as it is.
    Dead {
        /// What is wrong with it.
        reason: String,
    },
}

/// A buffer of effects, made to be used again and again: in the steady state a step allocates nothing.
#[derive(Debug, Default)]
pub struct Effects {
    bytes: Vec<u8>,
    items: Vec<Effect>,
}

impl Effects {
    /// What to do, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.items.iter()
    }

    /// The bytes of a key or value.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }

    /// Adds a record, its value written as JSON. Returns whether it could be written; if not, what led to it is dead.
    pub fn emit<T: Serialize>(&mut self, topic: &'static str, key: &str, value: &T) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key.as_bytes());
        let middle = self.bytes.len();
        match serde_json::to_writer(&mut self.bytes, value) {
            Ok(()) => {
                self.items.push(Effect::Emit { topic, key: start..middle, value: middle..self.bytes.len() });
                true
            }
            // A result type that has no JSON form is a bug of its job; the record that led to it must not be lost.
            Err(error) => {
                self.bytes.truncate(start);
                self.dead(format!("the result for {topic} can't be written as JSON: {error}"));
                false
            }
        }
    }

    /// Adds a marker for partitions 0 to `partitions`.
    pub(crate) fn marker<T: Serialize>(&mut self, topic: &'static str, partitions: i32, value: &T) {
        let start = self.bytes.len();
        if serde_json::to_writer(&mut self.bytes, value).is_ok() {
            let value = start..self.bytes.len();
            let markers =
                (0..partitions).map(|partition| Effect::Marker { topic, partition, value: value.clone() });
            self.items.extend(markers);
        }
    }

    pub(crate) fn late(&mut self, job: &'static str, watermark: i64) {
        self.items.push(Effect::Late { job, watermark });
    }

    pub(crate) fn dead(&mut self, reason: String) {
        self.items.push(Effect::Dead { reason });
    }
}
