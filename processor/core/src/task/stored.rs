//! What a task writes besides the tables of its jobs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Totals;
use super::app::{AppTask, Time};
use crate::invariant::Stats;
use crate::state::{Change, StateError, encode};
use crate::time::Watermark;
use crate::watermark::Valve;

/// Where an entry belongs. The task's own entry has no job.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryKey<'a> {
    pub job: &'a str,
    pub table: u16,
    #[serde(borrow)]
    pub key: &'a [u8],
}

impl EntryKey<'_> {
    /// What the keys of a table's entries begin with, before the length of the table's own key.
    pub fn prefix(job: &str, table: u16) -> Vec<u8> {
        let mut prefix = Vec::new();
        encode(&(job, table), &mut prefix);
        prefix
    }
}

/// What a task knows besides its jobs' tables: written with every commit, so that it says where the state stands.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Meta {
    pub sources: Vec<SourceMeta>,
    pub watermark: Option<i64>,
    pub totals: Totals,
    pub jobs: Vec<JobMeta>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SourceMeta {
    pub topic: String,
    pub next_offset: Option<i64>,
    pub max: Option<i64>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct JobMeta {
    pub name: String,
    pub params_version: i64,
    /// JSON.
    pub params: String,
    pub stats: Stats,
}

/// Where the repartition topics stand, by topic: an entry of its own, which apps without such topics do not have.
pub(super) type Valves = Vec<(String, Valve)>;

/// The task's own entries, by table.
pub(super) const META: u16 = 0;
/// See [`Valves`].
pub(super) const VALVES: u16 = 1;

/// [`Stats::windowed`] and [`Stats::tardy`] by job: an entry of its own, which apps without windows do not have.
pub(super) type Windowed = Vec<(String, u64, u64)>;
/// See [`Windowed`].
pub(super) const WINDOWED: u16 = 2;

impl<E: 'static> AppTask<E> {
    pub(super) fn meta(&self) -> Meta {
        Meta {
            sources: self
                .app
                .sources
                .iter()
                .zip(&self.inputs)
                .map(|(source, input)| SourceMeta {
                    topic: source.topic.to_owned(),
                    next_offset: input.next_offset,
                    max: input.max(),
                })
                .collect(),
            watermark: self.multiplexer.watermark().get(),
            totals: self.totals,
            jobs: self
                .jobs
                .iter()
                .map(|job| JobMeta {
                    name: job.descriptor().name.to_owned(),
                    params_version: job.params_version(),
                    params: Value::Object(job.params()).to_string(),
                    stats: job.stats(),
                })
                .collect(),
        }
    }

    pub(super) fn load_meta(&mut self, meta: Meta) -> Result<(), StateError> {
        self.totals = meta.totals;
        self.multiplexer.restore(meta.watermark.map_or(Watermark::NONE, Watermark));
        for stored in meta.sources {
            let at = self.app.sources.iter().position(|source| source.topic == stored.topic);
            if let Some(input) = at.and_then(|at| self.inputs.get_mut(at)) {
                input.next_offset = stored.next_offset;
                match &mut input.time {
                    Time::Stream(number, generator) => {
                        generator.restore(stored.max);
                        if stored.max.is_some() {
                            // Otherwise the slowest stream would be whichever has had no record since.
                            self.multiplexer.update(*number, generator.watermark());
                        }
                    }
                    Time::Reference => {}
                    Time::Repartition(downstream) => downstream.max = stored.max,
                }
            }
        }
        for stored in meta.jobs {
            let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == stored.name) else {
                continue;
            };
            let Stats { windowed, tardy, .. } = job.stats();
            job.restore_stats(Stats { windowed, tardy, ..stored.stats });
            if stored.params_version != job.params_version() {
                let values: Map<String, Value> =
                    serde_json::from_str(&stored.params).map_err(|e| StateError::Damaged(e.to_string()))?;
                job.load_params(stored.params_version, &values).map_err(StateError::Damaged)?;
            }
        }
        Ok(())
    }

    fn valves(&self) -> Valves {
        let sources = self.app.sources.iter().zip(&self.inputs);
        sources
            .filter_map(|(source, input)| match &input.time {
                Time::Repartition(downstream) => Some((source.topic.to_owned(), downstream.valve.clone())),
                _ => None,
            })
            .collect()
    }

    pub(super) fn load_valves(&mut self, valves: Valves) {
        for (topic, stored) in valves {
            let at = self.app.sources.iter().position(|source| source.topic == topic);
            let input = at.and_then(|at| self.inputs.get_mut(at));
            if let Some(Time::Repartition(downstream)) = input.map(|input| &mut input.time) {
                downstream.valve = stored;
            }
        }
    }

    fn windowed(&self) -> Windowed {
        let jobs = self.jobs.iter().map(|job| (job.descriptor().name.to_owned(), job.stats()));
        jobs.filter(|(_, stats)| stats.windowed > 0)
            .map(|(name, stats)| (name, stats.windowed, stats.tardy))
            .collect()
    }

    pub(super) fn load_windowed(&mut self, all: Windowed) {
        for (name, windowed, tardy) in all {
            if let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == name) {
                job.restore_stats(Stats { windowed, tardy, ..job.stats() });
            }
        }
    }

    /// The task's own entries of state.
    pub(super) fn own(&self, entry: &mut Change<'_>) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        encode(&EntryKey { job: "", table: META, key: &[] }, &mut key);
        encode(&self.meta(), &mut value);
        entry(&key, Some(&value));
        let valves = self.valves();
        if !valves.is_empty() {
            encode(&EntryKey { job: "", table: VALVES, key: &[] }, &mut key);
            encode(&valves, &mut value);
            entry(&key, Some(&value));
        }
        let windowed = self.windowed();
        if !windowed.is_empty() {
            encode(&EntryKey { job: "", table: WINDOWED, key: &[] }, &mut key);
            encode(&windowed, &mut value);
            entry(&key, Some(&value));
        }
    }
}
