mod round;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_tests::{Cluster, Message, eventually};
use millrace_wire::scenario::Scenario;
use millrace_wire::{Timestamp, topic};
use serde_json::{Value, json};

use round::{PROVOKED, ends, most, round};

/// Where alerts are.
const ALERTS: [&str; 7] = [
    topic::ALERTS,
    topic::MOLD_ALERTS,
    topic::FRAUD_ALERTS,
    topic::SENSOR_ALERTS_CRITICAL,
    topic::SENSOR_ALERTS_HIGH,
    topic::SENSOR_ALERTS_WARNING,
    topic::ANALYTICS,
];
/// Topic and type of alerts that come of a scenario, and how the key of whom it befalls begins.
const EXPECTED: [(&str, &str, &str); 9] = [
    (topic::MOLD_ALERTS, "CONSECUTIVE_HIGH", "cellar-h"),
    (topic::MOLD_ALERTS, "HUMIDITY_RISE", "cellar-h"),
    (topic::ALERTS, "CARD_TESTING", "u-00000"),
    (topic::ALERTS, "VELOCITY", "u-00000"),
    (topic::ALERTS, "IMPOSSIBLE_TRAVEL", "u-00000"),
    (topic::ALERTS, "HIGH_VALUE_ORDER", SPENDER),
    (topic::ALERTS, "RAPID_ORDERING", SPENDER),
    (topic::ANALYTICS, "fraud_alert", SPENDER),
    (topic::FRAUD_ALERTS, "HIGH_ACTIVITY", "100000"),
];
/// The customer of `vip-spree`.
const SPENDER: &str = "c-00007";
/// What the spender has to spend on the way from VIP to PREMIUM: less than a spree, more than an order of one.
const PREMIUM_AFTER: f64 = 12_000.0;
/// No sensor can measure this: what is beyond is of `sensor-fault`.
const LIMITS: [(&str, f64); 4] =
    [("humidity", 150.0), ("temperature", 100.0), ("vibration", 100.0), ("pressure", 2_000.0)];
/// Length of the windows, ms.
const WINDOW_MS: i64 = 10_000;

