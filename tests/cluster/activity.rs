use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::{Cluster, Outgoing, eventually, now_ms};
use millrace_wire::topic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

/// The app lets records be this much out of order, ms.
const OUT_OF_ORDERNESS_MS: i64 = 5_000;
const CALL: Duration = Duration::from_secs(20);
const PARIS: (f64, f64) = (48.86, 2.35);
const KYOTO: (f64, f64) = (35.01, 135.75);
const STRASBOURG: (f64, f64) = (48.57, 7.75);
const KEHL: (f64, f64) = (48.57, 7.82);

fn event(user: &str, kind: &str, at_ms: i64, (lat, lon): (f64, f64)) -> Outgoing {
    let value = json!({"timestamp": at_ms, "userId": user, "eventType": kind, "page": "/", "location": {"lat": lat, "lon": lon}});
    Outgoing { key: user.to_owned(), value: value.to_string().into_bytes(), partition: None }
}

fn payment(user: &str, at_ms: i64, amount: f64) -> Outgoing {
    let value = json!({"timestamp": at_ms, "transactionId": format!("{user}-{at_ms}"), "userId": user, "amount": amount,
                       "currency": "EUR", "merchantId": "m-001"});
    Outgoing { key: user.to_owned(), value: value.to_string().into_bytes(), partition: None }
}

/// The latest event time in a topic, epoch ms, by the last records of each partition.
fn latest(cluster: &Cluster, topic: &str) -> i64 {
    let from: Vec<i64> = cluster.kafka.ends(topic).iter().map(|end| (end - 100).max(0)).collect();
    let time = |value: &[u8]| serde_json::from_slice::<Value>(value).ok()?["timestamp"].as_i64();
    cluster.kafka.read(topic, &from).iter().filter_map(|message| time(&message.value)).max().unwrap_or(0)
}

/// Moves event time of every task to `at_ms`, by a user of its own in each partition of both streams.
fn mark(cluster: &Cluster, at_ms: i64) {
    let all = |make: &dyn Fn(&str) -> Outgoing| -> Vec<Outgoing> {
        let of =
            |partition| Outgoing { partition: Some(partition), ..make(&format!("mark-{partition}-{at_ms}")) };
        (0..topic::PARTITIONS).map(of).collect()
    };
    cluster.kafka.write(topic::USER_EVENTS, &all(&|user| event(user, "logout", at_ms, PARIS)));
    cluster.kafka.write(topic::TRANSACTIONS, &all(&|user| payment(user, at_ms, 50.0)));
}

/// Waits until the app has read its streams.
fn all_read(cluster: &Cluster) {
    eventually("the processor has read everything", Duration::from_secs(120), || {
        let lag = [topic::USER_EVENTS, topic::TRANSACTIONS]
            .map(|t| cluster.kafka.lag(&topic::group("activity"), t));
        if lag == [0, 0] { Ok(()) } else { Err(format!("lag {lag:?}")) }
    });
}

/// Somebody keeps reference data in transactions. Their markers are at the end of the topic, and no reader is handed them: they
/// do not keep streams waiting for reference data.
#[test]
fn reference_data_may_be_written_in_transactions() {
    let cluster = Cluster::exclusive();
    let name = format!("m-{}", now_ms());
    let producer: BaseProducer =
        cluster.kafka.config().clone().set("transactional.id", &name).create().unwrap();
    producer.init_transactions(CALL).unwrap();
    producer.begin_transaction().unwrap();
    let merchant =
        json!({"merchantId": name, "name": name, "category": "books", "country": "DE", "riskClass": "low"});
    let merchant = merchant.to_string();
    for partition in 0..topic::PARTITIONS {
        let record = BaseRecord::to(topic::MERCHANTS).partition(partition).key(&name).payload(&merchant);
        producer.send(record).unwrap();
    }
    producer.commit_transaction(CALL).unwrap();
    cluster.workers().iter().for_each(|worker| cluster.kill_9(worker));
    mark(&cluster, now_ms());
    all_read(&cluster);
    // A topic that ends with a record has no lag.
    let again = |partition| {
        let (key, value) = (name.clone(), merchant.clone().into_bytes());
        Outgoing { key, value, partition: Some(partition) }
    };
    cluster.kafka.write(topic::MERCHANTS, &(0..topic::PARTITIONS).map(again).collect::<Vec<_>>());
    cluster.wait_until_well(Duration::from_secs(60));
}

