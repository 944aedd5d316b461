//! `user-events`: what users of a shop do, visit by visit.
//!
//! A visit follows a funnel: it begins at a page, looks around, perhaps signs in, fills a cart, goes to the checkout, buys; most
//! end before that. Between two events of a visit its user thinks for some seconds of event time. What is due next goes on; when
//! nothing is due, somebody new comes: so there are as many visits under way as the rate has room for. Who comes follows the
//! hour of the day ([`Population::somebody`]).

use std::collections::BTreeMap;
use std::io;

use compact_str::{CompactString, format_compact};
use millrace_wire::event::{EventType, Location, UserEvent};
use millrace_wire::scenario::Scenario;
use millrace_wire::{Timestamp, topic};

use crate::generator::HOT;
use crate::population::Population;
use crate::{Generator, Random, Record, Reference, Zipf};

/// Time between two events of a visit, ms: median, and deviation of its logarithm.
const THINK_MS: (f64, f64) = (6_000.0, 0.6);
/// A visit that was due for longer has been given up, ms: the stream stood still.
const GIVEN_UP_MS: i64 = 60_000;
/// Share of visits by a user who is at two places.
const TWO_PLACES: f64 = 0.2;
/// By how much less users visit at night than in the evening.
const NIGHT: f64 = 0.7;
/// How often somebody else is asked.
const TRIES: u32 = 20;
const PRODUCTS: u32 = 40;
const CATEGORIES: [&str; 8] =
    ["groceries", "books", "beauty", "toys", "clothing", "sports", "home", "electronics"];
const BROWSERS: [&str; 5] = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile",
];

/// How far a visit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Begins,
    Browses,
    Cart,
    Checkout,
    Bought,
    Over,
}

/// A visit under way.
#[derive(Debug, Clone)]
struct Visit {
    number: u64,
    user: CompactString,
    browser: &'static str,
    place: Location,
    stage: Stage,
    signed_in: bool,
}

/// The stream.
pub struct UserEvents {
    random: Random,
    population: Population,
    products: Zipf,
    /// Those under way, by when they go on, and number.
    visits: BTreeMap<(i64, u64), Visit>,
    number: u64,
    /// The latest event time.
    now: i64,
    provoked: Option<Scenario>,
}

impl UserEvents {
    /// Of so many users.
    pub fn new(seed: u64, users: u32) -> Self {
        Self {
            random: Random::new(seed, 31),
            population: Population::new(seed, users),
            products: Zipf::new(PRODUCTS, 0.8),
            visits: BTreeMap::new(),
            number: 0,
            now: i64::MIN,
            provoked: None,
        }
    }

    /// The visit that goes on now.
    fn next_visit(&mut self) -> Visit {
        while let Some(first) = self.visits.first_entry().filter(|visit| visit.key().0 <= self.now) {
            let ((due, _), visit) = first.remove_entry();
            if self.now - due < GIVEN_UP_MS {
                return visit;
            }
        }
        self.number += 1;
        let (user, place) = self.somebody();
        let browser = self.random.one_of(&BROWSERS, "");
        Visit { number: self.number, user, browser, place, stage: Stage::Begins, signed_in: false }
    }

    /// Somebody who is not on the way. Among very few users perhaps nobody is: then one visits from home.
    fn somebody(&mut self) -> (CompactString, Location) {
        let first = self.population.first();
        match self.provoked {
            Some(Scenario::HotKey) if self.random.unit() < HOT => {
                let home = first.home();
                return (first.id, home);
            }
            Some(Scenario::ImpossibleTravel) if self.random.unit() < TWO_PLACES => {
                let place = if self.number.is_multiple_of(2) { first.home() } else { first.far() };
                return (first.id, place);
            }
            _ => {}
        }
        let now = Timestamp(self.now);
        let mut person = self.population.somebody(now, NIGHT, &mut self.random);
        for _ in 0..TRIES {
            if let Some(place) = person.place(now) {
                return (person.id, place);
            }
            person = self.population.somebody(now, NIGHT, &mut self.random);
        }
        let home = person.home();
        (person.id, home)
    }

    fn product(&mut self) -> CompactString {
        format_compact!("/product/{}", self.products.pick(&mut self.random) + 1)
    }

