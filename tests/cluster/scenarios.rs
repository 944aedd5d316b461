use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_tests::{Cluster, Message, eventually, now_ms};
use millrace_wire::scenario::Scenario;
use millrace_wire::topic;
use serde_json::{Value, json};

/// Streams in which something is provoked, events/s meanwhile, and what, one after the other.
const PROVOKED: [(&str, f64, [Scenario; 3]); 4] = [
    (topic::IOT_SENSORS, 60.0, [Scenario::Mold, Scenario::SensorFault, Scenario::LateStorm]),
    (topic::TRANSACTIONS, 30.0, [Scenario::CardFraud, Scenario::AccountDrain, Scenario::Malformed]),
    (topic::ORDERS, 20.0, [Scenario::VipSpree, Scenario::IdlePartition, Scenario::Burst]),
    (topic::USER_EVENTS, 40.0, [Scenario::ImpossibleTravel, Scenario::HotKey, Scenario::LateStorm]),
];
/// How long each lasts. A partition is idle after 10 s.
const SECONDS: i64 = 20;
/// Where alerts are.
const ALERTS: [&str; 5] =
    [topic::ALERTS, topic::MOLD_ALERTS, topic::FRAUD_ALERTS, topic::SENSOR_ALERTS_CRITICAL, topic::ANALYTICS];

/// A record of a result topic.
fn value(message: &Message) -> Value {
    serde_json::from_slice(&message.value).unwrap()
}