/// Each pattern of users and their cards raises its alert, once, with the records that it rests on, though every worker dies on
/// the way. Everything spans less than a minute: a later test needs a watermark that is not far ahead of the clock.
#[test]
fn what_users_do_and_pay_raises_each_alert_once_with_its_evidence() {
    let cluster = Cluster::exclusive();
    all_read(&cluster);
    cluster.api.set_params("activity.cart-abandonment", &json!({"within_s": 20}));
    let prefix = format!("activity-{}", now_ms());
    let user = |name: &str| format!("{prefix}-{name}");
    let before = cluster.kafka.ends(topic::ALERTS);
    let latest = latest(&cluster, topic::USER_EVENTS).max(latest(&cluster, topic::TRANSACTIONS));
    let base = latest.max(now_ms() - 10_000) + 1_000;

    let (tester, fast, traveller, spender, leaver, buyer) =
        (user("tester"), user("fast"), user("traveller"), user("spender"), user("leaver"), user("buyer"));
    let events = [
        (0, "page_view", &traveller, PARIS),
        (10, "page_view", &traveller, KYOTO),
        (0, "add_to_cart", &leaver, PARIS),
        (0, "add_to_cart", &buyer, PARIS),
        (10, "purchase", &buyer, PARIS),
        // Across the border, at a speed that is possible.
        (0, "page_view", &spender, STRASBOURG),
        (24, "login", &spender, KEHL),
    ];
    let mut payments =
        vec![(0, &tester, 1.0), (20, &tester, 900.0), (25, &spender, 450.0), (25, &buyer, 450.0)];
    payments.extend((0..5).map(|i| (i * 5, &fast, 20.0)));
    // What is written at once has one event time, and all of it is read before the next: nothing is late, whoever shares a
    // partition and whichever stream is silent.
    for seconds in [0, 5, 10, 15, 20, 24, 25] {
        let at = base + seconds * 1_000;
        let now = events.iter().filter(|event| event.0 == seconds);
        let of_users: Vec<_> = now.map(|&(_, kind, user, place)| event(user, kind, at, place)).collect();
        let now = payments.iter().filter(|payment| payment.0 == seconds);
        let of_cards: Vec<_> = now.map(|&(_, user, amount)| payment(user, at, amount)).collect();
        cluster.kafka.write(topic::USER_EVENTS, &of_users);
        cluster.kafka.write(topic::TRANSACTIONS, &of_cards);
        if seconds == 10 {
            for worker in cluster.workers() {
                cluster.kill_9(&worker);
            }
        }
        all_read(&cluster);
    }
    mark(&cluster, base + 25_000 + OUT_OF_ORDERNESS_MS + 1);

    let expected: BTreeMap<(String, &str), usize> = [
        ((tester, "CARD_TESTING"), 2),
        ((fast, "VELOCITY"), 5),
        ((traveller, "IMPOSSIBLE_TRAVEL"), 2),
        ((spender, "LOGIN_THEN_SPEND"), 2),
        ((leaver, "CART_ABANDONMENT"), 1),
    ]
    .into();
    let ours = || -> Vec<Value> {
        let messages =
            cluster.kafka.read(topic::ALERTS, &before).into_iter().filter(|m| m.key.starts_with(&prefix));
        messages.map(|m| serde_json::from_slice(&m.value).unwrap()).collect()
    };
    let alerts = eventually("every alert is there", Duration::from_secs(120), || {
        let alerts = ours();
        if alerts.len() >= expected.len() { Ok(alerts) } else { Err(format!("{alerts:?}")) }
    });
    let found: Vec<((String, &str), usize)> = alerts
        .iter()
        .map(|alert| {
            let text = |name: &str| alert[name].as_str().unwrap();
            ((text("key").to_owned(), text("type")), alert["evidence"].as_array().unwrap().len())
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "each once: {found:?}");
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    for alert in &alerts {
        for evidence in alert["evidence"].as_array().unwrap() {
            let (partition, offset) =
                (evidence["partition"].as_u64().unwrap(), evidence["offset"].as_i64().unwrap());
            let topic = evidence["topic"].as_str().unwrap();
            let mut from = cluster.kafka.ends(topic);
            from[usize::try_from(partition).unwrap()] = offset;
            let record = cluster.kafka.read(topic, &from).into_iter().find(|m| m.offset == offset).unwrap();
            assert_eq!(record.key, alert["key"].as_str().unwrap(), "{evidence} is a record of that user");
        }
    }
    eventually("the alerts are in Elasticsearch", Duration::from_secs(60), || {
        let page: Value = cluster.api.get(&format!("/results/alerts?key={prefix}-tester")).expect(200).json();
        if page.to_string().contains("CARD_TESTING") { Ok(()) } else { Err(page.to_string()) }
    });
    assert_eq!(ours().len(), expected.len(), "and nothing comes twice");
    cluster.api.set_params("activity.cart-abandonment", &json!({"within_s": 120}));
    cluster.wait_until_well(Duration::from_secs(60));
}
