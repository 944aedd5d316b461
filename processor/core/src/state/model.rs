//! State with a time to live against a plain model of it, over random accesses, times, commits and restore points; in
//! memory, and as a cache of two entries over a store of bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

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
    Commit,
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
        2 => Just(Step::Commit),
        1 => any::<bool>().prop_map(Step::Restore),
    ]
}

/// (key, second key) to value, last access.
type Model = BTreeMap<(u8, u8), (u32, i64)>;
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the changes of a table add up to; and where its entries are, if not in memory.
struct Log {
    told: Entries,
    store: Option<Rc<Shelf>>,
}

/// Entries by the key that a task would give them.
#[derive(Default)]
struct Shelf(RefCell<Entries>);

/// What keys of the table begin with, before their length; another table has a longer one.
const PREFIX: [u8; 2] = [1, 0];

impl Cold for Shelf {
    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self.0.borrow().get(key) {
            found(value);
        }
    }

    fn each(&self, prefix: &[u8], after: &[u8], entry: &mut Visit<'_>) {
        let entries = self.0.borrow();
        let mut found = entries.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_slice() > after);
        let _ = found.try_for_each(|(key, value)| entry(key, value));
    }

    fn failed(&self, error: StateError) {
        panic!("{error}");
    }
}

impl Shelf {
    fn write(&self, key: &[u8], value: Option<&[u8]>) {
        let mut name = PREFIX.to_vec();
        name.push(u8::try_from(key.len()).unwrap());
        name.extend_from_slice(key);
        match value {
            Some(value) => drop(self.0.borrow_mut().insert(name, value.to_vec())),
            None => drop(self.0.borrow_mut().remove(&name)),
        }
    }
}

impl Log {
    fn new(cold: bool) -> Self {
        Self { told: Entries::new(), store: cold.then(Rc::default) }
    }

    /// A table with what was told so far.
    fn attach(&self, table: &mut dyn Table) {
        if let Some(store) = &self.store {
            table.attach(ColdTable::new(store.clone(), PREFIX.to_vec(), 2));
        }
    }

    fn commit(&mut self, table: &mut dyn Table) {
        table.changes(&mut |key, value| {
            match value {
                Some(value) => drop(self.told.insert(key.to_vec(), value.to_vec())),
                None => drop(self.told.remove(key)),
            }
            if let Some(store) = &self.store {
                store.write(key, value);
            }
        });
    }

