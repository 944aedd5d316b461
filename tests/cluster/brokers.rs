use std::time::Duration;

use millrace_tests::{Cluster, eventually, pause};
use millrace_wire::live::Overview;
use millrace_wire::topic;

fn counts(overview: &Overview) -> (u64, u64) {
    (overview.produced_total, overview.consumed_total)
}

#[test]
fn without_one_broker_everything_goes_on() {
    let cluster = Cluster::exclusive();
    cluster.quiet();
    let ends: i64 = cluster.kafka.ends(topic::IOT_SENSORS).iter().sum();
    let start = eventually("the counts come to rest", Duration::from_secs(20), || {
        let before = cluster.api.overview();
        pause(Duration::from_secs(1));
        let now = cluster.api.overview();
        if counts(&before) == counts(&now) { Ok(now) } else { Err("still counting".to_owned()) }
    });
    cluster.api.set_rate(500.0);

    cluster.millrace(&["broker", "kill", "2"], &[]);
    eventually("the page shows two brokers and says so", Duration::from_secs(30), || {
        let overview = cluster.api.overview();
        if overview.brokers_up == 2 && !overview.problems.is_empty() {
            Ok(())
        } else {
            Err(format!("{} brokers, {:?}", overview.brokers_up, overview.problems))
        }
    });
    // Leaders move within seconds; from then on events are produced, processed and answered for.
    let moved = counts(&cluster.api.overview());
    eventually("5,000 more events are produced and consumed", Duration::from_secs(60), || {
        let now = counts(&cluster.api.overview());
        if now.0 >= moved.0 + 5_000 && now.1 >= moved.1 + 5_000 {
            Ok(())
        } else {
            Err(format!("{moved:?} to {now:?}"))
        }
    });

    cluster.millrace(&["broker", "start", "2"], &[]);
    cluster.wait_until_well(Duration::from_secs(120));
    eventually("every partition has three in-sync replicas", Duration::from_secs(90), || {
        let behind: Vec<String> = cluster
            .kafka
            .layout()
            .1
            .into_iter()
            .filter(|(_, p)| p.iter().any(|p| p.1 < 3))
            .map(|t| t.0)
            .collect();
        if behind.is_empty() { Ok(()) } else { Err(format!("{behind:?}")) }
    });

    cluster.quiet();
    let written = u64::try_from(cluster.kafka.ends(topic::IOT_SENSORS).iter().sum::<i64>() - ends).unwrap();
    eventually("what was produced was consumed", Duration::from_secs(30), || {
        let end = cluster.api.overview();
        let (produced, consumed) =
            (end.produced_total - start.produced_total, end.consumed_total - start.consumed_total);
        // A worker that lost its transaction with the broker counts its records again.
        if produced == written && consumed >= written {
            Ok(())
        } else {
            Err(format!("{written}: {produced}, {consumed}"))
        }
    });
}
