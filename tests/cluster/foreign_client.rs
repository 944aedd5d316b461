use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use millrace_tests::{Cluster, Outgoing, eventually, now_ms};
use millrace_wire::topic;
use serde_json::{Value, json};

const CUSTOMERS: u64 = 30;
const ORDERS: u64 = 6_000;

#[test]
fn a_foreign_client_sees_three_brokers_and_every_topic() {
    let cluster = Cluster::exclusive();
    let (brokers, topics) = cluster.kafka.layout();
    assert_eq!(brokers, 3);
    for wanted in topic::catalogue() {
        let partitions = topics.get(&wanted.name).unwrap_or_else(|| panic!("{} is missing", wanted.name));
        let internal = [topic::CONTROL, topic::LEDGER, topic::TELEMETRY].contains(&wanted.name.as_str());
        assert_eq!(partitions.len(), if internal { 1 } else { 6 }, "partitions of {}", wanted.name);
        assert!(partitions.iter().all(|(replicas, _)| *replicas == 3), "{}: {partitions:?}", wanted.name);
    }
}

#[test]
fn reference_data_names_every_sensor_of_the_stream() {
    let cluster = Cluster::exclusive();
    let from = vec![0; 6];
    let known: std::collections::BTreeSet<String> =
        cluster.kafka.read(topic::SENSORS, &from).into_iter().map(|m| m.key).collect();
    let ends = cluster.kafka.ends(topic::IOT_SENSORS);
    let recent: Vec<i64> = ends.iter().map(|end| (end - 50).max(0)).collect();
    let generated = cluster
        .kafka
        .read(topic::IOT_SENSORS, &recent)
        .into_iter()
        .filter(|m| known.contains(&m.key))
        .count();
    assert!(known.len() >= 20, "{} sensors", known.len());
    assert!(generated > 0, "readings of known sensors");
}

/// What Kafka's own console consumer, in Java, finds in a topic at `read_committed`: keys and values.
fn java_consumer(cluster: &Cluster, topic: &str) -> Vec<(String, String)> {
    // Its classes are those of a broker that runs.
    let broker = std::fs::read_to_string(format!("/proc/{}/cmdline", cluster.pids()["kafka-1"])).unwrap();
    let mut args = broker.split('\0');
    let java = args.next().unwrap();
    let class_path = args.skip_while(|arg| *arg != "-cp").nth(1).unwrap();
    let properties = cluster.file("client.properties");
    let bootstrap = cluster.kafka.config().get("bootstrap.servers").unwrap();
    let said = Command::new(java)
        .args(["-Xmx256m", "-cp", class_path, "org.apache.kafka.tools.consumer.ConsoleConsumer"])
        .args(["--bootstrap-server", bootstrap, "--consumer.config", &properties, "--topic", topic])
        .args(["--isolation-level", "read_committed", "--from-beginning", "--timeout-ms", "10000"])
        .args(["--property", "print.key=true", "--property", "key.separator=\t"])
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(said.stdout).unwrap(), String::from_utf8_lossy(&said.stderr));
    let records = out.lines().filter_map(|line| line.split_once('\t'));
    let records: Vec<_> = records.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let processed = format!("Processed a total of {} messages", records.len());
    assert!(err.contains(&processed), "{} records read, and it says: {err}", records.len());
    records
}

#[test]
fn a_java_consumer_sees_each_result_once_whatever_was_killed() {
    let cluster = Cluster::exclusive();
    cluster.quiet();
    let prefix = format!("java-{}-", now_ms());
    let order = |i: u64| {
        let customer = format!("{prefix}{}", i % CUSTOMERS);
        let value = json!({"orderId": format!("{prefix}o{i}"), "customerId": customer, "amount": 10,
            "category": prefix, "timestamp": now_ms()});
        Outgoing { key: customer, value: value.to_string().into_bytes(), partition: None }
    };
    let lag = || cluster.kafka.lag(&topic::group("commerce"), topic::ORDERS);
    let workers = cluster.workers();
    for (worker, begin) in workers.iter().zip((0..).step_by(2_000)) {
        let orders: Vec<Outgoing> = (begin..begin + 2_000).map(order).collect();
        cluster.kafka.write(topic::ORDERS, &orders);
        eventually("some of the orders are committed", Duration::from_secs(60), || match lag() {
            lag if lag < 1_800 => Ok(()),
            lag => Err(format!("lag {lag}")),
        });
        cluster.kill_9(worker);
    }
    let rest: Vec<Outgoing> = (2_000 * workers.len() as u64..ORDERS).map(order).collect();
    cluster.kafka.write(topic::ORDERS, &rest);
    eventually("the orders are committed", Duration::from_secs(120), || match lag() {
        0 => Ok(()),
        lag => Err(format!("lag {lag}")),
    });

    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, value) in java_consumer(&cluster, topic::CUSTOMER_TOTALS) {
        if key.starts_with(&prefix) {
            let total: Value = serde_json::from_str(&value).unwrap();
            found.entry(key).or_default().push(total["orders"].as_u64().unwrap());
        }
    }
    assert_eq!(found.len() as u64, CUSTOMERS);
    let each: Vec<u64> = (1..=ORDERS / CUSTOMERS).collect();
    for (customer, orders) in found {
        assert_eq!(orders, each, "{customer} has a total for each order, once and in order");
    }
    cluster.wait_until_well(Duration::from_secs(60));
}
