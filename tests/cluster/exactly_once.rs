use std::time::Duration;

use millrace_tests::{Cluster, Stage, eventually};
use millrace_wire::result::header;
use millrace_wire::topic;

const SENSORS: u64 = 60;
const WINDOWS: i64 = 10;
const READINGS: u64 = 16_000;

/// Committed input, over all partitions.
fn committed(cluster: &Cluster) -> i64 {
    cluster.kafka.committed(&topic::group("sensors"), topic::IOT_SENSORS, 6).iter().sum()
}

#[test]
fn kill_9_in_the_middle_loses_and_doubles_nothing() {
    let cluster = Cluster::exclusive();
    let stage = Stage::new(&cluster, "kill", 2);
    let workers = cluster.workers();
    assert!(!workers.is_empty());
    let input = stage.input(SENSORS, WINDOWS, READINGS);
    let start = committed(&cluster);
    // One worker after the other, then all at once, each time with part of a chunk committed and part of it not.
    let mut victims: Vec<Vec<&String>> = workers.iter().map(|w| vec![w]).collect();
    victims.push(workers.iter().collect());
    victims.push(workers.iter().take(1).collect());
    let size = input.len() / (victims.len() + 1);
    let mut done = 0;
    for (chunk, victims) in input.chunks(size).zip(&victims) {
        stage.write(chunk);
        let enough = start + i64::try_from(done + chunk.len() / 4).unwrap();
        eventually("part of the chunk is committed", Duration::from_secs(60), || {
            let committed = committed(&cluster);
            if committed >= enough { Ok(()) } else { Err(format!("{committed} of {enough}")) }
        });
        done += chunk.len();
        std::thread::scope(|scope| {
            let kills: Vec<_> = victims.iter().map(|v| scope.spawn(|| cluster.kill_9(v))).collect();
            kills.into_iter().for_each(|kill| kill.join().unwrap());
        });
    }
    stage.write(&input[done..]);
    stage.close(WINDOWS);
    let averages = stage.settle(Duration::from_secs(120));
    let counted: u64 = averages.values().map(|a| a.count).sum();
    assert_eq!(counted, READINGS, "every reading is in exactly one window of this size");

    cluster.wait_until_well(Duration::from_secs(60));
    let overview = cluster.api.overview();
    assert!(overview.jobs.iter().all(|job| job.violations == 0), "{:?}", overview.jobs);
    let ours = |m: &millrace_tests::Message| {
        m.key.starts_with(&stage.prefix) && m.headers[header::JOB] == "sensors/humidity-average"
    };
    let late = stage.since(topic::LATE_EVENTS).iter().filter(|m| ours(m)).count();
    assert_eq!(late, 0, "nothing of this input is late for its windows");
}

/// A worker that stops gives its partitions to the others and the state goes with them; one that starts takes some back.
#[test]
fn workers_that_stop_and_start_lose_and_double_nothing() {
    let cluster = Cluster::exclusive();
    let stage = Stage::new(&cluster, "scale", 2);
    let workers = cluster.workers();
    let number = workers.last().and_then(|worker| worker.strip_prefix("processor-")).unwrap();
    let stays = &workers[0];
    assert!(workers.len() > 1, "{workers:?}");
    let partitions_of = |worker: &str| {
        let workers = cluster.api.overview().workers;
        workers.iter().find(|w| w.component == worker).map_or(0, |w| w.partitions.len())
    };
    let all = partitions_of(stays) + partitions_of(workers.last().unwrap());
    let input = stage.input(SENSORS, WINDOWS, READINGS);
    let mut chunks = input.chunks(input.len().div_ceil(3));
    let mut write = |stage: &Stage<'_>| stage.write(chunks.next().unwrap());
    write(&stage);
    cluster.millrace(&["worker", "stop", number], &[]);
    eventually("the others have its partitions", Duration::from_secs(60), || match partitions_of(stays) {
        some if some == all => Ok(()),
        some => Err(format!("{some} of {all}")),
    });
    write(&stage);
    cluster.millrace(&["worker", "start", number], &[]);
    write(&stage);
    eventually("it has taken some back", Duration::from_secs(60), || match partitions_of(stays) {
        some if some < all => Ok(()),
        some => Err(format!("{some} of {all}")),
    });
    stage.close(WINDOWS);
    let averages = stage.settle(Duration::from_secs(120));
    let counted: u64 = averages.values().map(|a| a.count).sum();
    assert_eq!(counted, READINGS, "every reading is in exactly one window of this size");
    cluster.wait_until_well(Duration::from_secs(60));
}
