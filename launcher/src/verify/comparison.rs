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
        let row = value.as_ref().filter(|_| topic == oracle.input).and_then(|value| (oracle.row)(value));
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
        let doubtful = |window: Window| oracle.streams.len() > 1 || window.0 < unmixed.alone;
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
mod tests {
    use super::super::jobs;
    use super::*;
    use millrace_wire::topic;
    use serde_json::json;

    /// Averages of windows of 10 s: what they are told, and how it ends.
    struct Told {
        params: Params,
        readings: Vec<(i64, f64)>,
        results: Vec<Value>,
        sides: Sides,
        changes: Vec<Change>,
    }

    fn averages() -> &'static Oracle {
        jobs::ALL.iter().find(|oracle| oracle.job == "humidity-average").unwrap()
    }

    fn params(size: i64) -> Params {
        json!({"window_size_s": size}).as_object().unwrap().clone()
    }

    fn result(start: i64, values: &[f64]) -> Value {
        let of = |fold: fn(f64, f64) -> f64, first| values.iter().copied().fold(first, fold);
        json!({"sensorId": "s", "location": "attic", "window_start": start, "window_end": start + 10_000,
               "average": values.iter().sum::<f64>() / values.len() as f64, "min": of(f64::min, f64::INFINITY),
               "max": of(f64::max, f64::NEG_INFINITY), "count": values.len()})
    }

    /// Readings of offsets 0 to 4 in windows from 0, 10 s and 20 s, of which the last one closes the two before.
    fn told() -> Told {
        Told {
            params: params(10),
            readings: vec![(1_000, 50.0), (2_000, 60.0), (11_000, 70.0), (12_000, 80.0), (25_000, 40.0)],
            results: vec![result(0, &[50.0, 60.0]), result(10_000, &[70.0, 80.0])],
            sides: Sides::default(),
            changes: Vec::new(),
        }
    }

    impl Told {
        fn verdict(self, range: Range) -> Verdict {
            let mut comparison = Comparison::new(averages(), &self.params, self.sides, self.changes);
            let end = range.ends(vec![i64::try_from(self.readings.len()).unwrap()])[0];
            for (offset, (at, value)) in (0..end).zip(&self.readings) {
                let value = json!({"timestamp": at, "sensorId": "s", "deviceType": "humidity", "value": value,
                                   "location": "attic"});
                let (value, place) = (value.to_string().into_bytes(), (0, offset));
                let record =
                    Record { topic: topic::IOT_SENSORS, place, created_ms: Some(*at), value: &value };
                comparison.record(&record);
            }
            self.results.into_iter().for_each(|result| comparison.result(result));
            comparison.verdict(range)
        }
    }

    fn brief(verdict: &Verdict) -> (usize, usize, usize, usize) {
        (verdict.records, verdict.windows, verdict.open, verdict.differences.len())
    }

    fn place(offset: i64) -> Place {
        (topic::IOT_SENSORS.to_owned(), 0, offset)
    }

    #[test]
    fn stream_and_batch_agree() {
        let verdict = told().verdict(Range::default());
        assert_eq!(brief(&verdict), (5, 2, 1, 0), "{verdict:?}");
    }

    #[test]
    fn every_kind_of_difference_is_found_and_named() {
        let differs = |change: &dyn Fn(&mut Told), says: &str| {
            let mut told = told();
            change(&mut told);
            let differences = told.verdict(Range::default()).differences;
            assert!(differences.len() == 1 && differences[0].contains(says), "{says}: {differences:?}");
        };
        differs(&|told| told.results[1] = result(10_000, &[70.0]), "s, window 10000 to 20000: count is 1");
        differs(&|told| told.results[0]["average"] = json!(55.1), "average is 55.1");
        differs(&|told| told.results[0]["location"] = json!("cellar"), "location is \"cellar\"");
        differs(&|told| drop(told.results.pop()), "no result");
        differs(&|told| told.results.push(result(0, &[50.0, 60.0])), "2 results");
        differs(&|told| told.results.push(result(-10_000, &[1.0])), "a result, and no record for it");
        differs(&|told| drop(told.sides.dead.insert(place(4))), "0/4 can be read, and is a dead letter");
        differs(&|told| drop(told.sides.late.insert(place(4))), "0/4 is a late event, and was in time");
    }

    #[test]
    fn a_late_event_is_in_no_window() {
        let mut late = told();
        late.readings.push((3_000, 90.0));
        late.sides.late.insert(place(5));
        let verdict = late.verdict(Range::default());
        assert_eq!((verdict.late, brief(&verdict)), (1, (5, 2, 1, 0)), "{verdict:?}");
    }

    #[test]
    fn a_range_has_its_records_and_windows_alone() {
        // From the middle of the first window: its result counts more than the range has.
        let verdict = told().verdict(Range { from: 1, to: None });
        assert_eq!(brief(&verdict), (5, 1, 2, 0), "{verdict:?}");
        // To before the record that closes both: event time is at 7 s.
        let verdict = told().verdict(Range { from: 0, to: Some(4) });
        assert_eq!(brief(&verdict), (4, 0, 2, 0), "{verdict:?}");
        let mut wrong = told();
        wrong.results[1]["max"] = json!(81.0);
        let differences = wrong.verdict(Range { from: 2, to: Some(5) }).differences;
        assert!(differences.len() == 1 && differences[0].contains("max is 81"), "{differences:?}");
        // What is wrong outside of the range is not its concern.
        let mut wrong = told();
        wrong.results[0]["max"] = json!(81.0);
        assert_eq!(brief(&wrong.verdict(Range { from: 2, to: Some(5) })), (5, 1, 2, 0));
    }

    #[test]
    fn windows_beside_those_of_other_parameters_are_judged_where_no_record_is_in_doubt() {
        let verdict = |given_at, late: Option<i64>| {
            let mut told = told();
            told.changes = vec![Change::new(averages(), given_at, (&params(300), &params(10)))];
            told.readings.extend(late.map(|at| (at, 65.0)));
            told.results[0]["count"] = json!(7);
            told.verdict(Range::default())
        };
        // The stream begins with the new parameters: every window counts, and what is late must be a late event.
        assert_eq!(brief(&verdict(-10_000, None)), (5, 2, 1, 1));
        assert_eq!(brief(&verdict(-10_000, Some(13_000))), (6, 2, 1, 2));
        // 2 s of event time may have been seen before the change: the first window is from before.
        assert_eq!(brief(&verdict(-3_000, None)), (5, 1, 2, 0));
        // What is late for the second window may be in time for one of 5 minutes, and is then no late event.
        assert_eq!(brief(&verdict(-3_000, Some(13_000))), (6, 0, 3, 0));
    }
}
