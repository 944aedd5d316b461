use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::{Cluster, Outgoing, eventually, now_ms};
use millrace_wire::result::CustomerTotal;
use millrace_wire::telemetry::{Body, Frame, Recovery, StateBackend};
use millrace_wire::topic;
use serde_json::json;

const CUSTOMERS: u64 = 400;
const ORDERS: u64 = 12_000;

fn order(prefix: &str, number: u64) -> Outgoing {
    let customer = format!("{prefix}-{}", number * 7_919 % CUSTOMERS);
    let value = json!({
        "orderId": format!("{prefix}-{number}"), "customerId": customer, "amount": 1 + number % 50, "category": "disk",
        "timestamp": now_ms(), "items": [],
    });
    Outgoing { key: customer, value: value.to_string().into_bytes(), partition: None }
}

/// Recoveries of the app that telemetry has told since these offsets.
fn recoveries(cluster: &Cluster, since: &[i64]) -> Vec<Recovery> {
    let frames = cluster.kafka.read(topic::TELEMETRY, since);
    let frames = frames.iter().filter_map(|message| serde_json::from_slice::<Frame>(&message.value).ok());
    let apps = frames.filter_map(|frame| match frame.body {
        Body::Processor(processor) => Some(processor.apps),
        _ => None,
    });
    apps.flatten().filter(|app| app.name == "commerce").flat_map(|app| app.recoveries).collect()
}

/// State on disk through kill -9 of each worker and of all, and the loss of a worker's disk: each customer's running totals
/// are those of plain arithmetic, one for each order.
#[test]
fn state_on_disk_is_exact_through_kill_9_and_without_its_disk() {
    let cluster = Cluster::exclusive();
    let jobs = cluster.api.overview().jobs;
    let mut ours = jobs.iter().filter(|job| job.app == "commerce").peekable();
    assert!(ours.peek().is_some(), "{jobs:?}");
    assert!(
        ours.all(|job| job.backend == StateBackend::Disk),
        "start the cluster with `millrace up --backend commerce=disk`, as ./test does"
    );
    let committed =
        || -> i64 { cluster.kafka.committed(&topic::group("commerce"), topic::ORDERS, 6).iter().sum() };
    let (before, since) = (cluster.kafka.ends(topic::CUSTOMER_TOTALS), cluster.kafka.ends(topic::TELEMETRY));
    let prefix = format!("disk-{}", now_ms());
    let input: Vec<Outgoing> = (0..ORDERS).map(|number| order(&prefix, number)).collect();
    let workers = cluster.workers();
    let mut rounds: Vec<Vec<&String>> = workers.iter().map(|worker| vec![worker]).collect();
    rounds.push(workers.iter().collect());
    let start = committed();
    for (round, (chunk, victims)) in input.chunks(input.len() / rounds.len()).zip(&rounds).enumerate() {
        cluster.kafka.write(topic::ORDERS, chunk);
        let enough = start + i64::try_from(round * chunk.len() + chunk.len() / 4).unwrap();
        eventually("part of the chunk is committed", Duration::from_secs(60), || match committed() {
            so_far if so_far >= enough => Ok(()),
            so_far => Err(format!("{so_far} of {enough}")),
        });
        std::thread::scope(|scope| {
            let kills: Vec<_> = victims.iter().map(|v| scope.spawn(|| cluster.kill_9(v))).collect();
            kills.into_iter().for_each(|kill| kill.join().unwrap());
        });
    }
    cluster.wait_until_well(Duration::from_secs(90));
    // They went on from their disks, from no checkpoint, and had read none of the state again but what they missed.
    let told = eventually("the recoveries are told", Duration::from_secs(30), || {
        let told = recoveries(&cluster, &since);
        if told.len() >= 6 { Ok(told) } else { Err(format!("{told:?}")) }
    });
    let local: Vec<_> = told.iter().filter(|recovery| recovery.local_offset.is_some()).collect();
    assert!(local.len() >= 6 && local.iter().all(|recovery| recovery.checkpoint.is_none()), "{told:?}");
    assert!(told.iter().all(|recovery| recovery.passed_over.is_empty()), "{told:?}");

    // A worker comes back without its disk.
    let since = cluster.kafka.ends(topic::TELEMETRY);
    let lost = workers.first().unwrap();
    let number = lost.trim_start_matches("processor-");
    cluster.millrace(&["worker", "kill", number], &[]);
    std::fs::remove_dir_all(cluster.local_state(lost)).unwrap();
    cluster.millrace(&["worker", "start", number], &[]);
    cluster.wait_until_well(Duration::from_secs(90));
    eventually("its state comes from elsewhere", Duration::from_secs(30), || {
        let told = recoveries(&cluster, &since);
        let elsewhere = told.iter().any(|recovery| recovery.local_offset.is_none() && recovery.offset > 0);
        if elsewhere { Ok(()) } else { Err(format!("{told:?}")) }
    });
    let rest: Vec<Outgoing> = (ORDERS..ORDERS + ORDERS / 4).map(|number| order(&prefix, number)).collect();
    cluster.kafka.write(topic::ORDERS, &rest);

    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for number in 0..ORDERS + ORDERS / 4 {
        let sum = sums.entry(format!("{prefix}-{}", number * 7_919 % CUSTOMERS)).or_default();
        *sum = (sum.0 + 1 + number % 50, sum.1 + 1);
    }
    let totals = || -> Vec<CustomerTotal> {
        let messages = cluster.kafka.read(topic::CUSTOMER_TOTALS, &before);
        let ours = messages.iter().filter(|message| message.key.starts_with(&prefix));
        ours.map(|message| serde_json::from_slice(&message.value).unwrap()).collect()
    };
    let all = usize::try_from(ORDERS + ORDERS / 4).unwrap();
    let found = eventually("every order has its result", Duration::from_secs(120), || {
        let found = totals();
        if found.len() >= all { Ok(found) } else { Err(format!("{} of {all}", found.len())) }
    });
    assert_eq!(found.len(), all, "each order once");
    for (customer, (total, orders)) in sums {
        let of: Vec<_> = found.iter().filter(|found| found.customer_id == customer.as_str()).collect();
        assert_eq!(
            of.iter().map(|t| t.orders).collect::<Vec<_>>(),
            (1..=orders).collect::<Vec<_>>(),
            "{customer}"
        );
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Whole numbers.
        let last = of.last().unwrap().total as u64;
        assert_eq!(last, total, "{customer}");
    }
    cluster.wait_until_well(Duration::from_secs(60));
}
