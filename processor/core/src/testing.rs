//! Tests of jobs that read like their specification: events in, results out.
//!
//! A test moves the watermark itself, and may restore the job from its state at any moment:
//!
//! ```
//! use millrace_core::aggregate::Count;
//! use millrace_core::params::NoParams;
//! use millrace_core::stream::{Job, job};
//! use millrace_core::testing::Harness;
//! use millrace_core::window::WindowSpec;
//!
//! fn counts() -> Box<dyn Job<String>> {
//!     job::<String, NoParams>("counts", "Words per ten seconds.")
//!         .source(|word: &String| Some(word))
//!         .key_by(|word| word)
//!         .window(|_| WindowSpec::tumbling(10_000))
//!         .aggregate(Count)
//!         .map(|result, _, _| result.value)
//!         .to(|_| ("counts", "all"))
//! }
//! let mut test = Harness::new(counts);
//! test.record(&"a".to_owned(), 1_000);
//! test.record(&"a".to_owned(), 9_999);
//! test.restore();
//! test.watermark(9_999);
//! assert_eq!(test.emitted("counts"), [2]);
//! assert!(test.state_is_empty());
//! ```

use serde_json::{Map, Value};

use crate::effect::{Effect, Effects};
use crate::job::Job;
use crate::params::Refused;
use crate::repartition::Message;
use crate::stream::{Origin, Scope};
use crate::task::Malformed;
use crate::time::{EventTime, Watermark};

/// Runs one job on typed events, with a watermark that the test moves.
pub struct Harness<E> {
    make: Box<dyn Fn() -> Box<dyn Job<E>>>,
    job: Box<dyn Job<E>>,
    now: i64,
    watermark: Watermark,
    max_seen: Option<i64>,
    offset: i64,
    effects: Effects,
}

