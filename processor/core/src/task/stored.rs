//! What a task writes besides the tables of its jobs.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::app::{AppTask, SourceState, Time};
use super::{Division, Totals};
use crate::invariant::{ByName, Stats};
use crate::state::{Change, StateError, decode, encode};
use crate::time::Watermark;
use crate::watermark::{Standing, Valve};

/// Where an entry belongs. The task's own entry has no job.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryKey<'a> {
    pub job: &'a str,
    pub table: u16,
    #[serde(borrow)]
    pub key: &'a [u8],
}

impl<'a> EntryKey<'a> {
    /// It borrows from the bytes, so it is read without the helper for owned types.
    pub fn read(key: &'a [u8]) -> Result<Self, StateError> {
        let (version, rest) = key.split_first().ok_or_else(|| StateError::Damaged("no key".to_owned()))?;
        if *version != crate::state::VERSION {
            return Err(StateError::Version(*version));
        }
        postcard::from_bytes(rest).map_err(|e| StateError::Damaged(e.to_string()))
    }

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
type Valves = Vec<(String, Valve)>;

/// The task's own entries, by table.
const META: u16 = 0;
/// See [`Valves`].
const VALVES: u16 = 1;

/// [`Stats::windowed`] and [`Stats::tardy`] by job: an entry of its own, which apps without windows do not have.
type Windowed = Vec<(String, u64, u64)>;
/// See [`Windowed`].
const WINDOWED: u16 = 2;

/// What the streams know besides [`SourceMeta`], by topic: an entry of its own, which older builds did not write.
type Standings = Vec<(String, Standing)>;
/// See [`Standings`].
const STANDINGS: u16 = 3;

/// [`Stats::dead`] and [`Stats::by_name`] by job: an entry of its own, which tasks without such do not have.
type Fates = Vec<(String, u64, Vec<(String, u64)>)>;
/// See [`Fates`].
const FATES: u16 = 4;

/// See [`Division`]: an entry of its own, which only tasks have whose state is to be divided.
const DIVISION: u16 = 5;

impl Division {
    /// The entry of state that keeps a task from being run until its state has been divided.
    pub fn entry(self) -> (Vec<u8>, Vec<u8>) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        encode(&EntryKey { job: "", table: DIVISION, key: &[] }, &mut key);
        encode(&(self.from, self.to), &mut value);
        (key, value)
    }
}

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

    fn load_meta(&mut self, meta: Meta) -> Result<(), StateError> {
        self.totals = meta.totals;
        self.multiplexer.restore(meta.watermark.map_or(Watermark::NONE, Watermark));
        for stored in meta.sources {
            let at = self.app.sources.iter().position(|source| source.topic == stored.topic);
            if let Some(input) = at.and_then(|at| self.inputs.get_mut(at)) {
                input.next_offset = stored.next_offset;
                match &mut input.time {
                    Time::Stream(_, generator) => generator.restore(stored.max),
                    Time::Reference => {}
                    Time::Repartition(downstream) => downstream.max = stored.max,
                }
            }
        }
        for stored in meta.jobs {
            let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == stored.name) else {
                continue;
            };
            // These have entries of their own.
            let Stats { windowed, tardy, dead, by_name, .. } = job.stats();
            job.restore_stats(Stats { windowed, tardy, dead, by_name, ..stored.stats });
            if stored.params_version != job.params_version() {
                let values: Map<String, Value> =
                    serde_json::from_str(&stored.params).map_err(|e| StateError::Damaged(e.to_string()))?;
                job.load_params(stored.params_version, &values)
                    .map_err(|refused| StateError::Damaged(refused.0))?;
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

    fn load_valves(&mut self, valves: Valves) {
        for (topic, stored) in valves {
            let at = self.app.sources.iter().position(|source| source.topic == topic);
            let input = at.and_then(|at| self.inputs.get_mut(at));
            if let Some(Time::Repartition(downstream)) = input.map(|input| &mut input.time) {
                downstream.valve = stored;
            }
        }
    }

    fn standings(&self) -> Standings {
        let sources = self.app.sources.iter().zip(&self.inputs);
        sources
            .filter_map(|(source, input)| match &input.time {
                Time::Stream(_, generator) => Some((source.topic.to_owned(), generator.standing())),
                _ => None,
            })
            .collect()
    }

    fn load_standings(&mut self, standings: Standings) {
        for (topic, standing) in standings {
            let at = self.app.sources.iter().position(|source| source.topic == topic);
            let input = at.and_then(|at| self.inputs.get_mut(at));
            if let Some((_, generator)) = input.and_then(SourceState::generator) {
                generator.restore_standing(standing);
            }
        }
    }

    fn windowed(&self) -> Windowed {
        let jobs = self.jobs.iter().map(|job| (job.descriptor().name.to_owned(), job.stats()));
        jobs.filter(|(_, stats)| stats.windowed > 0)
            .map(|(name, stats)| (name, stats.windowed, stats.tardy))
            .collect()
    }

    fn load_windowed(&mut self, all: Windowed) {
        for (name, windowed, tardy) in all {
            if let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == name) {
                job.restore_stats(Stats { windowed, tardy, ..job.stats() });
            }
        }
    }

    fn fates(&self) -> Fates {
        let jobs = self.jobs.iter().map(|job| (job.descriptor().name.to_owned(), job.stats()));
        jobs.filter(|(_, stats)| stats.dead > 0 || stats.by_name != ByName::default())
            .map(|(name, stats)| {
                let counted = stats.by_name.iter().filter(|(_, times)| *times > 0);
                (name, stats.dead, counted.map(|(violation, times)| (violation.to_owned(), times)).collect())
            })
            .collect()
    }

    fn load_fates(&mut self, fates: Fates) {
        for (name, dead, counted) in fates {
            if let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == name) {
                let mut by_name = ByName::default();
                counted.iter().for_each(|(violation, times)| by_name.add(violation, *times));
                job.restore_stats(Stats { dead, by_name, ..job.stats() });
            }
        }
    }

    /// Puts back an entry of the task's own. Returns false if this build does not know it.
    pub(super) fn load_own(&mut self, table: u16, value: Option<&[u8]>) -> Result<bool, StateError> {
        match table {
            META => self.load_meta(read(value)?)?,
            VALVES => self.load_valves(read(value)?),
            WINDOWED => self.load_windowed(read(value)?),
            STANDINGS => self.load_standings(read(value)?),
            FATES => self.load_fates(read(value)?),
            DIVISION => {
                let stored: Option<(i32, i32)> = value.map(decode).transpose()?;
                self.division = stored.map(|(from, to)| Division { from, to });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The task's own entries of state.
    pub(super) fn own(&self, entry: &mut Change<'_>) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        encode(&EntryKey { job: "", table: META, key: &[] }, &mut key);
        encode(&self.meta(), &mut value);
        entry(&key, Some(&value));
        let (valves, windowed, standings) = (self.valves(), self.windowed(), self.standings());
        own_table(VALVES, &valves, entry);
        own_table(WINDOWED, &windowed, entry);
        own_table(STANDINGS, &standings, entry);
        own_table(FATES, &self.fates(), entry);
        if let Some(division) = self.division {
            let (key, value) = division.entry();
            entry(&key, Some(&value));
        }
    }
}

fn read<T: Default + DeserializeOwned>(value: Option<&[u8]>) -> Result<T, StateError> {
    value.map(decode).transpose().map(Option::unwrap_or_default)
}

/// An entry of the task's own, unless there is nothing in it.
fn own_table<T: Serialize>(table: u16, rows: &[T], entry: &mut Change<'_>) {
    if !rows.is_empty() {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        encode(&EntryKey { job: "", table, key: &[] }, &mut key);
        encode(&rows, &mut value);
        entry(&key, Some(&value));
    }
}
