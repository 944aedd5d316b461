//! What batch makes of the records, against what the stream has emitted.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use clap::Args;
use serde_json::Value;

use super::batch::{self, Fields, Group, Oracle, Params, Placed, Window};
use super::change::{Change, unmixed};
use super::event_time::{Newest, OUT_OF_ORDER};
use super::fields;

/// Which records are compared.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Range {
    /// Only windows whose records begin at this offset of their partition or behind it
    #[arg(long, default_value_t = 0)]
    pub from: i64,
    /// Only records before this offset of their partition; all that there are now if not said
    #[arg(long)]
    pub to: Option<i64>,
}

impl Range {
    /// Where the partitions of a stream, which end here, end in this range.
    pub fn ends(&self, ends: Vec<i64>) -> Vec<i64> {
        let limit = self.to.unwrap_or(i64::MAX);
        ends.into_iter().map(|end| end.min(limit)).collect()
    }
}

/// A record's topic, partition and offset.
pub type Place = (String, i32, i64);

/// What the side outputs say of a job.
#[derive(Debug, Default)]
pub struct Sides {
    /// Records that came too late.
    pub late: HashSet<Place>,
    /// Key, event time, number and sum of partial sums that came too late.
    pub partials: Vec<(String, i64, f64, f64)>,
    /// Records that can't be read.
    pub dead: HashSet<Place>,
}

/// A record of a stream.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its stream.
    pub topic: &'a str,
    /// Partition and offset.
    pub place: (i32, i64),
    /// When it was created, epoch ms.
    pub created_ms: Option<i64>,
    /// JSON, or what can't be read.
    pub value: &'a [u8],
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Records of the job.
    pub records: usize,
    /// Late ones.
    pub late: usize,
    /// Unreadable ones of its app.
    pub dead: usize,
    /// Windows compared.
    pub windows: usize,
    /// Windows that were not over at the end of the range, or began before it or before the last change of parameters; and
    /// overlapping ones of which one may have been over when a record came.
    pub open: usize,
    /// Key, window and what is wrong with it.
    pub differences: Vec<String>,
}

/// A comparison under way: all records of the streams and of the output, in the order of their partitions, then the verdict.
pub struct Comparison<'a> {
    oracle: &'a Oracle,
    params: &'a Params,
    sides: Sides,
    changes: Vec<Change>,
    rows: Vec<Placed>,
    newest: Newest,
    results: BTreeMap<(String, Window), Vec<Value>>,
    verdict: Verdict,
}

impl<'a> Comparison<'a> {
    /// Of a job with these parameters in force, which were changed so.
    pub fn new(oracle: &'a Oracle, params: &'a Params, sides: Sides, changes: Vec<Change>) -> Self {
        let verdict = Verdict { dead: sides.dead.len(), ..Verdict::default() };
        let (newest, results) = (Newest::default(), BTreeMap::new());
        Self { oracle, params, sides, changes, rows: Vec::new(), newest, results, verdict }
    }

    /// Takes a record of one of the streams.
    pub fn record(&mut self, record: &Record<'_>) {
        let Record { topic, place, created_ms, value } = *record;
        let oracle = self.oracle;
        let named = (topic.to_owned(), place.0, place.1);
        let value: Option<Value> = serde_json::from_slice(value).ok();
        let ours = |value: &&Value| topic == oracle.input && fields::admitted(value, self.params);
        let row = value.as_ref().filter(ours).and_then(oracle.row);
        let is_dead = self.sides.dead.contains(&named);
        let at = value.as_ref().and_then(fields::at).filter(|_| !is_dead);
        let before = self.newest.see(topic, place.0, at, created_ms);
        if let (Some(created_ms), Some(at)) = (created_ms, at) {
            self.changes.iter_mut().for_each(|change| change.see(created_ms, at));
        }
        let Some(row) = row else { return };
        let name = || format!("{topic}/{}/{}", place.0, place.1);
        if is_dead {
            self.verdict.differences.push(format!("{} can be read, and is a dead letter", name()));
        } else if self.sides.late.contains(&named) {
            self.verdict.late += 1;
            // With several streams another one may hold event time back or have pushed it.
            let due = before.is_some_and(|before| before - OUT_OF_ORDER > row.at);
            if oracle.streams.len() == 1 && !oracle.global && !due {
                self.verdict.differences.push(format!("{} is a late event, and was in time", name()));
            }
        } else {
            let ahead = before.map_or(i64::MIN, |before| before - OUT_OF_ORDER);
            self.rows.push(Placed { place, ahead, row });
        }
    }

