//! A group with a number of rounds finds what the same rounds find, written one after the other.

use super::*;

/// Two stages and how the second follows the first.
fn pair() -> impl Strategy<Value = (Predicate, Predicate, Contiguity)> {
    let contiguity =
        prop_oneof![Just(Contiguity::Next), Just(Contiguity::FollowedBy), Just(Contiguity::FollowedByAny)];
    (predicate(), predicate(), contiguity)
}

fn stage(name: String, condition: &Predicate, contiguity: Option<Contiguity>) -> Element {
    let body = Body::Stage { name, condition: Some(condition.clone()) };
    Element { body, contiguity, quantifier: Quantifier::default() }
}

fn found(
    elements: Vec<Element>,
    within: Option<i64>,
    events: &[(&'static str, i64, Letter)],
) -> Vec<DryMatch> {
    let pattern = Pattern { elements, within, after_match: AfterMatch::NoSkip };
    dry_run(&pattern, &pattern, events, Limits::default()).unwrap().both
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rounds_are_rounds(
        (x, y, between) in pair(),
        (before, after, entry) in pair(),
        (_, _, exit) in pair(),
        times in (1_u32..3, 0_u32..3),
        optional in any::<bool>(),
        inner in prop_oneof![Just(Inner::Relaxed), Just(Inner::Strict), Just(Inner::Any)],
        within in proptest::option::of(2_i64..9),
        events in letters(8),
    ) {
        let (min, more) = times;
        // Two more is without end; eight events make four rounds at most.
        let max = (more < 2).then_some(min + more);
        let repeat = match inner {
            Inner::Relaxed => Contiguity::FollowedBy,
            Inner::Strict => Contiguity::Next,
            Inner::Any => Contiguity::FollowedByAny,
        };
        let group = Element {
            body: Body::Group(vec![stage("x".into(), &x, None), stage("y".into(), &y, Some(between))]),
            contiguity: Some(entry),
            quantifier: Quantifier { times: Some(Times { min, max }), optional, inner, ..Quantifier::default() },
        };
        let (first, last) = (stage("f".into(), &before, None), stage("l".into(), &after, Some(exit)));
        let grouped = found(vec![first.clone(), group, last.clone()], within, &events);
        let mut unrolled = Vec::new();
        let rounds = (min..=max.unwrap_or(4)).chain(optional.then_some(0));
        for rounds in rounds {
            let mut elements = vec![first.clone()];
            for round in 0..rounds {
                elements.push(stage(format!("x{round}"), &x, Some(if round == 0 { entry } else { repeat })));
                elements.push(stage(format!("y{round}"), &y, Some(between)));
            }
            elements.push(last.clone());
            for mut one in found(elements, within, &events) {
                let places = |letter: char| -> Vec<usize> {
                    let stages = one.stages.iter().filter(|(name, _)| name.starts_with(letter));
                    stages.flat_map(|(_, places)| places.clone()).collect()
                };
                let all = ["f", "x", "y", "l"].map(|name| (name.into(), places(name.chars().next().unwrap())));
                one.stages = all.into_iter().filter(|(_, places)| !places.is_empty()).collect();
                unrolled.push(one);
            }
        }
        unrolled.sort_unstable();
        prop_assert_eq!(grouped, unrolled);
    }
}
