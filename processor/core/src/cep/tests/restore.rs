//! Restored at any point, from a snapshot or from the changes told so far, an operator goes on as if nothing had been.

use std::collections::BTreeMap;

use super::*;
use crate::effect::{Effect, Effects};
use crate::params::NoParams;
use crate::stream::{Job, Origin, Scope, job};
use crate::time::{EventTime, TimeDomain, Watermark};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Event {
    key: String,
    letter: Letter,
    number: u32,
}

impl Fields for Event {
    fn field(&self, name: &str) -> FieldValue<'_> {
        self.letter.field(name)
    }
}

#[derive(Debug, Clone)]
enum Act {
    Record(Event, i64),
    Time(i64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    Nothing,
    Snapshot,
    Changes,
}

fn acts() -> impl Strategy<Value = Vec<(Act, From)>> {
    let letter = prop_oneof![Just('a'), Just('b'), Just('c')];
    let record = (0_u32..3, letter, 0_i64..6);
    let act = prop_oneof![
        4 => record.prop_map(|(key, letter, ahead)| {
            let event = Event { key: format!("k{key}"), letter: Letter(letter), number: 0 };
            Act::Record(event, ahead)
        }),
        2 => (0_i64..5).prop_map(Act::Time),
    ];
    let from = prop_oneof![2 => Just(From::Nothing), 1 => Just(From::Snapshot), 1 => Just(From::Changes)];
    proptest::collection::vec((act, from), 1..40)
}

type Log = BTreeMap<Vec<u8>, Vec<u8>>;

struct Driver {
    make: Box<dyn Fn() -> Box<dyn Job<Event>>>,
    job: Box<dyn Job<Event>>,
    time: TimeDomain,
    now: i64,
    log: Log,
    told: Vec<String>,
}

impl Driver {
    fn new(pattern: Pattern, time: TimeDomain, limits: Limits) -> Self {
        let make = move || {
            let pattern = pattern.clone();
            job::<Event, NoParams>("test", "A test.")
                .source(|event: &Event| Some(event))
                .key_by(|event| &event.key)
                .pattern_within(move |_| pattern.clone(), time, limits)
                .to(|_| ("out", ""))
        };
        let mut this =
            Self { job: make(), make: Box::new(make), time, now: 0, log: Log::new(), told: Vec::new() };
        this.with(None, |job, scope| job.start(scope));
        this
    }