impl<E: 'static> Harness<E> {
    /// With empty state.
    pub fn new(make: impl Fn() -> Box<dyn Job<E>> + 'static) -> Self {
        let mut this = Self {
            job: make(),
            make: Box::new(make),
            now: 0,
            watermark: Watermark::NONE,
            max_seen: None,
            offset: 0,
            effects: Effects::default(),
        };
        this.start();
        this
    }

    fn scope<'a>(&self, effects: &'a mut Effects, origin: Option<Origin>) -> Scope<'a> {
        Scope { now: self.now, watermark: self.watermark, max_seen: self.max_seen, origin, effects }
    }

    fn start(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(stage) = self.job.second_stage() {
            stage.restore(self.watermark, self.max_seen);
        }
        self.job.start(&mut self.scope(&mut effects, None));
        self.effects = effects;
    }

    /// A record at this event time; its origin is `test/0` with rising offsets from 0.
    pub fn record(&mut self, event: &E, at: i64) {
        let origin = Origin { topic: "test", partition: 0, offset: self.offset };
        self.offset += 1;
        self.max_seen = Some(self.max_seen.map_or(at, |max| max.max(at)));
        let mut effects = std::mem::take(&mut self.effects);
        let mut scope = self.scope(&mut effects, Some(origin));
        self.job.record(event, EventTime(at), &mut scope);
        self.effects = effects;
    }

    /// A commit: what was held for the time until then goes on, and what goes through a repartition topic arrives.
    /// [`watermark`](Self::watermark), [`processing_time`](Self::processing_time), [`restore`](Self::restore) and
    /// [`params`](Self::params) begin with one.
    pub fn commit(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        self.job.flush(&mut self.scope(&mut effects, None));
        self.effects = effects;
        let Some(topic) = self.job.second_stage().map(|stage| stage.topic()) else { return };
        for (_, value) in self.keyed(topic) {
            let value = value.to_string();
            let mut effects = std::mem::take(&mut self.effects);
            let mut scope = self.scope(&mut effects, None);
            let read = Message::read(value.as_bytes()).and_then(|message| match message {
                Message::Record { at, origin, record } => {
                    let (_, partition, offset) = origin.unwrap_or((topic, 0, -1));
                    scope.origin = Some(Origin { topic: "test", partition, offset });
                    self.job.second_stage().map_or(Ok(()), |stage| stage.record(record, at, &mut scope))
                }
                Message::Progress { .. } => Ok(()),
            });
            if let Err(Malformed(reason)) = read {
                effects.dead(reason);
            }
            self.effects = effects;
        }
    }

    /// A record of a reference topic.
    pub fn reference(&mut self, event: &E) {
        self.job.reference(event);
    }

    /// Moves the watermark.
    pub fn watermark(&mut self, to: i64) {
        self.commit();
        self.watermark = Watermark(to);
        let mut effects = std::mem::take(&mut self.effects);
        self.job.watermark(&mut self.scope(&mut effects, None));
        if let Some(stage) = self.job.second_stage() {
            let watermark = Watermark(to);
            let (now, max_seen, origin, effects) = (self.now, self.max_seen, None, &mut effects);
            stage.watermark(&mut Scope { now, watermark, max_seen, origin, effects });
        }
        self.effects = effects;
    }

    /// Moves processing time.
    pub fn processing_time(&mut self, to: i64) {
        self.commit();
        self.now = to;
        let mut effects = std::mem::take(&mut self.effects);
        self.job.processing_time(&mut self.scope(&mut effects, None));
        self.effects = effects;
    }

    /// Changes parameters.
    ///
    /// # Errors
    /// As the job says.
    pub fn params(&mut self, version: i64, values: &Value) -> Result<(), Refused> {
        self.commit();
        let empty = Map::new();
        let values = values.as_object().unwrap_or(&empty).clone();
        let mut effects = std::mem::take(&mut self.effects);
        let result = self.job.set_params(version, &values, &mut self.scope(&mut effects, None));
        self.effects = effects;
        result
    }

    /// Replaces the job by a new one that has only the snapshot of the old. Returns its entries.
    pub fn restore(&mut self) -> usize {
        self.commit();
        let mut entries = Vec::new();
        let mut number = 0_usize;
        self.job.tables(&mut |table| {
            table.snapshot(&mut |key, value| entries.push((number, key.to_vec(), value.map(<[u8]>::to_vec))));
            number += 1;
        });
        let (stats, params, version) = (self.job.stats(), self.job.params(), self.job.params_version());
        self.job = (self.make)();
        self.job.restore_stats(stats);
        let mut result = self.job.load_params(version, &params);
        for (table_number, key, value) in &entries {
            let mut number = 0_usize;
            self.job.tables(&mut |table| {
                if number == *table_number
                    && let Err(error) = table.load(key, value.as_deref())
                {
                    result = Err(Refused(error.to_string()));
                }
                number += 1;
            });
        }
        if let Err(error) = result {
            self.effects.dead(format!("restore: {error}"));
        }
        self.start();
        entries.len()
    }

    /// Takes what was emitted to a topic since the last call.
    pub fn emitted(&mut self, topic: &str) -> Vec<Value> {
        self.keyed(topic).into_iter().map(|(_, value)| value).collect()
    }

    /// Takes what was emitted to a topic since the last call, with keys.
    pub fn keyed(&mut self, topic: &str) -> Vec<(String, Value)> {
        let effects = std::mem::take(&mut self.effects);
        let mut rest = Effects::default();
        let mut out = Vec::new();
        for effect in effects.iter() {
            match effect {
                Effect::Emit { topic: to, key, value } => {
                    let key = String::from_utf8_lossy(effects.bytes(key)).into_owned();
                    let value = serde_json::from_slice(effects.bytes(value)).unwrap_or(Value::Null);
                    if *to == topic {
                        out.push((key, value));
                    } else {
                        rest.emit(to, &key, &value);
                    }
                }
                Effect::Marker { .. } => {}
                Effect::Late { job, watermark } => rest.late(job, *watermark),
                Effect::Dead { reason } => rest.dead(reason.clone()),
            }
        }
        self.effects = rest;
        out
    }

    /// Takes everything that has not been taken yet.
    pub fn rest(&mut self) -> Vec<Effect> {
        let rest = self.effects.iter().cloned().collect();
        self.effects.clear();
        rest
    }

    /// Whether nothing is held for any key.
    pub fn state_is_empty(&mut self) -> bool {
        let mut entries = 0;
        self.job.tables(&mut |table| entries += table.len());
        entries == 0 && self.job.pending() == 0
    }

    /// The job.
    pub fn job(&mut self) -> &mut dyn Job<E> {
        &mut *self.job
    }
}
