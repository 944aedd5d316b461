use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::{Cluster, Message, Outgoing, eventually, now_ms, signal};
use millrace_wire::api::Ledger;
use millrace_wire::telemetry::WorkerState;
use millrace_wire::{fork, topic};
use serde_json::{Value, json};

const CUSTOMERS: u64 = 40;

/// An order of 10, which every customer gives in turn.
fn order(prefix: &str, i: u64) -> Outgoing {
    let customer = format!("{prefix}-{}", i % CUSTOMERS);
    let value = json!({"orderId": format!("{prefix}-o{i}"), "customerId": customer, "amount": 10, "category": prefix,
        "timestamp": now_ms()});
    Outgoing { key: customer, value: value.to_string().into_bytes(), partition: None }
}

/// The running total of each customer of this test, and how many orders it counts, in the order of the results.
fn totals(cluster: &Cluster, prefix: &str, from: &[i64]) -> Vec<(String, f64, u64)> {
    totals_in(cluster, topic::CUSTOMER_TOTALS, prefix, from)
}

fn totals_in(cluster: &Cluster, results: &str, prefix: &str, from: &[i64]) -> Vec<(String, f64, u64)> {
    let ours = |message: &Message| message.key.starts_with(prefix);
    let read = |message: &Message| {
        let value: Value = serde_json::from_slice(&message.value).unwrap();
        (message.key.clone(), value["total"].as_f64().unwrap(), value["orders"].as_u64().unwrap())
    };
    cluster.kafka.read(results, from).iter().filter(|m| ours(m)).map(read).collect()
}

/// The largest count of orders of a category of this test, and the total with it.
fn category(cluster: &Cluster, results: &str, prefix: &str, from: &[i64]) -> Option<(u64, f64)> {
    let ours = cluster.kafka.read(results, from).into_iter().filter(|m| m.key == prefix);
    let read = |message: Message| {
        let value: Value = serde_json::from_slice(&message.value).unwrap();
        (value["count"].as_u64().unwrap(), value["total"].as_f64().unwrap())
    };
    ours.map(read).max_by_key(|(count, _)| *count)
}

fn committed(cluster: &Cluster) -> Vec<i64> {
    cluster.kafka.committed(&topic::group("commerce"), topic::ORDERS, 6)
}

/// Writes orders and waits until they are committed.
fn give(cluster: &Cluster, prefix: &str, orders: std::ops::Range<u64>) {
    let orders: Vec<Outgoing> = orders.map(|i| order(prefix, i)).collect();
    cluster.kafka.write(topic::ORDERS, &orders);
    let ends = cluster.kafka.ends(topic::ORDERS);
    eventually("the orders are committed", Duration::from_secs(60), || {
        let committed = committed(cluster);
        if committed == ends { Ok(()) } else { Err(format!("{committed:?} of {ends:?}")) }
    });
}

