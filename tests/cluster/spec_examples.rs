use std::time::Duration;

use millrace_tests::{Cluster, Outgoing, eventually, now_ms, reading, tasks};
use millrace_wire::topic;
use serde_json::{Value, json};

/// Everything of a test is in this partition, in this order: when there is a result of its last record, there are all.
const PARTITION: i32 = 4;
/// The apps let records be this much out of order, ms.
const OUT_OF_ORDERNESS_MS: i64 = 5_000;

fn at_partition(key: &str, value: &Value) -> Outgoing {
    Outgoing { key: key.to_owned(), value: value.to_string().into_bytes(), partition: Some(PARTITION) }
}

/// A time that is in time for an app, and not far from now, epoch ms.
fn in_time(cluster: &Cluster, app: &str) -> i64 {
    let watermark = tasks(&cluster.kafka, app)[&PARTITION].watermark_ms;
    let latest = watermark.map_or(0, |watermark| watermark + OUT_OF_ORDERNESS_MS + 1);
    latest.max(now_ms() - 20_000) + 1
}

/// Waits for a result of the key `last` and for so many of the key `ours`, of which it returns all, in their order. (What is
/// committed together is not seen at the same moment in all partitions.)
fn until(
    cluster: &Cluster,
    (topic, from): (&str, &[i64]),
    last: &str,
    (ours, enough): (&str, usize),
) -> Vec<Value> {
    eventually(&format!("results of {last} and {ours} in {topic}"), Duration::from_secs(60), || {
        let all = cluster.kafka.read(topic, from);
        let over = all.iter().any(|message| message.key == last);
        let of_key = all.iter().filter(|message| message.key == ours);
        let found: Vec<Value> =
            of_key.map(|message| serde_json::from_slice(&message.value).unwrap()).collect();
        if over && found.len() >= enough { Ok(found) } else { Err(format!("{over}, {found:?}")) }
    })
}

#[test]
fn ten_deposits_of_600_raise_one_alert_and_add_up() {
    let cluster = Cluster::exclusive();
    let since = |topic: &'static str| (topic, cluster.kafka.ends(topic));
    let (alerts, balances) = (since(topic::FRAUD_ALERTS), since(topic::ACCOUNT_BALANCES));
    let (account, last) = (now_ms(), now_ms() + 1);
    let second = in_time(&cluster, "bank") / 1_000 + 1;
    let deposit = |account: i64, amount: i64, second: i64| {
        let value =
            json!({"account": account, "amount": amount, "timestamp": second.to_string(), "type": "deposit"});
        at_partition(&account.to_string(), &value)
    };
    let mut input = vec![deposit(account, 600, second); 10];
    // It ends the window of 10 s, and raises an alert of its own.
    input.push(deposit(last, 6_000, second + 16));
    cluster.kafka.write(topic::TRANSACTIONS, &input);

    let (ours, last) = (account.to_string(), last.to_string());
    let found = until(&cluster, (alerts.0, &alerts.1), &last, (&ours, 1));
    let [alert] = found.as_slice() else { panic!("one alert: {found:?}") };
    // As soon as the sum passes the threshold: with the ninth.
    assert_eq!(
        (&alert["account"], &alert["total_activity"], &alert["threshold"], &alert["alert_type"]),
        (&json!(account), &json!(5_400.0), &json!(5_000.0), &json!("HIGH_ACTIVITY"))
    );
    assert_eq!(alert["evidence"].as_array().map(Vec::len), Some(9));
    // How long the window is depends on the test before: one of its parameters may still be open.
    let message = alert["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!("Account {ours} has $5400.00 activity in 1"))
            && message.ends_with(" (threshold: $5000.0)"),
        "{message}"
    );

    let found = until(&cluster, (balances.0, &balances.1), &last, (&ours, 11));
    let start = second.div_euclid(10) * 10_000;
    // One for each deposit, and the last one again when the window is over.
    let balance = |n: i32| json!({"account": account, "balance": f64::from(n) * 600.0, "window_start": start, "window_end": start + 10_000});
    let expected: Vec<Value> = (1..=10).chain([10]).map(balance).collect();
    assert_eq!(found, expected);
}

