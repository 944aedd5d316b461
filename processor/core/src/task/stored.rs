//! What a task writes besides the tables of its jobs.

use serde::{Deserialize, Serialize};

use super::Totals;
use crate::invariant::Stats;
use crate::watermark::Valve;

/// Where an entry belongs. The task's own entry has no job.
#[derive(Serialize, Deserialize)]
pub(super) struct EntryKey<'a> {
    pub job: &'a str,
    pub table: u16,
    #[serde(borrow)]
    pub key: &'a [u8],
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