#[test]
fn after_a_restore_the_state_is_as_at_the_savepoint() {
    let cluster = Cluster::exclusive();
    cluster.quiet();
    let prefix = format!("savepoint-{}", now_ms());
    let start = cluster.kafka.ends(topic::CUSTOMER_TOTALS);
    let categories = cluster.kafka.ends(topic::CATEGORY_STATS);
    give(&cluster, &prefix, 0..CUSTOMERS * 3);
    let at_savepoint = committed(&cluster);
    println!("{}", cluster.millrace(&["savepoint", "create", &prefix], &[]));
    let list = cluster.millrace(&["savepoint", "list"], &[]);
    let line = list.lines().find(|line| line.starts_with(&prefix)).unwrap_or_else(|| panic!("{list}"));
    assert!(line.ends_with("bank, commerce, sensors"), "{line}");

    // New customers and old ones, all of whom the restore has to make forget.
    give(&cluster, &prefix, CUSTOMERS * 3..CUSTOMERS * 5);
    give(&cluster, &format!("{prefix}x"), 0..CUSTOMERS);
    let before = totals(&cluster, &prefix, &start);
    let all = Some((CUSTOMERS * 5, (CUSTOMERS * 50) as f64));
    let by_category = |from: &[i64]| {
        eventually("the orders are counted by category", Duration::from_secs(30), || {
            let found = category(&cluster, topic::CATEGORY_STATS, &prefix, from);
            if found >= all { Ok(found) } else { Err(format!("{found:?}")) }
        })
    };
    assert_eq!(by_category(&categories), all);
    let workers = cluster.workers();
    let middle = cluster.kafka.ends(topic::CUSTOMER_TOTALS);
    let categories = cluster.kafka.ends(topic::CATEGORY_STATS);
    println!("{}", cluster.millrace(&["savepoint", "restore", &prefix, "--app", "commerce"], &[]));
    assert_eq!(cluster.workers(), workers);
    cluster.wait_until_well(Duration::from_secs(60));

    // The events after the savepoint are read again, and each finds the total that it found then: had anything of the
    // time after the savepoint stayed, totals would be higher.
    let ends = cluster.kafka.ends(topic::ORDERS);
    eventually("the orders are committed again", Duration::from_secs(60), || {
        let committed = committed(&cluster);
        if committed == ends { Ok(()) } else { Err(format!("{committed:?} of {ends:?}")) }
    });
    let again = totals(&cluster, &prefix, &middle);
    let newest = |all: &[(String, f64, u64)]| -> BTreeMap<String, (f64, u64)> {
        all.iter().map(|(customer, total, orders)| (customer.clone(), (*total, *orders))).collect()
    };
    let (first, second) = (newest(&before), newest(&again));
    assert_eq!(first.len() as u64, CUSTOMERS * 2);
    assert_eq!(first, second, "the same events lead to the same state");
    let replayed: i64 = ends.iter().zip(&at_savepoint).map(|(end, from)| end - from).sum();
    assert_eq!(again.len() as u64, CUSTOMERS * 3, "each result after the savepoint is emitted again");
    assert!(replayed >= 3 * i64::try_from(CUSTOMERS).unwrap());
    // They went through a topic between the tasks a second time; what was in it already was not counted again.
    assert_eq!(by_category(&categories), all);
    eventually("the ledger balances", Duration::from_secs(60), || {
        let ledger: Ledger = cluster.api.get("/ledger").json();
        if ledger.balanced && ledger.indexed == Some(ledger.emitted) {
            Ok(())
        } else {
            Err(format!("{:?}, {} emitted, {:?} indexed", ledger.findings, ledger.emitted, ledger.indexed))
        }
    });
}