/// Jobs that `millrace verify` knows: their windows in this test, which has no hour, and otherwise.
fn windows() -> [(&'static str, Value, Value); 7] {
    let seconds = |size: i64| json!({"window_size_s": size});
    let short = seconds(WINDOW_MS / 1_000);
    [
        ("sensors.humidity-average", short.clone(), seconds(300)),
        ("bank.high-activity", short.clone(), seconds(60)),
        ("commerce.customer-stats", short.clone(), seconds(3_600)),
        ("commerce.hourly-sales", short, seconds(3_600)),
        (
            "activity.traffic",
            json!({"window_size_s": 10, "long_window_size_s": 20}),
            json!({"window_size_s": 60, "long_window_size_s": 300}),
        ),
        ("activity.spend-trend", seconds(20), seconds(60)),
        ("activity.sessions", json!({"gap_s": 10}), json!({"gap_s": 30})),
    ]
}

/// A record of a result topic.
fn value(message: &Message) -> Value {
    serde_json::from_slice(&message.value).unwrap()
}

/// Waits until every app has read its streams.
fn all_read(cluster: &Cluster) {
    for (app, stream) in [
        ("sensors", topic::IOT_SENSORS),
        ("bank", topic::TRANSACTIONS),
        ("commerce", topic::ORDERS),
        ("activity", topic::USER_EVENTS),
        ("activity", topic::TRANSACTIONS),
        ("activity", topic::SYSTEM_METRICS),
    ] {
        eventually(&format!("{app} has read {stream}"), Duration::from_secs(60), || {
            match cluster.kafka.lag(&topic::group(app), stream) {
                0 => Ok(()),
                lag => Err(format!("lag {lag}")),
            }
        });
    }
}

/// All apps together: every scenario is provoked, one in each stream at a time, and a worker dies on the way. Each has the
/// consequences that it should have, for whom it befalls; every alert came once, and rests on records of whom it concerns; and
/// each windowed job has emitted what batch makes of the topics.
#[test]
fn every_scenario_is_noticed_and_every_alert_comes_once_with_its_evidence() {
    let cluster = Cluster::exclusive();
    let kafka = &cluster.kafka;
    cluster.quiet();
    all_read(&cluster);
    for (job, short, _) in windows() {
        cluster.api.set_params(job, &short);
    }
    // A sensor that has not reported often is judged too.
    cluster.api.set_params("sensor-anomalies", &json!({"warm_up": 3}));
    // The spender may be PREMIUM for long: tiers begin where the spender is.
    let totals = kafka.read(topic::CUSTOMER_TOTALS, &[0; 6]);
    let spent = totals.iter().rfind(|message| message.key == SPENDER);
    let spent = spent.map_or(0.0, |message| value(message)["total"].as_f64().unwrap());
    let tiers = json!({"vip": spent + 0.01, "premium": spent + PREMIUM_AFTER});
    cluster.api.set_params("commerce.customer-tiers", &tiers);

    let before = ends(&cluster, &ALERTS);
    let sides = [topic::LATE_EVENTS, topic::DEAD_LETTERS, topic::ANOMALIES, topic::CUSTOMER_TIERS];
    let before_sides = ends(&cluster, &sides);
    let sources = ends(&cluster, &PROVOKED.map(|(stream, ..)| stream));
    for (stream, rate, _) in PROVOKED {
        cluster.api.set_rate_of(stream, rate);
    }
    cluster.api.set_rate_of(topic::SYSTEM_METRICS, 2.0);
    round(&cluster, 0, || cluster.kill_9(&cluster.workers()[0]));
    let second = round(&cluster, 1, || ());
    let third = round(&cluster, 2, || ());

    // What begins when the commands are given and ends a moment before the next look is nearly all of it.
    let (idle, all) = (second.grown[&Scenario::IdlePartition][0], &second.grown[&Scenario::IdlePartition]);
    assert!(idle * 20 < all.iter().sum(), "{all:?} records, and partition 0 should be idle");
    assert!(third.rate[&Scenario::Burst] > 4.0, "{:?}", third.rate);
    let (hot, records, next) = most((0..).zip(second.grown[&Scenario::HotKey].iter().copied()));
    assert!(records > 2 * next, "one partition has most: {:?}", second.grown);
    // Tasks read other streams too, which are as always.
    let (task, worked, _) = most(second.worked.clone());
    let surplus = records - next;
    let others =
        second.worked.iter().filter(|(partition, _)| **partition != hot).map(|(_, records)| *records);
    let usual = others.sum::<u64>() / u64::try_from(second.worked.len() - 1).unwrap();
    assert!(
        task == hot && worked > usual + surplus.unsigned_abs() / 2,
        "the task of {hot} does most, {surplus} more than the next: {:?}",
        second.worked
    );

    event_time_went_on(&cluster, &before[topic::ANALYTICS], second.span[&Scenario::IdlePartition]);
    for (topic, kind, whom) in EXPECTED {
        eventually(&format!("{kind} of {whom} in {topic}"), Duration::from_secs(90), || {
            let alerts = kafka.read(topic, &before[topic]);
            let is_it = |alert: &Message| alert.key.starts_with(whom) && value(alert)["type"] == kind;
            if alerts.iter().any(is_it) { Ok(()) } else { Err(format!("{} alerts", alerts.len())) }
        });
    }
    let from = |topic: &str, source: &str| {
        let read = kafka.read(topic, &before_sides[topic]);
        read.iter().filter(|message| message.headers.values().any(|header| header == source)).count()
    };
    assert!(from(topic::LATE_EVENTS, topic::IOT_SENSORS) > 100);
    assert!(from(topic::LATE_EVENTS, topic::USER_EVENTS) > 100);
    assert!(from(topic::DEAD_LETTERS, topic::TRANSACTIONS) > 20);
    a_sensor_is_faulty(&cluster, &sources[topic::IOT_SENSORS], &before_sides[topic::ANOMALIES]);
    let tiers = kafka.read(topic::CUSTOMER_TIERS, &before_sides[topic::CUSTOMER_TIERS]);
    let tiers = tiers.iter().filter(|message| message.key == SPENDER).map(value);
    let tiers: Vec<(Value, Value)> = tiers.map(|t| (t["tier"].clone(), t["previous"].clone())).collect();
    let vip = tiers.iter().position(|(tier, _)| tier == "VIP").unwrap_or_else(|| panic!("no VIP: {tiers:?}"));
    assert_eq!(tiers[vip + 1..], [(json!("PREMIUM"), json!("VIP"))], "{tiers:?}");

    for (stream, ..) in PROVOKED {
        cluster.api.set_rate_of(stream, 0.0);
    }
    cluster.api.set_rate_of(topic::SYSTEM_METRICS, 0.0);
    all_read(&cluster);
    alerts_rest_on_records(&cluster, &before, &sources);
    let verdict = cluster.millrace(&["verify"], &[]);
    println!("{verdict}");
    let compared: Vec<&str> = verdict
        .lines()
        .filter_map(|line| line.split_once("stream and batch agree: "))
        .map(|(_, n)| n)
        .collect();
    // Every job that can be verified; one has two kinds of windows.
    assert_eq!(compared.len(), 10, "{verdict}");
    assert!(compared.iter().all(|windows| !windows.starts_with("0 ")), "{verdict}");

    for (job, _, otherwise) in windows() {
        cluster.api.set_params(job, &otherwise);
    }
    cluster.api.set_params("sensor-anomalies", &json!({"warm_up": 30}));
    cluster.api.set_params("commerce.customer-tiers", &json!({"vip": 500, "premium": 1_000}));
    cluster.wait_until_well(Duration::from_secs(60));
}

/// While partition 0 of `orders` had nothing, windows over all orders were over that end so late that it would have held them
/// back: its event time stood 5 s before the scenario.
fn event_time_went_on(cluster: &Cluster, before: &[i64], (began, ended): (i64, i64)) {
    let closed = |message: &Message| {
        let sales = value(message);
        let start: Timestamp = serde_json::from_value(sales["window_start"].clone()).ok()?;
        let meanwhile = start.millis() + WINDOW_MS > began + 5_000 && message.created_ms < ended;
        (sales["type"] == "hourly_sales" && meanwhile).then_some(sales)
    };
    let sales = cluster.kafka.read(topic::ANALYTICS, before);
    assert!(
        sales.iter().any(|message| closed(message).is_some()),
        "no window was over from {began} to {ended}"
    );
}

/// One sensor measured what none can, and both detectors say so of it.
fn a_sensor_is_faulty(cluster: &Cluster, readings: &[i64], anomalies: &[i64]) {
    let impossible = |value: &Value, kind: &str| {
        LIMITS.iter().any(|(name, limit)| value[kind] == *name && value["value"].as_f64() > Some(*limit))
    };
    let measured = cluster.kafka.read(topic::IOT_SENSORS, readings);
    let faulty: BTreeSet<&String> = measured
        .iter()
        .filter(|message| impossible(&value(message), "deviceType"))
        .map(|message| &message.key)
        .collect();
    let faulty: Vec<&String> = faulty.into_iter().collect();
    let [sensor] = faulty.as_slice() else { panic!("{faulty:?} are faulty") };
    for method in ["ewma", "mad"] {
        eventually(&format!("an anomaly of {sensor} by {method}"), Duration::from_secs(30), || {
            let found = cluster.kafka.read(topic::ANOMALIES, anomalies);
            let by_it = |message: &Message| {
                let anomaly = value(message);
                message.key == **sensor && anomaly["method"] == method && impossible(&anomaly, "metric")
            };
            if found.iter().any(by_it) { Ok(()) } else { Err(format!("{} anomalies", found.len())) }
        });
    }
}

/// Every alert came once, and rests on records of whom it concerns.
fn alerts_rest_on_records(
    cluster: &Cluster,
    alerts: &BTreeMap<&'static str, Vec<i64>>,
    sources: &BTreeMap<&'static str, Vec<i64>>,
) {
    let mut keys = BTreeMap::new();
    for (stream, from) in sources {
        let read = cluster.kafka.read(stream, from).into_iter();
        keys.extend(read.map(|m| ((*stream, i64::from(m.partition), m.offset), m.key)));
    }
    let mut ids = BTreeSet::new();
    let mut evidences = 0;
    for topic in ALERTS {
        let read = cluster.kafka.read(topic, &alerts[topic]);
        let had = ids.len();
        for alert in read.iter().map(value).filter(|alert| alert["id"].is_string()) {
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
        assert!(ids.len() > had, "no alert in {topic}");
    }
    println!("{} alerts rest on {evidences} records", ids.len());
    assert!(ids.len() > 50 && evidences >= ids.len());
}
