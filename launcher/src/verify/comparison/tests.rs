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
    json!({"window": "tumbling", "window_size_s": size}).as_object().unwrap().clone()
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
            let record = Record { topic: topic::IOT_SENSORS, place, created_ms: Some(*at), value: &value };
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
    differs(&|told| told.sides.dead.extend([place(4)]), "0/4 can be read, and is a dead letter");
    differs(&|told| told.sides.late.extend([place(4)]), "0/4 is a late event, and was in time");
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