    /// Takes a record of the output topic.
    pub fn result(&mut self, value: Value) {
        if let Some(place) = (self.oracle.result)(&value, self.params) {
            self.results.entry(place).or_default().push(value);
        }
    }

    /// What it comes to.
    pub fn verdict(self, range: Range) -> Verdict {
        let Self { oracle, params, sides, changes, rows, newest, mut results, mut verdict } = self;
        verdict.records = rows.len();
        let (lateness, unmixed) = (fields::lateness(params), unmixed(&changes));
        // What is too late for windows of one kind may be in time for those of the other.
        let doubtful = |window: Window| oracle.which.is_some() || window.0 < unmixed.alone;
        let over = |window: Window, group: &Group| {
            let partitions: BTreeSet<i32> = group.places.iter().map(|(partition, _)| *partition).collect();
            let event_time = newest.event_time(oracle, &partitions);
            let inside = group.places.iter().all(|(_, offset)| *offset >= range.from);
            inside && event_time.is_some_and(|at| at >= window.1 - 1 + lateness)
        };
        for ((key, window), mut group) in batch::group(rows, (oracle.windows)(params), lateness, doubtful) {
            let found = results.remove(&(key.clone(), window)).unwrap_or_default();
            let split = oracle.merge.is_some() && found.is_empty();
            let parts = if split { parts(&mut results, &key, window) } else { Vec::new() };
            if window.0 < unmixed.since || group.uncertain || !over(window, &group) {
                verdict.open += 1;
                continue;
            }
            verdict.windows += 1;
            let of_window =
                |(k, at, ..): &&(String, i64, f64, f64)| *k == key && (window.0..window.1).contains(at);
            for (_, at, count, sum) in sides.partials.iter().filter(of_window) {
                verdict.late += *count as usize;
                group.without(*at, *count, *sum);
            }
            let mut expected = group.expected(oracle, params);
            let found = match (oracle.merge, found.as_slice()) {
                (Some(merge), []) => {
                    let merged: Vec<Value> = merge(&parts).into_iter().collect();
                    if let (Some(expected), [merged]) = (&mut expected, merged.as_slice()) {
                        expected.retain(|(field, _)| merged.get(field).is_some());
                    }
                    merged
                }
                _ => found,
            };
            if let Some(what) = judge(oracle, &found, expected) {
                verdict.differences.push(format!("{key}, window {} to {}: {what}", window.0, window.1));
            }
        }
        // Results that nothing accounts for. With a range, those of other offsets are such too; and results go on coming.
        if range.from == 0 && range.to.is_none() {
            let horizon = newest.all();
            let counts = |(_, window): &&(String, Window)| window.0 >= unmixed.since && window.1 <= horizon;
            for (key, window) in results.keys().filter(counts) {
                let text =
                    format!("{key}, window {} to {}: a result, and no record for it", window.0, window.1);
                verdict.differences.push(text);
            }
        }
        verdict
    }
}

/// Takes out the results in a session: one that was over when an event near its end came is two in the stream and one in batch,
/// and so is one on both sides of a change.
fn parts(results: &mut BTreeMap<(String, Window), Vec<Value>>, key: &str, session: Window) -> Vec<Value> {
    let begins = |at: i64, end: i64| (key.to_owned(), (at, end));
    let begun = results.range(begins(session.0, i64::MIN)..=begins(session.1, i64::MAX));
    let places: Vec<_> =
        begun.map(|(place, _)| place).filter(|(_, window)| window.1 <= session.1).cloned().collect();
    places.iter().filter_map(|place| results.remove(place)).flatten().collect()
}

/// What is wrong with the results of a window.
fn judge(oracle: &Oracle, found: &[Value], expected: Option<Fields>) -> Option<String> {
    match (found, expected) {
        ([], None) => None,
        ([], Some(_)) => Some("no result".to_owned()),
        ([.., _], None) => Some(format!("{} results, none is expected", found.len())),
        ([_, _, ..], Some(_)) if !oracle.updated => Some(format!("{} results", found.len())),
        ([.., last], Some(expected)) => batch::differs(last, &expected),
    }
}

#[cfg(test)]
mod tests;