    /// What a visit does next.
    fn step(&mut self, visit: &mut Visit) -> (EventType, CompactString) {
        let chance = self.random.unit();
        let page = CompactString::const_new;
        let category =
            |random: &mut Random| format_compact!("/category/{}", random.one_of(&CATEGORIES, "all"));
        match visit.stage {
            Stage::Begins => {
                visit.stage = if self.random.unit() < 0.3 { Stage::Over } else { Stage::Browses };
                let entry = match chance {
                    c if c < 0.5 => page("/"),
                    c if c < 0.8 => self.product(),
                    _ => category(&mut self.random),
                };
                (EventType::PageView, entry)
            }
            Stage::Browses => match chance {
                c if c < 0.08 && !visit.signed_in => {
                    visit.signed_in = true;
                    (EventType::Login, page("/account"))
                }
                c if c < 0.2 => {
                    visit.stage = Stage::Cart;
                    (EventType::AddToCart, self.product())
                }
                c if c < 0.32 => {
                    visit.stage = Stage::Over;
                    (EventType::PageView, page("/"))
                }
                c if c < 0.45 => (EventType::Search, page("/search")),
                c if c < 0.6 => (EventType::Click, category(&mut self.random)),
                _ => (EventType::PageView, self.product()),
            },
            Stage::Cart => match chance {
                c if c < 0.4 && !visit.signed_in => {
                    visit.signed_in = true;
                    (EventType::Login, page("/account"))
                }
                c if c < 0.6 && visit.signed_in => {
                    visit.stage = Stage::Checkout;
                    (EventType::Checkout, page("/checkout"))
                }
                c if c < 0.75 => {
                    visit.stage = Stage::Over;
                    (EventType::PageView, page("/cart"))
                }
                _ => (EventType::PageView, self.product()),
            },
            Stage::Checkout if chance < 0.75 => {
                visit.stage = Stage::Bought;
                (EventType::Purchase, page("/checkout"))
            }
            Stage::Bought => {
                visit.stage = Stage::Over;
                (EventType::Logout, page("/"))
            }
            Stage::Checkout | Stage::Over => {
                visit.stage = Stage::Over;
                (EventType::PageView, page("/cart"))
            }
        }
    }
}