    fn with(&mut self, origin: Option<Origin>, act: impl FnOnce(&mut dyn Job<Event>, &mut Scope<'_>)) {
        let mut effects = Effects::default();
        let (now, watermark) = match self.time {
            TimeDomain::Event => (0, Watermark(self.now)),
            TimeDomain::Processing => (self.now, Watermark::NONE),
        };
        let mut scope = Scope { now, watermark, max_seen: None, origin, effects: &mut effects };
        act(&mut *self.job, &mut scope);
        self.told.extend(effects.iter().map(|effect| match effect {
            Effect::Emit { value, .. } => String::from_utf8_lossy(effects.bytes(value)).into_owned(),
            other => format!("{other:?}"),
        }));
    }

    fn act(&mut self, act: &Act, number: u32) {
        match act {
            Act::Record(event, ahead) => {
                let event = Event { number, ..event.clone() };
                let at = EventTime(self.now + ahead);
                let origin = Some(Origin { topic: "test", partition: 0, offset: i64::from(number) });
                self.with(origin, |job, scope| job.record(&event, at, scope));
            }
            Act::Time(by) => {
                self.now += by;
                self.with(None, |job, scope| match scope.watermark {
                    Watermark::NONE => job.processing_time(scope),
                    _ => job.watermark(scope),
                });
            }
        }
    }

    fn restore(&mut self, from: From) {
        let (mut snapshot, log) = (Log::new(), &mut self.log);
        self.job.tables(&mut |table| {
            table.changes(&mut |key, value| {
                match value {
                    Some(value) => log.insert(key.to_vec(), value.to_vec()),
                    None => log.remove(key),
                };
            });
            table.snapshot(&mut |key, value| {
                snapshot.insert(key.to_vec(), value.unwrap_or_default().to_vec());
            });
        });
        // What was told, taken together, is what there is.
        assert_eq!(self.log, snapshot);
        if from == From::Nothing {
            return;
        }
        let stats = self.job.stats();
        self.job = (self.make)();
        self.job.restore_stats(stats);
        let state = if from == From::Snapshot { &snapshot } else { &self.log };
        self.job.tables(&mut |table| {
            for (key, value) in state {
                table.load(key, Some(value)).unwrap();
            }
        });
        self.with(None, |job, scope| job.start(scope));
    }

    fn entries(&mut self) -> usize {
        let mut entries = 0;
        self.job.tables(&mut |table| entries += table.len());
        entries
    }
}

fn strategies() -> impl Strategy<Value = AfterMatch> {
    prop_oneof![
        Just(AfterMatch::NoSkip),
        Just(AfterMatch::ToNext),
        Just(AfterMatch::PastLast),
        Just(AfterMatch::ToFirst("s0".into())),
        Just(AfterMatch::ToLast("s0".into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn restored_anywhere_it_goes_on(
        pattern in patterns(),
        after_match in strategies(),
        processing in any::<bool>(),
        small in any::<bool>(),
        refuse in any::<bool>(),
        acts in acts(),
    ) {
        let pattern = Pattern { after_match, ..pattern };
        let time = if processing { TimeDomain::Processing } else { TimeDomain::Event };
        let overflow = if refuse { Overflow::RefuseNew } else { Overflow::DropOldest };
        let limits = if small {
            Limits { partial_matches: 3, buffered_events: 4, overflow, ..Limits::default() }
        } else {
            Limits::default()
        };
        let (mut plain, mut restored) = (Driver::new(pattern.clone(), time, limits), Driver::new(pattern.clone(), time, limits));
        for (number, (act, from)) in (0..).zip(&acts) {
            plain.act(act, number);
            restored.act(act, number);
            prop_assert_eq!(&plain.told, &restored.told);
            restored.restore(*from);
            let (stats, pending) = (restored.job.stats(), restored.job.pending());
            prop_assert!(stats.balances(pending) && stats.violations == 0, "{:?} {}", stats, pending);
            prop_assert_eq!((stats, pending), (plain.job.stats(), plain.job.pending()));
            prop_assert_eq!(plain.entries(), restored.entries());
        }
        // In the end, time takes everything that has a limit.
        let end = Act::Time(1_000);
        plain.act(&end, 0);
        restored.act(&end, 0);
        prop_assert_eq!(&plain.told, &restored.told);
        prop_assert_eq!(plain.job.pending(), 0);
        if pattern.within.is_some() {
            prop_assert_eq!(restored.entries(), 0);
        }
    }
}

/// A partial match whose chain of events runs in a circle, in the bytes that the operator itself has written.
#[test]
fn a_partial_match_that_can_not_be_is_refused() {
    let pattern = Pattern::begin("s0").one_or_more().followed_by("s1").where_(is('b')).within(100);
    let mut driver = Driver::new(pattern, TimeDomain::Event, Limits::default());
    for number in 0..2 {
        let event = Event { key: "k".into(), letter: Letter('a'), number: 0 };
        driver.act(&Act::Record(event, 1), number);
        driver.act(&Act::Time(1), 0);
    }
    driver.restore(From::Nothing);
    let (key, sound) =
        driver.log.iter().find(|(key, _)| key.ends_with(b"k")).map(|(k, v)| (k.clone(), v.clone())).unwrap();
    let load = |bytes: &[u8]| {
        let mut loaded = Ok(());
        (driver.make)().tables(&mut |table| loaded = table.load(&key, Some(bytes)));
        loaded
    };
    assert_eq!(load(&sound), Ok(()));
    let refused = (0..sound.len()).flat_map(|at| (0..8).map(move |to| (at, to))).filter(|(at, to)| {
        let mut damaged = sound.clone();
        damaged[*at] = *to;
        damaged != sound && load(&damaged).is_err_and(|e| e.to_string().contains("partial matches of key"))
    });
    // References, lengths, free places and the order of events: most small numbers of it are bound to each other.
    assert!(refused.count() > 60);
}