/// A fork goes on from the savepoint as its app does: the same results, each once, though every worker dies on the way, in
/// topics of its own. And with parameters of its own.
#[test]
fn a_fork_runs_beside_its_app_from_the_savepoint_on() {
    let cluster = Cluster::exclusive();
    cluster.quiet();
    let at = now_ms();
    let (prefix, fork) = (format!("fork-{at}"), format!("commerce.t{at}"));
    let of_fork = |topic: &str| fork::topic(&fork, topic);
    let orders = |from: u64, to: u64| (from * CUSTOMERS)..(to * CUSTOMERS);
    give(&cluster, &prefix, orders(0, 3));
    println!("{}", cluster.millrace(&["savepoint", "create", &prefix, "--app", "commerce"], &[]));
    let start = cluster.kafka.ends(topic::CUSTOMER_TOTALS);
    give(&cluster, &prefix, orders(3, 4));
    println!("{}", cluster.millrace(&["savepoint", "fork", &prefix, &fork], &[]));
    cluster.wait_until_well(Duration::from_secs(60));
    let again = cluster.millrace_fails(&["savepoint", "fork", &prefix, &fork]);
    assert!(again.contains("already") && again.contains("unfork"), "{again}");
    for worker in cluster.workers() {
        cluster.kill_9(&worker);
    }
    give(&cluster, &prefix, orders(4, 5));

    let theirs = totals(&cluster, &prefix, &start);
    assert_eq!(theirs.len() as u64, CUSTOMERS * 2);
    let sorted = |mut all: Vec<(String, f64, u64)>| {
        all.sort_by(|a, b| (&a.0, a.2).cmp(&(&b.0, b.2)));
        all
    };
    let none = [0; 6];
    eventually("the fork has the same totals", Duration::from_secs(60), || {
        let ours = totals_in(&cluster, &of_fork(topic::CUSTOMER_TOTALS), &prefix, &none);
        if ours.len() < theirs.len() {
            return Err(format!("{} of {}", ours.len(), theirs.len()));
        }
        assert_eq!(sorted(ours), sorted(theirs.clone()));
        Ok(())
    });
    let all = Some((CUSTOMERS * 5, (CUSTOMERS * 50) as f64));
    eventually("the fork has counted all by category", Duration::from_secs(60), || {
        let found = category(&cluster, &of_fork(topic::CATEGORY_STATS), &prefix, &none);
        if found == all { Ok(()) } else { Err(format!("{found:?}")) }
    });
    assert_eq!(totals(&cluster, &prefix, &start).len(), theirs.len(), "what the fork writes is its own");

    let window = |app: &str| -> Value {
        let params: Value = cluster.api.get(&format!("/jobs/{app}.customer-stats/params")).json();
        params["params"]["window_size_s"].clone()
    };
    let before = window("commerce");
    cluster.api.set_params(&format!("{fork}.customer-stats"), &json!({"window_size_s": 120}));
    assert_eq!((window("commerce"), window(&fork)), (before, json!(120)), "parameters are the fork's own");
    let ledger_is_balanced = || {
        eventually("the ledger balances", Duration::from_secs(60), || {
            let ledger: Ledger = cluster.api.get("/ledger").json();
            let balanced = ledger.balanced && ledger.indexed == Some(ledger.emitted);
            let has_fork = ledger.partitions.iter().any(|task| task.app == fork);
            if balanced {
                Ok(has_fork)
            } else {
                Err(format!(
                    "{:?}, {} emitted, {:?} indexed",
                    ledger.findings, ledger.emitted, ledger.indexed
                ))
            }
        })
    };
    assert!(ledger_is_balanced());

    println!("{}", cluster.millrace(&["savepoint", "unfork", &fork], &[]));
    cluster.wait_until_well(Duration::from_secs(60));
    let left = cluster.millrace(&["topics", "list"], &[]);
    assert!(!left.contains(&fork), "{left}");
    assert!(!cluster.millrace(&["savepoint", "list"], &[]).contains(&fork));
    assert!(!ledger_is_balanced());
}

/// An app whose state can't be read is tried again as the restart strategy says, then it is FAILED, with the reason. The others
/// go on.
#[test]
fn an_app_that_can_not_be_restored_fails_alone() {
    let cluster = Cluster::exclusive();
    cluster.quiet();
    let at = now_ms();
    let (prefix, fork) = (format!("broken-{at}"), format!("commerce.b{at}"));
    cluster.millrace(&["savepoint", "create", &prefix, "--app", "commerce"], &[]);
    cluster.millrace(&["savepoint", "fork", &prefix, &fork], &[]);
    cluster.wait_until_well(Duration::from_secs(60));
    // The first byte of an entry's name is the version of its format.
    let unknown = Outgoing { key: "?".to_owned(), value: b"?".to_vec(), partition: Some(0) };
    cluster.kafka.write(&topic::changelog(&fork), &[unknown]);
    let start = cluster.kafka.ends(topic::CUSTOMER_TOTALS);
    // Nobody waits until they are well again: they never are.
    let pids = cluster.pids();
    for worker in cluster.workers() {
        signal("KILL", &pids[&worker].to_string());
    }
    give(&cluster, &prefix, 0..CUSTOMERS);
    eventually("the fork is FAILED", Duration::from_secs(120), || {
        let workers = cluster.api.overview().workers;
        let states: Vec<_> = workers.into_iter().map(|worker| worker.state).collect();
        let says_why = |error: &str| error.contains("version 63");
        let failed = |state: &WorkerState| matches!(state, WorkerState::Failed { error } if says_why(error));
        if states.iter().any(failed) { Ok(()) } else { Err(format!("{states:?}")) }
    });
    give(&cluster, &prefix, CUSTOMERS..CUSTOMERS * 2);
    assert_eq!(totals(&cluster, &prefix, &start).len() as u64, CUSTOMERS * 2);
    cluster.millrace(&["savepoint", "unfork", &fork], &[]);
    cluster.wait_until_well(Duration::from_secs(60));
}