/// All apps together: every scenario is provoked, one in each stream at a time, and a worker dies on the way. Each has the
/// consequences that it should have; every alert came once, and rests on records of whom it concerns; and each windowed job
/// has emitted what batch makes of the topics.
#[test]
fn every_scenario_is_noticed_and_every_alert_comes_once_with_its_evidence() {
    let cluster = Cluster::exclusive();
    let kafka = &cluster.kafka;
    let ends = |topics: &[&'static str]| -> BTreeMap<&'static str, Vec<i64>> {
        topics.iter().map(|&topic| (topic, kafka.ends(topic))).collect()
    };
    let (alerts, sides) = (ends(&ALERTS), ends(&[topic::LATE_EVENTS, topic::DEAD_LETTERS, topic::ANOMALIES]));
    let sources = ends(&PROVOKED.map(|(stream, ..)| stream));
    for (stream, rate, _) in PROVOKED {
        cluster.api.set_rate_of(stream, rate);
    }
    let scenario_of = |stream: &str| {
        let producers: Value = cluster.api.get("/producers").expect(200).json();
        let all = producers["items"].as_array().unwrap().clone();
        all.into_iter().find(|producer| producer["stream"] == stream).unwrap()["scenario"].clone()
    };
    let mut quiet_partition = (0, 0);
    let mut shares = BTreeMap::new();
    for round in 0..3 {
        for (stream, _, scenarios) in PROVOKED {
            let body = json!({"name": scenarios[round].name(), "seconds": SECONDS});
            let path = format!("/producers/{stream}/scenario");
            let answer: Value = cluster.api.send("POST", &path, Some(&body)).expect(200).json();
            assert_eq!(answer["applied"], true, "{answer}");
        }
        let began = now_ms();
        let before = ends(&PROVOKED.map(|(stream, ..)| stream));
        if round == 0 {
            cluster.kill_9(&cluster.workers()[0]);
        }
        eventually("the scenarios are over", Duration::from_secs(60), || {
            let running: Vec<Value> = PROVOKED.iter().map(|(stream, ..)| scenario_of(stream)).collect();
            if running.iter().all(Value::is_null) { Ok(()) } else { Err(format!("{running:?}")) }
        });
        let seconds = (now_ms() - began) as f64 / 1_000.0;
        for (stream, rate, scenarios) in PROVOKED {
            let grown: Vec<i64> =
                kafka.ends(stream).iter().zip(&before[stream]).map(|(b, a)| b - a).collect();
            let all: i64 = grown.iter().sum();
            match scenarios[round] {
                Scenario::IdlePartition => quiet_partition = (grown[0], all),
                scenario => drop(shares.insert(scenario, (grown, all as f64 / seconds / rate))),
            }
        }
    }
    // What begins when the commands are given and ends a moment before the next look is nearly all of it.
    let (idle, all) = quiet_partition;
    assert!(idle * 20 < all, "{idle} of {all} records in the partition that should be idle");
    assert!(shares[&Scenario::Burst].1 > 4.0, "{shares:?}");
    let mut by_partition = shares[&Scenario::HotKey].0.clone();
    by_partition.sort_unstable();
    let [.., next, hot] = by_partition.as_slice() else { panic!("{by_partition:?}") };
    assert!(hot > &(2 * next), "one partition has most: {by_partition:?}");

    let found = |topic: &str| -> BTreeSet<String> {
        let read = kafka.read(topic, &alerts[topic]);
        read.iter().filter_map(|alert| Some(value(alert)["type"].as_str()?.to_owned())).collect()
    };
    for (topic, kinds) in [
        (topic::MOLD_ALERTS, vec!["CONSECUTIVE_HIGH", "HUMIDITY_RISE"]),
        (
            topic::ALERTS,
            vec!["CARD_TESTING", "VELOCITY", "IMPOSSIBLE_TRAVEL", "HIGH_VALUE_ORDER", "RAPID_ORDERING"],
        ),
        (topic::FRAUD_ALERTS, vec!["HIGH_ACTIVITY"]),
        (topic::ANALYTICS, vec!["fraud_alert"]),
    ] {
        eventually(&format!("{kinds:?} in {topic}"), Duration::from_secs(90), || {
            let found = found(topic);
            if kinds.iter().all(|kind| found.contains(*kind)) { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
    let from = |topic: &str, source: &str| {
        let read = kafka.read(topic, &sides[topic]);
        read.iter().filter(|message| message.headers.values().any(|header| header == source)).count()
    };
    assert!(from(topic::LATE_EVENTS, topic::IOT_SENSORS) > 100);
    assert!(from(topic::DEAD_LETTERS, topic::TRANSACTIONS) > 20);
    assert!(kafka.read(topic::ANOMALIES, &sides[topic::ANOMALIES]).len() > 1);
    let tiers = kafka.read(topic::CUSTOMER_TIERS, &[0; 6]);
    let last = tiers.iter().rfind(|message| message.key == "c-00007").map(value);
    assert_eq!(last.map(|tier| tier["tier"].clone()), Some(json!("PREMIUM")), "the customer of the spree");

    for (stream, ..) in PROVOKED {
        cluster.api.set_rate_of(stream, 0.0);
    }
    for (app, stream) in [("sensors", 0), ("bank", 1), ("commerce", 2), ("activity", 3), ("activity", 1)] {
        let stream = PROVOKED[stream].0;
        eventually(&format!("{app} has read {stream}"), Duration::from_secs(60), || {
            match kafka.lag(&topic::group(app), stream) {
                0 => Ok(()),
                lag => Err(format!("lag {lag}")),
            }
        });
    }
    let mut keys = BTreeMap::new();
    for (stream, from) in &sources {
        let read = kafka.read(stream, from).into_iter();
        keys.extend(read.map(|m| ((*stream, i64::from(m.partition), m.offset), m.key)));
    }
    let mut ids = BTreeSet::new();
    let mut evidences = 0;
    for topic in ALERTS {
        for alert in
            kafka.read(topic, &alerts[topic]).iter().map(value).filter(|alert| alert["id"].is_string())
        {
            let id = alert["id"].as_str().unwrap().to_owned();
            assert!(ids.insert(id), "twice: {alert}");
            let evidence = alert["evidence"].as_array().unwrap();
            assert!(!evidence.is_empty(), "{alert}");
            for record in evidence {
                let stream = *sources.keys().find(|stream| **stream == record["topic"]).unwrap();
                let place = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
                // An alert may rest on a record of before this test.
                if place.1 >= sources[stream][usize::try_from(place.0).unwrap()] {
                    assert_eq!(keys[&(stream, place.0, place.1)], alert["key"].as_str().unwrap(), "{alert}");
                    evidences += 1;
                }
            }
        }
    }
    println!("{} alerts rest on {evidences} records", ids.len());
    assert!(ids.len() > 50 && evidences >= ids.len());
    // Not those of `commerce`: the test of savepoints takes it back, so that results of some windows are there twice.
    let windowed = [
        "sensors.humidity-average",
        "bank.account-balances",
        "bank.high-activity",
        "activity.traffic",
        "activity.spend-trend",
        "activity.sessions",
        "activity.host-health",
    ];
    let verdict = cluster.millrace(&[&["verify"], windowed.as_slice()].concat(), &[]);
    println!("{verdict}");
    assert_eq!(verdict.matches("stream and batch agree").count(), windowed.len() + 1, "{verdict}");
    cluster.wait_until_well(Duration::from_secs(60));
}

/// What is provoked comes: alerts of a stolen card, dead letters of records that are cut off. What makes no sense is refused.
#[test]
fn what_is_provoked_comes() {
    let cluster = Cluster::exclusive();
    let since = |topic: &'static str| (topic, cluster.kafka.ends(topic));
    let (alerts, dead) = (since(topic::ALERTS), since(topic::DEAD_LETTERS));
    cluster.api.set_rate_of(topic::TRANSACTIONS, 50.0);
    let said = cluster.millrace(&["scenario", "card-fraud", "--seconds", "15"], &[]);
    assert!(said.contains("CARD_TESTING"), "{said}");
    let producers: Value = cluster.api.get("/producers").expect(200).json();
    let stream =
        producers["items"].as_array().unwrap().iter().find(|p| p["stream"] == topic::TRANSACTIONS).unwrap();
    assert_eq!(stream["scenario"]["name"], "card-fraud", "{stream}");
    eventually("a stolen card is noticed", Duration::from_secs(60), || {
        let found = cluster.kafka.read(alerts.0, &alerts.1);
        let testing =
            |value: &[u8]| serde_json::from_slice::<Value>(value).unwrap()["type"] == "CARD_TESTING";
        if found.iter().any(|m| testing(&m.value)) { Ok(()) } else { Err(format!("{} alerts", found.len())) }
    });
    let body = json!({"name": "malformed", "seconds": 10});
    let answer = cluster.api.send("POST", "/producers/transactions/scenario", Some(&body)).expect(200);
    assert!(answer.text.contains(r#""applied":true"#), "{}", answer.text);
    eventually("records that are cut off are dead letters", Duration::from_secs(60), || {
        match cluster.kafka.read(dead.0, &dead.1).len() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    });
    eventually("it ends by itself", Duration::from_secs(30), || {
        let producers: Value = cluster.api.get("/producers").expect(200).json();
        let stream =
            producers["items"].as_array().unwrap().iter().find(|p| p["stream"] == topic::TRANSACTIONS);
        if stream.unwrap()["scenario"].is_null() { Ok(()) } else { Err(producers.to_string()) }
    });
    let error = cluster.millrace_fails(&["scenario", "burst"]);
    assert!(error.contains("--stream"), "{error}");
    cluster.api.set_rate_of(topic::TRANSACTIONS, 0.0);
    cluster.wait_until_well(Duration::from_secs(60));
}
