//! Tests of the whole: examples, a brute-force model, restoring, damaged input.

mod examples;
mod groups;
mod live;
mod model;
mod restore;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

/// An event: a letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Letter(char);

impl Fields for Letter {
    fn field(&self, name: &str) -> FieldValue<'_> {
        match (name, self.0) {
            ("name", 'a') => FieldValue::Text("a"),
            ("name", 'b') => FieldValue::Text("b"),
            ("name", 'c') => FieldValue::Text("c"),
            ("number", letter) => FieldValue::Number(f64::from(u32::from(letter))),
            _ => FieldValue::Null,
        }
    }
}

fn is(letter: char) -> Predicate {
    field("name").eq(letter.to_string().as_str())
}

/// Letters with times that do not fall.
fn letters(max: usize) -> impl Strategy<Value = Vec<(&'static str, i64, Letter)>> {
    let letter = prop_oneof![Just('a'), Just('b'), Just('c')];
    proptest::collection::vec((letter, 0_i64..3), 0..=max).prop_map(|items| {
        let mut time = 0;
        let at = |(letter, step): (char, i64)| {
            time += step;
            ("k", time, Letter(letter))
        };
        items.into_iter().map(at).collect()
    })
}

fn predicate() -> impl Strategy<Value = Predicate> {
    prop_oneof![
        3 => Just(is('a')),
        3 => Just(is('b')),
        1 => Just(is('c')),
        2 => Just(Predicate::Or(vec![is('a'), is('b')])),
        1 => Just(Predicate::Not(Box::new(is('c')))),
    ]
}

fn quantifier() -> impl Strategy<Value = Quantifier> {
    let times = prop_oneof![
        4 => Just(None),
        1 => (1_u32..3).prop_map(|min| Some(Times { min, max: None })),
        1 => (1_u32..3, 0_u32..2).prop_map(|(min, more)| Some(Times { min, max: Some(min + more) })),
    ];
    let inner = prop_oneof![Just(Inner::Relaxed), Just(Inner::Strict), Just(Inner::Any)];
    let until = proptest::option::weighted(0.2, predicate());
    (times, proptest::bool::weighted(0.2), proptest::bool::weighted(0.3), inner, until).prop_map(
        |(times, optional, greedy, inner, until)| {
            let unbounded = times.is_some_and(|times| times.max.is_none());
            Quantifier { times, optional, greedy, inner, until: until.filter(|_| unbounded) }
        },
    )
}

/// Patterns without groups that can be compiled.
fn patterns() -> impl Strategy<Value = Pattern> {
    let contiguity = prop_oneof![
        3 => Just(Contiguity::Next),
        3 => Just(Contiguity::FollowedBy),
        3 => Just(Contiguity::FollowedByAny),
        1 => Just(Contiguity::NotNext),
        1 => Just(Contiguity::NotFollowedBy),
    ];
    let element = (contiguity, predicate(), quantifier());
    (proptest::collection::vec(element, 1..5), proptest::option::of(1_i64..8)).prop_map(
        |(elements, within)| {
            let build =
                |(i, (contiguity, condition, quantifier)): (usize, (Contiguity, Predicate, Quantifier))| {
                    let contiguity = Some(contiguity).filter(|_| i > 0);
                    let not = contiguity.is_some_and(Contiguity::is_not);
                    Element {
                        body: Body::Stage { name: format!("s{i}"), condition: Some(condition) },
                        contiguity,
                        quantifier: if not { Quantifier::default() } else { quantifier },
                    }
                };
            let elements = elements.into_iter().enumerate().map(build).collect();
            let mut pattern = Pattern { elements, within, after_match: AfterMatch::NoSkip };
            if pattern.validate().is_err() {
                pattern.within = Some(4);
            }
            pattern
        },
    )
}

/// JSON of any shape, often with the words of patterns.
fn json() -> impl Strategy<Value = serde_json::Value> {
    let word = prop_oneof![
        Just("stage"),
        Just("where"),
        Just("group"),
        Just("contiguity"),
        Just("quantifier"),
        Just("times"),
        Just("min"),
        Just("max"),
        Just("op"),
        Just("left"),
        Just("right"),
        Just("eq"),
        Just("field"),
        Just("const"),
        Just("agg"),
        Just("of"),
        Just("sum"),
        Just("and"),
        Just("not"),
        Just("next"),
        Just("followed_by"),
        Just("pattern"),
        Just("within"),
        Just("after_match"),
        Just("strategy"),
        Just("to_first"),
        Just("optional"),
        Just("not_followed_by"),
        Just("greedy"),
        Just("until"),
        Just("always"),
        Just("a"),
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0_u32..4).prop_map(Into::into),
        word.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::vec((word.clone(), inner), 0..5).prop_map(|entries| {
                serde_json::Value::Object(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_and_any_json_give_a_pattern_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        json in json(),
        pattern in patterns(),
        cut in any::<prop::sample::Index>(),
        with in json(),
    ) {
        let _ = serde_json::from_slice::<Pattern>(&bytes);
        for text in [json.to_string(), format!("{{\"pattern\":{json}}}"), format!("{{\"pattern\":[{json}]}}")] {
            if let Ok(pattern) = serde_json::from_str::<Pattern>(&text) {
                let _ = pattern.validate();
            }
        }
        // A good pattern with something else in the place of one value.
        let mut good = serde_json::to_value(&pattern).unwrap();
        let places = count(&good);
        replace(&mut good, &mut cut.index(places), &with);
        if let Ok(pattern) = serde_json::from_value::<Pattern>(good) {
            let _ = pattern.validate();
        }
    }

    #[test]
    fn a_pattern_survives_its_text(pattern in patterns()) {
        let text = serde_json::to_string(&pattern).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Pattern>(&text).unwrap(), &pattern);
        let text = serde_yaml_ng::to_string(&pattern).unwrap();
        prop_assert_eq!(&serde_yaml_ng::from_str::<Pattern>(&text).unwrap(), &pattern);
    }
}

fn count(value: &serde_json::Value) -> usize {
    let inner: usize = match value {
        serde_json::Value::Array(items) => items.iter().map(count).sum(),
        serde_json::Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    };
    inner + 1
}

fn replace(value: &mut serde_json::Value, place: &mut usize, with: &serde_json::Value) {
    if *place == 0 {
        *value = with.clone();
        *place = usize::MAX;
        return;
    }
    *place -= 1;
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| replace(item, place, with)),
        serde_json::Value::Object(map) => map.values_mut().for_each(|item| replace(item, place, with)),
        _ => {}
    }
}
