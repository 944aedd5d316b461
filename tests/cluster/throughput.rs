use std::time::Duration;

use millrace_tests::{Cluster, eventually, pause};
use millrace_wire::live::Overview;
use millrace_wire::topic;

/// Everything counted, once nothing is under way and the newest telemetry is in.
fn at_rest(cluster: &Cluster) -> Overview {
    cluster.quiet();
    let mut before = cluster.api.overview();
    eventually("the counts come to rest", Duration::from_secs(20), || {
        pause(Duration::from_millis(1_000));
        let now = cluster.api.overview();
        let rest = (now.produced_total, now.consumed_total) == (before.produced_total, before.consumed_total);
        before = now.clone();
        if rest { Ok(now) } else { Err("still counting".to_owned()) }
    })
}

fn produced_is_consumed(rate: f64) {
    let cluster = Cluster::exclusive();
    let start = at_rest(&cluster);
    let ends: i64 = cluster.kafka.ends(topic::IOT_SENSORS).iter().sum();

    let acknowledgement = cluster.api.set_rate(rate);
    println!("rate {rate} acknowledged in {:?} ms", acknowledgement.acknowledged_ms);
    eventually("the page shows the rate, produced and consumed", Duration::from_secs(60), || {
        let overview = cluster.api.overview();
        let near = |shown: f64| (shown - rate).abs() < 0.1 * rate;
        if near(overview.produced_per_s) && near(overview.consumed_per_s) {
            Ok(())
        } else {
            Err(format!(
                "produced {:.0}/s, consumed {:.0}/s",
                overview.produced_per_s, overview.consumed_per_s
            ))
        }
    });
    let before = cluster.api.overview();
    pause(Duration::from_secs(10));
    let after = cluster.api.overview();
    let seconds = (after.at_ms - before.at_ms) as f64 / 1_000.0;
    let (produced, consumed) =
        (after.produced_total - before.produced_total, after.consumed_total - before.consumed_total);
    println!("{:.1}/s produced, {:.1}/s consumed", produced as f64 / seconds, consumed as f64 / seconds);
    for count in [produced, consumed] {
        assert!((count as f64 / seconds - rate).abs() < 0.1 * rate, "{count} in {seconds} s at {rate}/s");
    }

    let end = at_rest(&cluster);
    let written = u64::try_from(cluster.kafka.ends(topic::IOT_SENSORS).iter().sum::<i64>() - ends).unwrap();
    assert_eq!(end.produced_total - start.produced_total, written, "what producers count is what Kafka has");
    assert_eq!(end.consumed_total - start.consumed_total, written, "what was produced was consumed");
    assert!(end.jobs.iter().all(|job| job.violations == 0), "{:?}", end.jobs);
}

#[test]
fn produced_is_consumed_at_100_per_second() {
    produced_is_consumed(100.0);
}

#[test]
fn produced_is_consumed_at_5000_per_second() {
    produced_is_consumed(5_000.0);
}

#[test]
fn a_rate_outlives_a_restart_of_the_producers() {
    let cluster = Cluster::exclusive();
    let version = cluster.api.set_rate(37.0).version;
    cluster.kill_9("producers");
    eventually("the producers go on at 37/s", Duration::from_secs(60), || {
        let overview = cluster.api.overview();
        let stream = overview.streams.iter().find(|s| s.stream == topic::IOT_SENSORS).ok_or("no stream")?;
        if stream.target_rate == 37.0 && (stream.rate - 37.0).abs() < 4.0 {
            Ok(())
        } else {
            Err(format!("{stream:?}"))
        }
    });
    assert!(version >= 0);
}
