use millrace_core::testing::Harness;
use millrace_core::{Application, Effect, Effects, Input};
use serde_json::{Value, json};

use super::*;

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const PARIS: (f64, f64) = (48.8566, 2.3522);
pub(super) const TOKYO: (f64, f64) = (35.68, 139.69);

fn user_event(test: &mut Harness<Event>, at: i64, event: Value) {
    test.record(&Event::User(serde_json::from_value(event).unwrap()), at);
}

/// An event of a user without location.
pub(super) fn view(test: &mut Harness<Event>, user: &str, kind: &str, page: &str, at: i64) {
    let session = format!("s-{user}");
    let event =
        json!({"timestamp": at, "userId": user, "eventType": kind, "sessionId": session, "page": page});
    user_event(test, at, event);
}

/// An event of a user at a place, (latitude, longitude).
pub(super) fn at_place(test: &mut Harness<Event>, user: &str, kind: &str, at: i64, (lat, lon): (f64, f64)) {
    let location = json!({"lat": lat, "lon": lon});
    user_event(test, at, json!({"timestamp": at, "userId": user, "eventType": kind, "location": location}));
}

/// A card transaction, named `t<event time>`.
pub(super) fn pay_to(test: &mut Harness<Event>, user: &str, merchant: &str, at: i64, amount: f64) {
    let card = json!({
        "timestamp": at, "transactionId": format!("t{at}"), "userId": user, "amount": amount, "currency": "EUR",
        "merchantId": merchant, "status": "approved", "riskScore": 0.25
    });
    test.record(&Event::Card(serde_json::from_value(card).unwrap()), at);
}

pub(super) fn pay(test: &mut Harness<Event>, user: &str, at: i64, amount: f64) {
    pay_to(test, user, "m", at, amount);
}

/// A bank transaction: none of the app's.
pub(super) fn bank(test: &mut Harness<Event>, at: i64) {
    test.record(&Event::Bank, at);
}

/// A reading of a host.
pub(super) fn metrics(test: &mut Harness<Event>, host: &str, at: i64, cpu: f64, memory: f64, errors: f64) {
    let metrics = json!({"timestamp": at, "host": host, "cpu": cpu, "memory": memory, "errors": errors});
    test.record(&Event::Metrics(serde_json::from_value(metrics).unwrap()), at);
}

fn source(topic: &str) -> usize {
    APP.sources.iter().position(|source| source.topic == topic).unwrap()
}

