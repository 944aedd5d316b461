//! Patterns that change while they run, through the API that jobs use.

use garde::Validate;
use schemars::JsonSchema;
use serde_json::{Value, json};

use super::*;
use crate::cep::table::{EntryKey, Meta};
use crate::state::{decode, encode};
use crate::stream::{Job, job};
use crate::testing::Harness;
use crate::time::TimeDomain;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// What to look for.
    #[garde(custom(valid))]
    pattern: Pattern,
}

impl Default for Params {
    fn default() -> Self {
        let pattern =
            Pattern::begin("first").where_(is('a')).followed_by("second").where_(is('b')).within(10);
        Self { pattern }
    }
}

fn build(limits: Limits) -> Box<dyn Job<Letter>> {
    job::<Letter, Params>("letters", "A test.")
        .source(|letter: &Letter| Some(letter))
        .key_by(|_| "k")
        .pattern_within(|params: &Params| params.pattern.clone(), TimeDomain::Event, limits)
        .to(|_| ("out", "k"))
}

fn harness() -> Harness<Letter> {
    Harness::new(|| build(Limits::default()))
}

fn counts(test: &mut Harness<Letter>) -> Counts {
    let (mut wanted, mut counts) = (Vec::new(), Counts::default());
    encode(&EntryKey::Meta, &mut wanted);
    test.job().tables(&mut |table| {
        table.snapshot(&mut |key, value| {
            if key == wanted {
                counts = decode::<Meta>(value.unwrap()).unwrap().counts;
            }
        });
    });
    counts
}

fn other() -> Value {
    json!({"pattern": Pattern::begin("first").where_(is('b')).followed_by("second").where_(is('c'))})
}

#[test]
fn a_new_pattern_ends_partial_matches_and_takes_over_what_waits() {
    let mut test = harness();
    test.record(&Letter('a'), 1);
    test.watermark(1);
    test.record(&Letter('b'), 2);
    test.params(1, &other()).unwrap();
    test.watermark(2);
    assert_eq!((test.emitted("out"), counts(&mut test).replaced), (vec![], 1));
    test.restore();
    test.record(&Letter('c'), 3);
    test.watermark(3);
    let found =
        json!({"match": {"key": "k", "stages": {"first": ["b"], "second": ["c"]}, "started": 2, "ended": 3}});
    assert_eq!(test.emitted("out"), [found]);
    assert!(test.state_is_empty());
    // The same pattern again changes nothing.
    test.record(&Letter('b'), 4);
    test.watermark(4);
    test.params(2, &other()).unwrap();
    assert_eq!((counts(&mut test).replaced, test.state_is_empty()), (1, false));
}

#[test]
fn parameters_refuse_a_pattern_that_cannot_be_compiled() {
    let mut test = harness();
    let endless = Pattern::begin("first").not_followed_by("never");
    let error = test.params(1, &json!({"pattern": endless})).unwrap_err();
    assert!(error.0.contains("pattern") && error.0.contains("give the pattern a `within`"), "{error}");
    let schema = test.job().descriptor().schema.to_string();
    assert!(schema.contains("not_followed_by") && schema.contains("starts_with"), "{schema}");
    test.record(&Letter('a'), 1);
    test.record(&Letter('b'), 2);
    test.watermark(2);
    assert_eq!(test.emitted("out").len(), 1);
}

#[test]
fn a_state_of_another_pattern_is_dropped_when_it_is_restored() {
    let mut test = harness();
    test.record(&Letter('a'), 1);
    test.watermark(1);
    let mut entries = Vec::new();
    test.job().tables(&mut |table| {
        table.snapshot(&mut |key, value| entries.push((key.to_vec(), value.unwrap().to_vec())));
    });
    let mut test = harness();
    test.params(1, &other()).unwrap();
    test.job().tables(&mut |table| {
        entries.iter().for_each(|(key, value)| table.load(key, Some(value)).unwrap());
    });
    test.restore();
    assert_eq!(counts(&mut test).replaced, 1);
    assert!(test.state_is_empty());
}

#[test]
fn limits_per_key_are_kept_and_counted() {
    let limits = |overflow| Limits { partial_matches: 2, buffered_events: 3, overflow, ..Limits::default() };
    for (overflow, started) in [(Overflow::DropOldest, [2, 3]), (Overflow::RefuseNew, [1, 2])] {
        let mut test = Harness::new(move || build(limits(overflow)));
        for at in 1..=3 {
            test.record(&Letter('a'), at);
        }
        // A fourth may not wait.
        test.record(&Letter('a'), 3);
        test.watermark(3);
        test.record(&Letter('b'), 4);
        test.watermark(4);
        let found: Vec<Value> =
            test.emitted("out").iter().map(|found| found["match"]["started"].clone()).collect();
        assert_eq!(found, started);
        let expected = Counts { dropped: 1, refused: 1, replaced: 0 };
        assert_eq!(counts(&mut test), expected);
        let stats = test.job().stats();
        assert!(stats.balances(0) && stats.filtered == 1, "{stats:?}");
    }
}

#[test]
fn events_of_a_json_job_survive_a_restore() {
    let json = |text: &str| Json(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap().clone());
    let mut test = Harness::new(|| {
        job::<Json, crate::params::NoParams>("json", "A test.")
            .source(|event: &Json| Some(event))
            .key_by(|_| "k")
            .pattern(|_| Pattern::begin("a").where_(field("v").gt(1.0)).next("b"), TimeDomain::Processing)
            .to(|_| ("out", "k"))
    });
    test.record(&json(r#"{"v": 2, "nested": [1, null]}"#), 0);
    assert_eq!(test.restore(), 2);
    test.record(&json("{}"), 0);
    let out = test.emitted("out");
    assert_eq!(out[0]["match"]["stages"], json!({"a": [{"v": 2, "nested": [1, null]}], "b": [{}]}));
}