#[test]
fn orders_raise_fraud_alerts_and_a_customer_becomes_vip() {
    let cluster = Cluster::exclusive();
    let since = |topic: &'static str| (topic, cluster.kafka.ends(topic));
    let (analytics, tiers) = (since(topic::ANALYTICS), since(topic::CUSTOMER_TIERS));
    let run = now_ms();
    let [large, crowd, spender, last] =
        ["large", "crowd", "spender", "last"].map(|name| format!("spec-{name}-{run}"));
    let order = |customer: &str, number: i64, amount: i64| {
        let value = json!({"orderId": format!("{customer}-{number}"), "customerId": customer, "amount": amount,
                           "category": "books", "timestamp": run - 10_000 + number * 1_000, "items": []});
        at_partition(customer, &value)
    };
    let mut input = vec![order(&large, 1, 1_500)];
    input.extend((1..=6).map(|number| order(&crowd, number, 10)));
    input.extend((1..=3).map(|number| order(&spender, number, 200)));
    input.push(order(&last, 1, 1_500));
    cluster.kafka.write(topic::ORDERS, &input);

    let alerts = |customer: &str, enough: usize| -> Vec<Value> {
        let all = until(&cluster, (analytics.0, &analytics.1), &last, (customer, enough));
        let frauds = all.into_iter().filter(|result| result["type"] == "fraud_alert");
        let told = ["customer_id", "reason", "order_id", "amount"];
        frauds.map(|alert| told.iter().map(|field| alert[*field].clone()).collect()).collect()
    };
    assert_eq!(alerts(&large, 1), [json!([large, "Order amount > $1000", format!("{large}-1"), 1_500.0])]);
    let sixth = json!([crowd, "More than 5 orders in 1 minute", format!("{crowd}-6"), 10.0]);
    assert_eq!(alerts(&crowd, 1), [sixth]);
    assert!(alerts(&spender, 0).is_empty());

    let found = until(&cluster, (tiers.0, &tiers.1), &last, (&spender, 2));
    let told = ["customerId", "tier", "previous", "total", "orders", "changed"];
    let found: Vec<Value> =
        found.iter().map(|change| told.iter().map(|field| change[*field].clone()).collect()).collect();
    let expected = [
        json!([spender, "REGULAR", null, 200.0, 1, false]),
        json!([spender, "VIP", "REGULAR", 600.0, 3, true]),
    ];
    assert_eq!(found, expected);
}

#[test]
fn humid_readings_raise_one_alert_each_as_they_rise_or_stay() {
    let cluster = Cluster::exclusive();
    // So that event time is what this test makes of it.
    cluster.quiet();
    let before = cluster.kafka.ends(topic::MOLD_ALERTS);
    let (run, base) = (now_ms(), in_time(&cluster, "sensors"));
    let [rises, stays, falls, last] =
        ["rises", "stays", "falls", "last"].map(|name| format!("spec-{name}-{run}"));
    let humid = |sensor: &str, seconds: i64, percent: f64| Outgoing {
        partition: Some(PARTITION),
        ..reading(sensor, base + seconds * 1_000, percent)
    };
    let mut input = vec![humid(&rises, 0, 71.0), humid(&rises, 3, 85.0)];
    input.extend([(0, 71.0), (1, 72.0), (2, 73.0)].map(|(at, percent)| humid(&stays, at, percent)));
    input.extend([(0, 71.0), (1, 72.0), (2, 65.0)].map(|(at, percent)| humid(&falls, at, percent)));
    input.extend([(4, 71.0), (5, 71.0), (6, 71.0)].map(|(at, percent)| humid(&last, at, percent)));
    // Event time passes all of them.
    input.push(humid(&format!("spec-close-{run}"), 12, 35.0));
    cluster.kafka.write(topic::IOT_SENSORS, &input);

    let alerts =
        |sensor: &str, enough| until(&cluster, (topic::MOLD_ALERTS, &before), &last, (sensor, enough));
    let found = alerts(&rises, 1);
    let [rise] = found.as_slice() else { panic!("one alert: {found:?}") };
    assert_eq!(
        (&rise["type"], &rise["sensorId"], &rise["first"], &rise["second"]),
        (&json!("HUMIDITY_RISE"), &json!(rises), &json!(71.0), &json!(85.0))
    );
    let found = alerts(&stays, 1);
    let [stay] = found.as_slice() else { panic!("one alert: {found:?}") };
    assert_eq!((&stay["type"], &stay["values"]), (&json!("CONSECUTIVE_HIGH"), &json!([71.0, 72.0, 73.0])));
    assert!(alerts(&falls, 0).is_empty(), "two and a low one are none");
}