impl Generator for UserEvents {
    fn stream(&self) -> &'static str {
        topic::USER_EVENTS
    }

    fn reference(&self) -> Vec<Reference> {
        self.population.users()
    }

    fn provoke(&mut self, scenario: Option<Scenario>) {
        self.provoked = scenario;
    }

    fn next(&mut self, event_time: Timestamp, record: &mut Record) -> io::Result<()> {
        self.now = self.now.max(event_time.millis());
        let mut visit = self.next_visit();
        let (event_type, page) = self.step(&mut visit);
        let stays = self.random.log_normal(THINK_MS.0, THINK_MS.1).round();
        let event = UserEvent {
            timestamp: event_time,
            user_id: visit.user.clone(),
            event_type,
            // Unique also when a process that has started anew counts from 1 again.
            session_id: format_compact!("s-{}-{:x}", visit.user, visit.number),
            page,
            duration: Some(stays),
            user_agent: CompactString::const_new(visit.browser),
            location: Some(visit.place),
        };
        if visit.stage != Stage::Over {
            self.visits.insert((self.now + stays as i64, visit.number), visit);
        }
        record.put(&event.user_id, &event)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn records(seed: u64, n: i64, step_ms: i64) -> Vec<Record> {
        let mut generator = UserEvents::new(seed, 10_000);
        let mut make = |i| {
            let mut record = Record::default();
            generator.next(Timestamp(1_717_200_000_000 + i * step_ms), &mut record).unwrap();
            record
        };
        (0..n).map(&mut make).collect()
    }

    fn events(n: i64, step_ms: i64) -> Vec<UserEvent> {
        records(42, n, step_ms).iter().map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
    }

    /// Events by visit.
    fn visits(n: i64, step_ms: i64) -> BTreeMap<CompactString, Vec<UserEvent>> {
        let mut visits: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for event in events(n, step_ms) {
            visits.entry(event.session_id.clone()).or_default().push(event);
        }
        visits
    }

    #[test]
    fn the_same_seed_gives_the_same_events_and_another_gives_others() {
        assert_eq!(records(42, 2_000, 100), records(42, 2_000, 100));
        assert_ne!(records(42, 2_000, 100), records(43, 2_000, 100));
    }

    #[test]
    fn an_event_is_json_as_specified_and_keyed_by_its_user() {
        for record in records(42, 1_000, 100) {
            let event: UserEvent = serde_json::from_slice(&record.value).unwrap();
            assert_eq!(record.key, event.user_id.as_bytes());
            let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
            let names: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
            let expected = [
                "timestamp",
                "userId",
                "eventType",
                "sessionId",
                "page",
                "duration",
                "userAgent",
                "location",
            ];
            assert_eq!(names, BTreeSet::from(expected));
        }
    }

    #[test]
    fn visits_follow_the_funnel_and_fewer_come_further() {
        use EventType::{AddToCart, Checkout, Login, Purchase};
        let visits = visits(100_000, 100);
        let with = |kind| visits.values().filter(|v| v.iter().any(|e| e.event_type == kind)).count() as f64;
        let share = |kind| with(kind) / visits.len() as f64;
        let shares = [share(AddToCart), share(Checkout), share(Purchase)];
        assert!(
            (0.2..0.6).contains(&shares[0]) && shares[0] > shares[1] && shares[1] > shares[2],
            "{shares:?}"
        );
        assert!((0.02..0.3).contains(&shares[2]), "{shares:?}");
        for visit in visits.values() {
            let first = |kind| visit.iter().position(|event| event.event_type == kind);
            for (later, earlier) in [(Checkout, AddToCart), (Purchase, Checkout), (Checkout, Login)] {
                assert!(
                    first(later).is_none_or(|at| first(earlier).is_some_and(|before| before < at)),
                    "{visit:?}"
                );
            }
            assert!(visit.iter().all(|e| e.user_id == visit[0].user_id && e.location == visit[0].location));
        }
        let single = visits.values().filter(|visit| visit.len() == 1).count() as f64 / visits.len() as f64;
        assert!((0.2..0.45).contains(&single), "{single}");
    }

    /// At any rate: there are more visits under way then, not faster ones.
    #[test]
    fn users_think_for_seconds_between_two_events() {
        for step_ms in [1, 100, 1_000] {
            let mut pauses: Vec<i64> = visits(50_000, step_ms)
                .values()
                .flat_map(|visit| {
                    visit.windows(2).map(|two| two[1].timestamp.millis() - two[0].timestamp.millis())
                })
                .collect();
            pauses.sort_unstable();
            let median = pauses[pauses.len() / 2];
            assert!((4_000..9_000).contains(&median), "{step_ms}: {median}");
        }
    }

    #[test]
    fn a_user_can_be_provoked_to_be_at_two_places() {
        let mut generator = UserEvents::new(42, 10_000);
        let mut at = 1_717_200_000_000;
        let mut run = |scenario| -> BTreeSet<String> {
            generator.provoke(scenario);
            let next = |_| {
                at += 100;
                let mut record = Record::default();
                generator.next(Timestamp(at), &mut record).unwrap();
                serde_json::from_slice::<UserEvent>(&record.value).unwrap()
            };
            let all = (0..2_000).map(next).filter(|event| event.user_id == "u-00000");
            all.map(|event| format!("{:?}", event.location)).collect()
        };
        assert_eq!(run(Some(Scenario::ImpossibleTravel)).len(), 2);
        run(None);
        assert!(run(None).len() < 2, "it ends with the visits under way");
    }

    #[test]
    fn users_are_unequal() {
        let mut users: BTreeMap<CompactString, u32> = BTreeMap::new();
        for event in events(100_000, 100) {
            *users.entry(event.user_id).or_default() += 1;
        }
        let most = users.values().max().unwrap();
        assert!(users.len() > 5_000 && (200..2_000).contains(most), "{} {most}", users.len());
    }

    #[test]
    fn a_stream_that_stood_still_begins_with_new_visits() {
        let mut generator = UserEvents::new(42, 100);
        let mut record = Record::default();
        let mut sessions = |from: i64, generator: &mut UserEvents| {
            let all = (0..200).map(|i| {
                generator.next(Timestamp(from + i * 50), &mut record).unwrap();
                serde_json::from_slice::<UserEvent>(&record.value).unwrap().session_id
            });
            all.collect::<BTreeSet<_>>()
        };
        let before = sessions(1_717_200_000_000, &mut generator);
        let after = sessions(1_717_203_600_000, &mut generator);
        assert!(before.is_disjoint(&after));
    }
}
