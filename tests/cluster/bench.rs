use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millrace_tests::{Cluster, Outgoing, now_ms};
use millrace_wire::bench;
use millrace_wire::topic::PARTITIONS;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use serde_json::{Value, json};

const RECORDS: i64 = 20_000;

/// Card transactions of 500 users over 100 s of event time, at most half a second out of order.
fn cards() -> Vec<Outgoing> {
    let card = |n: i64| {
        let user = format!("u-{}", n * 7_919 % 500);
        let value = json!({
            "timestamp": 1_717_200_000_000_i64 + n * 5 - n * 31 % 500, "transactionId": format!("t-{n}"), "userId": user,
            "amount": (n % 900) as f64, "status": if n % 10 == 0 { "declined" } else { "completed" },
            "riskScore": (n % 100) as f64 / 100.0,
        });
        Outgoing { key: user, value: value.to_string().into_bytes(), partition: None }
    };
    (0..RECORDS).map(card).collect()
}

#[test]
fn every_record_of_a_given_topic_is_measured_and_the_results_are_all_there() {
    let cluster = Cluster::exclusive();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (admin, options) = (cluster.kafka.admin(), AdminOptions::new());
    let topic = format!("test-bench-{}", now_ms());
    let new = NewTopic::new(&topic, PARTITIONS, TopicReplication::Fixed(3));
    let created = runtime.block_on(admin.create_topics([&new], &options)).unwrap();
    assert!(created[0].is_ok(), "{created:?}");
    cluster.kafka.write(&topic, &cards());

    let before = cluster.kafka.layout().1;
    let client = cluster.file("librdkafka.properties");
    let arguments = ["bench", "--json", "--only", "catch-up", "--queries", "transform,tumbling"];
    let out =
        cluster.millrace(&[&arguments[..], &["--topic", &topic, "--client-config", &client]].concat(), &[]);
    let lines: BTreeMap<String, Value> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["name"].as_str().unwrap().to_owned(), line))
        .collect();
    assert_eq!(lines.keys().collect::<Vec<_>>(), ["floor", "transform", "tumbling"]);
    for line in lines.values() {
        assert_eq!(line["records"], RECORDS, "{line}");
        assert!(line["wall_s"].as_f64().unwrap() > 0.0 && line["cpu_s"].as_f64().unwrap() > 0.0, "{line}");
    }

    // What must come of it, from what lies in Kafka: partition, user, time.
    let written = cluster.kafka.read(&topic, &vec![0; PARTITIONS as usize]);
    let (mut kept, mut windows, mut latest) = (0, BTreeSet::new(), BTreeMap::<i32, i64>::new());
    for message in &written {
        let card: Value = serde_json::from_slice(&message.value).unwrap();
        let at = card["timestamp"].as_i64().unwrap();
        kept += i32::from(card["status"] == "completed" && card["riskScore"].as_f64().unwrap() > 0.5);
        windows.insert((message.partition, message.key.clone(), at / 10_000 * 10_000 + 10_000));
        let latest = latest.entry(message.partition).or_insert(at);
        *latest = at.max(*latest);
    }
    let closed = windows.iter().filter(|(partition, _, end)| *end <= latest[partition] - 2_000).count();
    assert!(kept > 0 && closed > 0);
    assert_eq!(lines["transform"]["results"], kept);
    assert_eq!(lines["tumbling"]["results"], closed);

    // Nothing of it stays, and the demo has not noticed.
    let after = cluster.kafka.layout().1;
    let left: Vec<_> =
        after.keys().filter(|topic| !before.contains_key(*topic) && bench::owns(topic)).collect();
    assert!(left.is_empty(), "{left:?}");
    let overview = cluster.api.overview();
    assert!(overview.workers.iter().all(|worker| !bench::owns(&worker.component)), "{:?}", overview.workers);
    cluster.wait_until_well(Duration::from_secs(30));
    runtime.block_on(admin.delete_topics(&[&topic], &options)).unwrap();
}
