//! The window operator against a plain model of it, over random records, watermarks, lateness and restore points.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Aggregate, WindowSpec};
use crate::params::NoParams;
use crate::stream::{Job, job};
use crate::testing::Harness;
use crate::time::EventTime;

type Event = (String, i64);

struct Sum;

impl Aggregate<Event> for Sum {
    type Acc = (i64, u64);
    type Out = (i64, u64);

    fn create(&self) -> (i64, u64) {
        (0, 0)
    }

    fn add(&self, acc: &mut (i64, u64), event: &Event, _: EventTime) {
        acc.0 += event.1;
        acc.1 += 1;
    }

    fn merge(&self, acc: &mut (i64, u64), other: &(i64, u64)) {
        *acc = (acc.0 + other.0, acc.1 + other.1);
    }

    fn result(&self, acc: &(i64, u64)) -> (i64, u64) {
        *acc
    }
}

fn sums(spec: WindowSpec, lateness: i64) -> Box<dyn Job<Event>> {
    job::<Event, NoParams>("sums", "Sums.")
        .source(|event: &Event| Some(event))
        .key_by(|event| &event.0)
        .window(move |_| spec)
        .allowed_lateness(move |_| lateness)
        .aggregate(Sum)
        .map(|r, _, _| (r.key.to_string(), r.window, r.value))
        .to(|_| ("out", ""))
}

#[derive(Debug, Clone)]
enum Step {
    Record { key: u8, at: i64, value: i64 },
    Watermark(i64),
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8, -120..200_i64, -9..9_i64).prop_map(|(key, at, value)| Step::Record { key, at, value }),
        2 => (0..40_i64).prop_map(Step::Watermark),
        1 => Just(Step::Restore),
    ]
}

/// What the definition says, computed again from all records at every step.
#[derive(Default)]
struct Model {
    windows: BTreeMap<(i64, String), (i64, u64)>,
    late: u64,
}

impl Model {
    fn result(&self, key: &(i64, String), size: i64) -> Value {
        json!([key.1, {"start": key.0, "end": key.0 + size}, self.windows[key]])
    }
}

proptest! {
    #[test]
    fn tumbling_windows_are_what_the_definition_says(
        size in 1..60_i64, offset in -59..59_i64, lateness in 0..50_i64, steps in prop::collection::vec(step(), 1..80)
    ) {
        let spec = WindowSpec::Tumbling { size, offset: offset % size };
        let mut test = Harness::new(move || sums(spec, lateness));
        let (mut model, mut watermark) = (Model::default(), -150_i64);
        test.watermark(watermark);
        for step in steps {
            let mut expected = Vec::new();
            match step {
                Step::Record { key, at, value } => {
                    let start = at - (at - offset % size).rem_euclid(size);
                    let place = (start, format!("k{key}"));
                    test.record(&(place.1.clone(), value), at);
                    if start + size - 1 + lateness <= watermark {
                        model.late += 1;
                    } else {
                        let acc = model.windows.entry(place.clone()).or_default();
                        *acc = (acc.0 + value, acc.1 + 1);
                        if start + size - 1 <= watermark {
                            expected.push(model.result(&place, size));
                        }
                    }
                }
                Step::Watermark(by) => {
                    let before = watermark;
                    watermark += by;
                    test.watermark(watermark);
                    for place in model.windows.keys().filter(|(start, _)| (before + 1..=watermark).contains(&(start + size - 1))) {
                        expected.push(model.result(place, size));
                    }
                    model.windows.retain(|(start, _), _| start + size - 1 + lateness > watermark);
                }
                Step::Restore => {
                    test.restore();
                }
            }
            prop_assert_eq!(test.emitted("out"), expected);
            let (stats, pending) = (test.job().stats(), test.job().pending());
            prop_assert_eq!(pending, model.windows.values().map(|(_, count)| count).sum::<u64>());
            prop_assert_eq!(stats.late, model.late);
            prop_assert!(stats.balances(pending) && stats.violations == 0, "{:?} {}", stats, pending);
        }
    }
}
