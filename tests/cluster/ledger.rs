use std::time::Duration;

use millrace_tests::{Cluster, Stage, eventually};
use millrace_wire::api::Ledger;
use millrace_wire::topic;

const READINGS: u64 = 4_000;

/// Waits until nothing moves any more and the ledger says that everything is in its place.
fn balanced(cluster: &Cluster) -> Ledger {
    eventually("the ledger balances, with every result in Elasticsearch", Duration::from_secs(60), || {
        let ledger: Ledger = cluster.api.get("/ledger").json();
        let read = |p: &millrace_wire::api::LedgerPartition| {
            p.streams.iter().all(|s| Some(s.read_to) == s.log_end && Some(s.read_to) == s.committed)
        };
        let settled = ledger.partitions.iter().all(read) && ledger.indexed == Some(ledger.emitted);
        if ledger.balanced && settled {
            Ok(ledger)
        } else {
            Err(format!("{:?}, {} emitted, {:?} indexed", ledger.findings, ledger.emitted, ledger.indexed))
        }
    })
}

#[test]
fn every_record_is_in_one_place_also_after_kills() {
    let cluster = Cluster::exclusive();
    let stage = Stage::new(&cluster, "ledger", 2);
    cluster.quiet();
    let before = balanced(&cluster);
    let input = stage.input(20, 4, READINGS);
    let (first, rest) = input.split_at(input.len() / 2);
    stage.write(first);
    cluster.kill_9(&cluster.workers()[0]);
    cluster.kill_9("indexer");
    stage.write(rest);
    stage.close(4);
    stage.settle(Duration::from_secs(120));
    cluster.drained(Duration::from_secs(60));
    cluster.wait_until_well(Duration::from_secs(60));
    let after = balanced(&cluster);

    let of_sensors = |ledger: &Ledger| -> u64 {
        ledger.partitions.iter().filter(|p| p.app == "sensors").map(|p| p.records).sum()
    };
    let written: i64 = cluster.kafka.ends(topic::IOT_SENSORS).iter().sum();
    assert_eq!(of_sensors(&after), u64::try_from(written).unwrap(), "each record of the log is counted once");
    assert!(of_sensors(&after) >= of_sensors(&before) + READINGS);
    assert!(after.emitted > before.emitted);
    let gauge = cluster.api.overview().ledger.expect("the page has it too");
    let all: u64 = after.partitions.iter().map(|p| p.records).sum();
    assert_eq!((gauge.records, gauge.findings.len()), (all, 0), "{:?}", gauge.findings);
}