#[test]
fn records_are_read_as_what_their_topic_holds_and_malformed_ones_are_dead() {
    let mut task = APP.task(0).unwrap();
    task.start();
    let mut effects = Effects::default();
    let good = [
        ("user-events", r#"{"timestamp":"2024-06-01T00:00:00Z","userId":"u","eventType":"login"}"#),
        ("transactions", r#"{"timestamp":1717200000000,"transactionId":"t","userId":"u","amount":9}"#),
        ("transactions", r#"{"timestamp":"1717200000","account":7,"amount":9}"#),
        ("system-metrics", r#"{"timestamp":1717200000000,"host":"h","cpu":1,"memory":2,"errors":0}"#),
        ("users", r#"{"userId":"u","homeCountry":"FR"}"#),
        ("merchants", r#"{"merchantId":"m"}"#),
    ];
    let bad = [
        ("user-events", r#"{"timestamp":"soon","userId":"u","eventType":"login"}"#),
        ("user-events", r#"{"timestamp":1,"userId":"u","eventType":"login","location":{"lat":91,"lon":0}}"#),
        ("transactions", r#"{"timestamp":1717200000000,"userId":"u"}"#),
        ("system-metrics", r#"{"timestamp":1,"host":"h"}"#),
        ("users", "{}"),
        ("merchants", "[]"),
    ];
    for (offset, (topic, value)) in (0..).zip(good.into_iter().chain(bad)) {
        let record = Record { source: source(topic), offset, key: Some(b"k"), value: Some(value.as_bytes()) };
        task.step(Input::Record(record), &mut effects).unwrap();
    }
    let tombstones =
        [("users", Some(b"u".as_slice())), ("merchants", Some(b"m")), ("users", None), ("user-events", None)];
    for (topic, key) in tombstones {
        let record = Record { source: source(topic), offset: 99, key, value: None };
        task.step(Input::Record(record), &mut effects).unwrap();
    }
    let reasons: Vec<String> = effects
        .iter()
        .filter_map(|effect| if let Effect::Dead { reason } = effect { Some(reason.clone()) } else { None })
        .collect();
    let words =
        ["user event", "earth", "transactionId", "cpu", "userId", "merchant", "without a key", "no value"];
    assert_eq!(reasons.len(), words.len(), "{reasons:?}");
    for (reason, word) in reasons.iter().zip(words) {
        assert!(reason.contains(word), "{reason}: {word}");
    }
    for job in task.jobs() {
        assert!(
            job.stats.balances(job.pending) && job.stats.violations == 0,
            "{}: {:?}",
            job.name,
            job.stats
        );
        assert_eq!(job.stats.records % 4, 0, "{}: the four of streams, once for each branch", job.name);
    }
}

/// See "Duplicates" in docs/semantics.md.
#[test]
fn what_comes_twice_counts_twice() {
    type Feed = fn(&mut Harness<Event>);
    let tumbling = json!({"window": "tumbling"});
    let none = json!({});
    // Number of the job, parameters, what happens, where results go, what they say.
    let table: [(usize, &Value, Feed, _, _, Value); 9] = [
        (0, &none, |test| view(test, "u", "click", "/", 1_000), "page-stats", "count", json!([2, 2])),
        (1, &tumbling, |test| pay(test, "u", 1_000, 9.0), "merchant-trends", "sum", json!([18.0])),
        (2, &none, |test| view(test, "u", "click", "/", 1_000), "user-sessions", "events", json!([2])),
        (
            3,
            &none,
            |test| pay(test, "u", 1_000, 9.0),
            "processed-events",
            "transactionId",
            json!(["t1000", "t1000"]),
        ),
        (4, &none, |test| pay(test, "u", 2_000, 900.0), "alerts", "type", json!(["CARD_TESTING"])),
        (
            5,
            &none,
            |test| at_place(test, "u", "login", 2_000, TOKYO),
            "alerts",
            "type",
            json!(["IMPOSSIBLE_TRAVEL"]),
        ),
        (
            6,
            &none,
            |test| pay(test, "v", 3_000, 400.0),
            "alerts",
            "id",
            json!(["login-then-spend/test/0/3,4", "login-then-spend/test/0/3,5"]),
        ),
        (
            7,
            &none,
            |test| view(test, "u", "add_to_cart", "/", 1_000),
            "alerts",
            "id",
            json!(["cart-abandonment/test/0/4", "cart-abandonment/test/0/5"]),
        ),
        (8, &none, |test| metrics(test, "h", 1_000, 1.0, 1.0, 0.0), "host-stats", "count", json!([2])),
    ];
    for (number, params, twice, topic, field, expected) in table {
        let mut test = Harness::new(move || (APP.jobs)().remove(number));
        test.params(1, params).unwrap();
        if (4..=7).contains(&number) {
            // What precedes it: a small payment, somewhere else, a login from a new country.
            pay(&mut test, "u", 1_000, 1.0);
            at_place(&mut test, "u", "login", 1_000, PARIS);
            at_place(&mut test, "v", "page_view", 1_000, PARIS);
            at_place(&mut test, "v", "login", 2_000, TOKYO);
            test.emitted("alerts");
        }
        twice(&mut test);
        twice(&mut test);
        test.watermark(1_000_000);
        let said: Vec<_> = test.emitted(topic).into_iter().map(|result| result[field].clone()).collect();
        assert_eq!(json!(said), expected, "{}", test.job().descriptor().name);
    }
}

#[test]
fn restored_from_the_changelog_it_continues_exactly() {
    let places = [PARIS, TOKYO];
    let change = ("sessions", &json!({"gap_s": 3}));
    let written = crate::apps::tests::continues_exactly(&APP, change, |i| {
        let at = 1_000_000 + i * 2_000 - (i % 7) * 1_500;
        let user = format!("u{}", i / 3 % 4);
        let (lat, lon) = places[(i / 50) as usize % 2];
        let kind = ["login", "add_to_cart", "page_view", "purchase"][(i / 12) as usize % 4];
        let (topic, value) = match i % 3 {
            0 => (
                topic::USER_EVENTS,
                json!({"timestamp": at, "userId": user, "eventType": kind, "page": format!("/{}", i % 4),
                       "location": {"lat": lat, "lon": lon}}),
            ),
            1 => (
                topic::TRANSACTIONS,
                json!({"timestamp": at, "transactionId": i.to_string(), "userId": user, "amount": i % 25 * 30 + 1,
                       "merchantId": format!("m{}", i % 2)}),
            ),
            _ => {
                let cpu = if i == 386 { 99.0 } else { 20.0 };
                (
                    topic::SYSTEM_METRICS,
                    json!({"timestamp": at, "host": "h", "cpu": cpu, "memory": 50, "errors": 0}),
                )
            }
        };
        (source(topic), value.to_string())
    });
    let all = [
        topic::ALERTS,
        topic::ANOMALIES,
        topic::HOST_STATS,
        topic::ENRICH_REPARTITION,
        topic::SPEND_TREND_REPARTITION,
        topic::TRAFFIC_REPARTITION,
        topic::USER_SESSIONS,
    ];
    assert_eq!(written.into_iter().collect::<Vec<_>>(), all);
}
