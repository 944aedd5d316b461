//! State with a time to live against a plain model of it, over random accesses, times and restore points.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::time::TimeDomain;

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u8, u32),
    Get(u8, u8),
    Remove(u8, u8),
    /// Time moves on; records are at so much from the watermark.
    Advance(i64, i64),
    Expire,
    /// All state by way of its changes, or of a snapshot.
    Restore(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_u8, 0..2_u8, 0..99_u32).prop_map(|(k, at, v)| Step::Set(k, at, v)),
        3 => (0..3_u8, 0..2_u8).prop_map(|(k, at)| Step::Get(k, at)),
        1 => (0..3_u8, 0..2_u8).prop_map(|(k, at)| Step::Remove(k, at)),
        3 => (0..15_i64, -30..30_i64).prop_map(|(by, at)| Step::Advance(by, at)),
        2 => Just(Step::Expire),
        1 => any::<bool>().prop_map(Step::Restore),
    ]
}

/// (key, second key) to value, last access.
type Model = BTreeMap<(u8, u8), (u32, i64)>;
type Changelog = BTreeMap<Vec<u8>, Vec<u8>>;

fn apply(changelog: &mut Changelog, table: &mut dyn Table) {
    table.changes(&mut |key, value| match value {
        Some(value) => drop(changelog.insert(key.to_vec(), value.to_vec())),
        None => drop(changelog.remove(key)),
    });
}

fn reload(changelog: &mut Changelog, table: &mut dyn Table, new: &mut dyn Table, snapshot: bool) {
    apply(changelog, table);
    let mut all = Changelog::new();
    table.snapshot(&mut |key, value| drop(all.insert(key.to_vec(), value.unwrap().to_vec())));
    assert_eq!(&all, changelog, "changes add up to the snapshot");
    for (key, value) in if snapshot { &all } else { &*changelog } {
        new.load(key, Some(value)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn time_to_live_is_what_the_definition_says(
        ttl in prop::option::of(1..40_i64), event in any::<bool>(), reads in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let time = if event { TimeDomain::Event } else { TimeDomain::Processing };
        let refresh = if reads { Refresh::OnReadAndWrite } else { Refresh::OnWrite };
        let ttl = ttl.map(|ttl| Ttl { ttl, time, refresh });
        let mut moment = Moment { at: 0, watermark: 0, now: 0 };
        let mut model = Model::new();
        let (mut value, mut map) = (ValueState::new(KeyedState::default(), ttl), MapState::new(ttl));
        let (mut value_log, mut map_log) = (Changelog::new(), Changelog::new());
        for step in steps {
            let clock = if event { moment.watermark } else { moment.now };
            let access = if event { moment.at.max(clock) } else { clock };
            model.retain(|_, (_, accessed)| ttl.is_none_or(|ttl| *accessed + ttl.ttl > clock));
            match step {
                Step::Set(k, at, v) => {
                    let (key, both) = (format!("k{k}"), format!("k{k}/{at}"));
                    value.set(&both, Some(v), moment);
                    map.set(&key, at, v, moment);
                    let entry = model.entry((k, at)).or_insert((v, access));
                    *entry = (v, entry.1.max(access));
                }
                Step::Get(k, at) => {
                    let (key, both) = (format!("k{k}"), format!("k{k}/{at}"));
                    let expected = model.get_mut(&(k, at)).map(|(v, accessed)| {
                        if reads {
                            *accessed = access.max(*accessed);
                        }
                        &*v
                    });
                    prop_assert_eq!(value.get(&both, moment), expected);
                    prop_assert_eq!(map.get(&key, &at, moment), expected);
                }
                Step::Remove(k, at) => {
                    value.set(&format!("k{k}/{at}"), None, moment);
                    let removed = map.remove(&format!("k{k}"), &at, moment);
                    prop_assert_eq!(removed, model.remove(&(k, at)).map(|(v, _)| v));
                }
                Step::Advance(by, at) => {
                    moment.watermark += by;
                    moment.now += by * 2;
                    moment.at = moment.watermark + at;
                }
                Step::Expire => {
                    value.expire(moment);
                    map.expire(moment);
                    prop_assert_eq!((value.len(), map.len()), (model.len(), model.len()));
                    if !reads {
                        let entries: Vec<(u8, u32)> = map.entries("k1", moment).map(|(at, v)| (*at, *v)).collect();
                        let expected: Vec<(u8, u32)> =
                            model.iter().filter(|((k, _), _)| *k == 1).map(|((_, at), (v, _))| (*at, *v)).collect();
                        prop_assert_eq!(entries, expected);
                    }
                }
                Step::Restore(snapshot) => {
                    let (mut new_value, mut new_map) =
                        (ValueState::new(KeyedState::default(), ttl), MapState::new(ttl));
                    reload(&mut value_log, &mut value, &mut new_value, snapshot);
                    reload(&mut map_log, &mut map, &mut new_map, snapshot);
                    (value, map) = (new_value, new_map);
                }
            }
        }
    }
}

#[test]
fn folding_state_starts_anew_when_it_has_expired() {
    struct Mean;
    impl crate::window::Aggregate<f64> for Mean {
        type Acc = (f64, u32);
        type Out = f64;

        fn create(&self) -> (f64, u32) {
            (0.0, 0)
        }

        fn add(&self, acc: &mut (f64, u32), value: &f64, _: crate::EventTime) {
            *acc = (acc.0 + value, acc.1 + 1);
        }

        fn merge(&self, acc: &mut (f64, u32), other: &(f64, u32)) {
            *acc = (acc.0 + other.0, acc.1 + other.1);
        }

        fn result(&self, acc: &(f64, u32)) -> f64 {
            acc.0 / f64::from(acc.1)
        }
    }
    let ttl = Some(Ttl::processing_time(10));
    let mut largest = ReducingState::new(|a: &u32, b: &u32| *a.max(b), ttl);
    let mut mean = AggregatingState::new(Mean, ttl);
    let mut list = ListState::new(ttl);
    for (now, n) in [(0, 9_u32), (5, 4)] {
        largest.add("k", n, Moment::processing(now));
        mean.add("k", &f64::from(n), Moment::processing(now));
        list.add("k", n, Moment::processing(now));
    }
    let at = Moment::processing(14);
    assert_eq!((largest.get("k", at), mean.get("k", at)), (Some(&9), Some(6.5)));
    assert_eq!(list.elements("k", at).collect::<Vec<_>>(), [&4], "elements expire one by one");
    let at = Moment::processing(15);
    assert_eq!((largest.get("k", at), mean.get("k", at), list.elements("k", at).count()), (None, None, 0));
    largest.add("k", 1, at);
    assert_eq!(largest.get("k", at), Some(&1));
    largest.clear("k", at);
    list.expire(at);
    mean.expire(at);
    assert!(largest.is_empty() && list.is_empty() && mean.is_empty());
}

#[test]
fn expiry_is_bounded_and_goes_on() {
    let mut state = ValueState::<u32>::with_ttl(Ttl::processing_time(10));
    for key in 0..1_000 {
        state.set(&format!("k{key}"), Some(1), Moment::processing(key % 7));
    }
    let at = Moment::processing(100);
    state.expire(at);
    assert_eq!(state.len(), 1_000 - 256);
    assert_eq!(state.get("k999", at), None, "expired state is not seen, cleaned up or not");
    (0..4).for_each(|_| state.expire(at));
    assert!(state.is_empty());
}
