use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::{Cluster, Message, Outgoing, eventually, now_ms};
use millrace_wire::event::Order;
use millrace_wire::result::{CategoryStats, HourlySales, Milestone};
use millrace_wire::{Timestamp, topic};
use serde::de::DeserializeOwned;
use serde_json::json;

const ORDERS: i64 = 4_000;
const WINDOW_MS: i64 = 2_000;
const WINDOWS: i64 = 5;
/// The app lets records be this much out of order, ms.
const OUT_OF_ORDERNESS_MS: i64 = 5_000;

fn order(number: i64, category: &str, amount: i64, at_ms: i64) -> Outgoing {
    let customer = format!("customer-{}", number % 97);
    let value = json!({
        "orderId": format!("{category}-{number}"), "customerId": customer, "amount": amount, "category": category,
        "timestamp": at_ms, "items": [],
    });
    Outgoing { key: customer, value: value.to_string().into_bytes(), partition: None }
}

fn parsed<T: DeserializeOwned>(messages: &[Message]) -> Vec<T> {
    messages.iter().filter_map(|message| serde_json::from_slice(&message.value).ok()).collect()
}

/// The latest event time in `orders`, epoch ms, by the last records of each partition.
fn latest(cluster: &Cluster) -> i64 {
    let from: Vec<i64> = cluster.kafka.ends(topic::ORDERS).iter().map(|end| (end - 100).max(0)).collect();
    let orders: Vec<Order> = parsed(&cluster.kafka.read(topic::ORDERS, &from));
    orders.iter().map(|order| order.timestamp.millis()).max().unwrap_or(0)
}

/// Per category and over all, though orders are keyed by customer, and though every worker dies on the way.
#[test]
fn what_is_keyed_otherwise_than_its_source_is_exact_too() {
    let cluster = Cluster::exclusive();
    eventually("the processor has read all orders", Duration::from_secs(60), || {
        match cluster.kafka.lag(&topic::group("commerce"), topic::ORDERS) {
            0 => Ok(()),
            lag => Err(format!("lag {lag}")),
        }
    });
    let (ours, theirs) = (format!("books-{}", now_ms()), format!("toys-{}", now_ms()));
    // Windows of these categories only, so that nothing else is in them.
    let params =
        json!({"window_size_s": WINDOW_MS / 1_000, "allowed_lateness_s": 0, "categories": [ours, theirs]});
    cluster.api.set_params("commerce.hourly-sales", &params);
    let topics = [topic::CATEGORY_STATS, topic::MILESTONES, topic::ANALYTICS];
    let before: BTreeMap<_, _> = topics.into_iter().map(|topic| (topic, cluster.kafka.ends(topic))).collect();
    let since = |topic: &'static str| cluster.kafka.read(topic, &before[topic]);

    let base = (latest(&cluster).max(now_ms() - 10_000) / WINDOW_MS + 2) * WINDOW_MS;
    let (mut totals, mut windows) =
        (BTreeMap::<&str, (i64, u64, i64)>::new(), BTreeMap::<String, (i64, u64)>::new());
    let input: Vec<Outgoing> = (0..ORDERS)
        .map(|number| {
            let (category, amount) = (if number % 3 == 0 { &theirs } else { &ours }, 1 + number % 50);
            let at = base + number * WINDOW_MS * WINDOWS / ORDERS;
            let total = totals.entry(category.as_str()).or_default();
            *total = (total.0 + amount, total.1 + 1, total.2.max(amount));
            let start = Timestamp(at / WINDOW_MS * WINDOW_MS).to_iso_seconds();
            let window = windows.entry(start).or_default();
            *window = (window.0 + amount, window.1 + 1);
            order(number, category, amount, at)
        })
        .collect();
    for chunk in input.chunks(input.len() / 2) {
        cluster.kafka.write(topic::ORDERS, chunk);
        for worker in cluster.workers() {
            cluster.kill_9(&worker);
        }
    }
    // The watermark of every task passes the last window, without being of these categories.
    let end = base + WINDOW_MS * WINDOWS + OUT_OF_ORDERNESS_MS + 1;
    let close = (0..topic::PARTITIONS)
        .map(|partition| Outgoing { partition: Some(partition), ..order(0, "closing", 1, end) });
    cluster.kafka.write(topic::ORDERS, &close.collect::<Vec<_>>());

    let sales = eventually("every window is there", Duration::from_secs(120), || {
        let sales: Vec<HourlySales> = parsed(&since(topic::ANALYTICS));
        if sales.len() >= windows.len() {
            Ok(sales)
        } else {
            Err(format!("{} of {}", sales.len(), windows.len()))
        }
    });
    #[allow(clippy::cast_possible_truncation)] // Whole numbers.
    let found = sales.iter().map(|s| (s.window_start.clone(), (s.total_sales as i64, s.orders))).collect();
    assert_eq!(windows, found);
    assert_eq!(sales.len(), windows.len(), "each window once");

    let stats: Vec<CategoryStats> = parsed(&since(topic::CATEGORY_STATS));
    let milestones: Vec<Milestone> = parsed(&since(topic::MILESTONES));
    for (category, (total, count, max)) in totals {
        let of: Vec<_> = stats.iter().filter(|stats| stats.category == category).collect();
        // Each order moves the count on by one, and none twice.
        assert_eq!(of.iter().map(|stats| stats.count).collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
        let last = of.last().unwrap();
        #[allow(clippy::cast_possible_truncation)]
        let sums = (last.total as i64, last.max as i64);
        assert_eq!(sums, (total, max), "{category}");
        let reached = milestones.iter().filter(|milestone| milestone.category == category);
        #[allow(clippy::cast_possible_truncation)]
        let reached: Vec<_> = reached.map(|milestone| milestone.milestone as i64).collect();
        assert_eq!(reached, (1..=total / 1_000).map(|n| n * 1_000).collect::<Vec<_>>(), "{category}");
    }
    let defaults = json!({"window_size_s": 3_600, "allowed_lateness_s": 0, "categories": []});
    cluster.api.set_params("commerce.hourly-sales", &defaults);
    cluster.wait_until_well(Duration::from_secs(60));
}
