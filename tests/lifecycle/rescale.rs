//! More partitions for apps that run: `millrace rescale`, on a cluster with workers and generators.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use millrace_core::task::Division;
use millrace_tests::{Outgoing, eventually, now_ms};
use millrace_wire::result::{CategoryStats, CustomerTotal};
use millrace_wire::topic;
use rdkafka::admin::{AdminOptions, NewPartitions};
use serde_json::json;

use crate::house::House;

/// Workers that start, read and commit on a busy machine.
const SOON: Duration = Duration::from_secs(120);
const CUSTOMERS: u32 = 60;
const CATEGORIES: u32 = 9;
const ORDERS: u32 = 600;

/// Orders number `from` to `from + ORDERS`, each of a customer and of a category in turn.
fn orders(from: u32) -> Vec<Outgoing> {
    let order = |number: u32| {
        let customer = format!("rescaled-{}", number % CUSTOMERS);
        let value = json!({"orderId": format!("o-{number}"), "customerId": customer, "amount": 1,
            "category": format!("category-{}", number % CATEGORIES), "timestamp": now_ms(), "items": []});
        Outgoing { key: customer, value: value.to_string().into_bytes(), partition: None }
    };
    (from..from + ORDERS).map(order).collect()
}

/// The running counts that keys were given, in the order in which they were; `counted` is key and count of a result.
#[track_caller]
fn counts(
    house: &House,
    topic: &str,
    counted: impl Fn(&[u8]) -> Option<(String, u64)>,
) -> BTreeMap<String, Vec<u64>> {
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in house.kafka().read(topic, &[0; 6]) {
        if let Some((key, count)) = counted(&message.value) {
            counts.entry(key).or_default().push(count);
        }
    }
    counts
}

/// Each of `keys` has been counted to the end, one by one: nothing is lost, doubled or begun anew.
#[track_caller]
fn counted_to(house: &House, orders: u32) {
    let total = |value: &[u8]| {
        let total: CustomerTotal = serde_json::from_slice(value).ok()?;
        total.customer_id.starts_with("rescaled-").then(|| (total.customer_id.to_string(), total.orders))
    };
    let stats = |value: &[u8]| {
        let stats: CategoryStats = serde_json::from_slice(value).ok()?;
        stats.category.starts_with("category-").then(|| (stats.category.to_string(), stats.count))
    };
    let to = |count: u32| (1..=u64::from(count)).collect::<Vec<_>>();
    let by = |name: &str, keys: u32, all: u32| {
        let of = |key: u32| (all + keys - 1 - key) / keys;
        (0..keys).map(|key| (format!("{name}-{key}"), to(of(key)))).collect::<BTreeMap<_, _>>()
    };
    eventually("every order is counted once, by customer and by category", SOON, || {
        let customers = counts(house, topic::CUSTOMER_TOTALS, total);
        let categories = counts(house, topic::CATEGORY_STATS, stats);
        let expected = (by("rescaled", CUSTOMERS, orders), by("category", CATEGORIES, orders));
        if (&customers, &categories) == (&expected.0, &expected.1) {
            return Ok(());
        }
        let sum = |counts: &BTreeMap<String, Vec<u64>>| counts.values().map(Vec::len).sum::<usize>();
        Err(format!(
            "of {orders}: {} and {}: {customers:?} {categories:?}",
            sum(&customers),
            sum(&categories)
        ))
    });
}

/// All of the app's partitions have been read to where generators keep writing.
#[track_caller]
fn reads(house: &House, app: &str, topic: &str, partitions: usize) {
    let kafka = house.kafka();
    assert_eq!(kafka.ends(topic).len(), partitions);
    eventually(&format!("{app} reads all of {topic}"), SOON, || {
        let committed = kafka.committed(&topic::group(app), topic, partitions);
        if committed.iter().all(|offset| *offset > 0) { Ok(()) } else { Err(format!("{committed:?}")) }
    });
}

#[test]
fn state_goes_with_its_keys_to_more_partitions() {
    let house = House::of("rescale");
    let millrace = &house.millrace;
    house.up(&["kafka", "processor", "producers"]);
    house.kafka().write(topic::ORDERS, &orders(0));
    counted_to(&house, ORDERS);

    let said = millrace.run(&["rescale", "commerce", "--partitions", "12"], &[]);
    assert!(said.contains("commerce: 12 partitions instead of 6"), "{said}");
    house.kafka().write(topic::ORDERS, &orders(ORDERS));
    counted_to(&house, 2 * ORDERS);
    reads(&house, "commerce", topic::ORDERS, 12);
    reads(&house, "commerce", topic::CATEGORY_STATS_REPARTITION, 12);

    let again = millrace.fails(&["rescale", "commerce", "--partitions", "12"]);
    assert!(again.err.contains("commerce: 12 partitions already"), "{again:?}");
    let uneven = millrace.fails(&["rescale", "commerce", "--partitions", "20"]);
    assert!(uneven.err.contains("take a multiple of 12"), "{uneven:?}");
    let unknown = millrace.fails(&["rescale", "shop", "--partitions", "12"]);
    assert!(unknown.err.contains("there is no app shop: the apps are activity, bank"), "{unknown:?}");
    // The savepoint that it was done by has other tasks.
    let listed = millrace.run(&["savepoint", "list"], &[]);
    let savepoint = listed.split_ascii_whitespace().find(|word| word.starts_with("before-12-partitions-"));
    let refused = millrace.fails(&["savepoint", "restore", savepoint.unwrap()]);
    assert!(refused.err.contains("from before a `millrace rescale`"), "{refused:?}");

    // As it is after an interruption: what is to be done is noted, and the topics have a part of their partitions.
    for worker in ["1", "2"] {
        millrace.run(&["worker", "stop", worker], &[]);
    }
    let changelog = topic::changelog("sensors");
    grow(&house, &[&changelog, topic::SENSORS]);
    let (key, value) = Division { from: 6, to: 12 }.entry();
    let key = String::from_utf8(key).unwrap();
    let note = |partition| Outgoing { key: key.clone(), value: value.clone(), partition: Some(partition) };
    house.kafka().write(&changelog, &(0..12).map(note).collect::<Vec<_>>());
    // It waits until the worker is ready, and that is at the end.
    let mut starting = millrace
        .command(&["worker", "start", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the worker says what is to be done", SOON, || {
        let log = millrace.read("logs/processor-1.log");
        let says = log.contains("millrace rescale");
        says.then_some(()).ok_or_else(|| log.lines().rev().take(5).collect::<Vec<_>>().join("\n"))
    });
    let other = millrace.fails(&["rescale", "sensors", "--partitions", "18"]);
    assert!(other.err.contains("--partitions 12"), "{other:?}");
    millrace.run(&["rescale", "sensors", "--partitions", "12"], &[]);
    reads(&house, "sensors", topic::IOT_SENSORS, 12);
    starting.wait().unwrap();
    house.millrace.run(&["down"], &[]);
}

/// Gives topics twelve partitions.
#[track_caller]
fn grow(house: &House, topics: &[&str]) {
    let more: Vec<_> = topics.iter().map(|topic| NewPartitions::new(topic, 12)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let grown =
        runtime.block_on(house.kafka().admin().create_partitions(&more, &AdminOptions::new())).unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
}