    fn reload(&mut self, table: &mut dyn Table, new: &mut dyn Table, snapshot: bool) {
        self.commit(table);
        let mut all = Entries::new();
        table.snapshot(&mut |key, value| {
            assert_eq!(all.insert(key.to_vec(), value.unwrap().to_vec()), None, "told once");
        });
        assert_eq!(all, self.told, "changes add up to the snapshot");
        assert_eq!(table.len(), all.len());
        if let Some(store) = self.store.as_mut().filter(|_| snapshot) {
            *store = Rc::default();
            all.iter().for_each(|(key, value)| store.write(key, Some(value)));
        }
        if self.store.is_none() {
            for (key, value) in if snapshot { &all } else { &self.told } {
                new.load(key, Some(value)).unwrap();
            }
        }
        self.attach(new);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]
    #[test]
    fn time_to_live_is_what_the_definition_says(
        ttl in prop::option::of(1..40_i64), event in any::<bool>(), reads in any::<bool>(), cold in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80)
    ) {
        let time = if event { TimeDomain::Event } else { TimeDomain::Processing };
        let refresh = if reads { Refresh::OnReadAndWrite } else { Refresh::OnWrite };
        let ttl = ttl.map(|ttl| Ttl { ttl, time, refresh });
        let mut moment = Moment { at: 0, watermark: 0, now: 0 };
        let mut model = Model::new();
        let (mut value, mut map) = (ValueState::new(KeyedState::default(), ttl), MapState::new(ttl));
        let (mut value_log, mut map_log) = (Log::new(cold), Log::new(cold));
        value_log.attach(&mut value);
        map_log.attach(&mut map);
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
                    if cold {
                        // A look at all of it takes a while.
                        prop_assert!(value.len() >= model.len() && map.len() >= model.len());
                    } else {
                        prop_assert_eq!((value.len(), map.len()), (model.len(), model.len()));
                    }
                    if !reads {
                        let entries: Vec<(u8, u32)> = map.entries("k1", moment).map(|(at, v)| (*at, *v)).collect();
                        let expected: Vec<(u8, u32)> =
                            model.iter().filter(|((k, _), _)| *k == 1).map(|((_, at), (v, _))| (*at, *v)).collect();
                        prop_assert_eq!(entries, expected);
                    }
                }
                Step::Commit => {
                    value_log.commit(&mut value);
                    map_log.commit(&mut map);
                }
                Step::Restore(snapshot) => {
                    let (mut new_value, mut new_map) =
                        (ValueState::new(KeyedState::default(), ttl), MapState::new(ttl));
                    value_log.reload(&mut value, &mut new_value, snapshot);
                    map_log.reload(&mut map, &mut new_map, snapshot);
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

#[test]
fn what_is_dirty_stays_in_memory_and_then_what_is_used_again() {
    let (mut log, mut state) = (Log::new(true), KeyedState::<u32>::default());
    log.attach(&mut state);
    (0..9_u8).for_each(|key| state.set(&[key], Some(1)));
    assert!(log.store.as_ref().unwrap().0.borrow().is_empty(), "nothing is told yet");
    assert!((0..9_u8).all(|key| state.get(&[key]).is_some()));
    log.commit(&mut state);
    state.set(&[3], Some(2));
    (5..9_u8).for_each(|key| state.set(&[key], None));
    log.commit(&mut state);
    assert_eq!(state.get(&[3]), Some(&2));
    assert_eq!(state.get(&[4]), Some(&1));
    assert_eq!(state.get(&[0]), Some(&1));
    log.commit(&mut state);
    // What is seen without the store is in memory.
    let stored = log.store.as_ref().unwrap().0.take();
    assert_eq!((0..9_u8).filter(|key| state.get(&[*key]).is_some()).collect::<Vec<_>>(), [3]);
    log.store.as_ref().unwrap().0.replace(stored);
    assert_eq!((0..9_u8).filter(|key| state.get(&[*key]).is_some()).count(), 5);
    assert_eq!(state.len(), 5);
}

#[test]
fn a_list_is_read_back_whatever_the_length_of_its_places() {
    let (mut log, mut list) = (Log::new(true), ListState::<u32>::default());
    log.attach(&mut list);
    for n in 0..300 {
        list.add("k", n, Moment::processing(0));
        list.add("kk", n, Moment::processing(0));
        if n % 50 == 0 {
            log.commit(&mut list);
        }
    }
    let mut new = ListState::<u32>::default();
    log.reload(&mut list, &mut new, false);
    assert_eq!(
        new.elements("k", Moment::processing(0)).copied().collect::<Vec<_>>(),
        (0..300).collect::<Vec<_>>()
    );
    new.clear("k");
    assert_eq!(new.elements("k", Moment::processing(0)).count(), 0, "gone before it is told");
    log.commit(&mut new);
    assert_eq!((new.elements("k", Moment::processing(0)).count(), new.len()), (0, 300));
}

#[test]
fn on_disk_what_has_expired_is_gone_after_a_quarter_of_the_time_to_live() {
    let ttl = Ttl::processing_time(1_000);
    let (mut value_log, mut value) = (Log::new(true), ValueState::<u32>::with_ttl(ttl));
    let (mut map_log, mut map) = (Log::new(true), MapState::<u32, u32>::with_ttl(ttl));
    value_log.attach(&mut value);
    map_log.attach(&mut map);
    let keys = |n: u32| (format!("k{}", n % 100), n);
    for n in 0..500 {
        value.set(&format!("k{n}"), Some(n), Moment::processing(0));
        let (key, at) = keys(n);
        map.set(&key, at, n, Moment::processing(0));
    }
    let mut restarted = false;
    for now in (0..1_300).step_by(10) {
        value.expire(Moment::processing(now));
        map.expire(Moment::processing(now));
        value.set("alive", Some(1), Moment::processing(now));
        map.set("alive", 1, 1, Moment::processing(now));
        if now > 1_100 && !std::mem::replace(&mut restarted, true) {
            let (mut new_value, mut new_map) = (ValueState::with_ttl(ttl), MapState::with_ttl(ttl));
            value_log.reload(&mut value, &mut new_value, false);
            map_log.reload(&mut map, &mut new_map, false);
            (value, map) = (new_value, new_map);
        }
        value_log.commit(&mut value);
        map_log.commit(&mut map);
        if now == 990 {
            assert_eq!((value.len(), map.len()), (501, 501), "not before it has expired");
        }
        if now == 1_100 {
            assert!((2..500).contains(&value.len()) && (2..500).contains(&map.len()), "in portions");
        }
    }
    // The restart began somewhere else: what was left is seen in the next pass.
    for now in (1_300..1_700).step_by(10) {
        value.expire(Moment::processing(now));
        map.expire(Moment::processing(now));
        value_log.commit(&mut value);
        map_log.commit(&mut map);
    }
    assert_eq!((value.len(), map.len()), (1, 1));
    assert_eq!(value.get("alive", Moment::processing(1_700)), Some(&1));
}
