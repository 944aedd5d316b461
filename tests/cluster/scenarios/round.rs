use std::collections::BTreeMap;
use std::time::Duration;

use millrace_tests::{Cluster, eventually, now_ms, provoked, tasks};
use millrace_wire::scenario::Scenario;
use millrace_wire::topic;
use serde_json::{Value, json};

/// Streams in which something is provoked, events/s meanwhile, and what, one after the other.
pub const PROVOKED: [(&str, f64, [Scenario; 3]); 4] = [
    (topic::IOT_SENSORS, 60.0, [Scenario::Mold, Scenario::SensorFault, Scenario::LateStorm]),
    (topic::TRANSACTIONS, 30.0, [Scenario::CardFraud, Scenario::AccountDrain, Scenario::Malformed]),
    (topic::ORDERS, 20.0, [Scenario::VipSpree, Scenario::IdlePartition, Scenario::Burst]),
    (topic::USER_EVENTS, 40.0, [Scenario::ImpossibleTravel, Scenario::HotKey, Scenario::LateStorm]),
];
/// How long each of them lasts. A partition is idle after 10 s, and then windows are to close.
const SECONDS: [i64; 3] = [20, 30, 20];

/// Where these topics end.
pub fn ends(cluster: &Cluster, topics: &[&'static str]) -> BTreeMap<&'static str, Vec<i64>> {
    topics.iter().map(|&topic| (topic, cluster.kafka.ends(topic))).collect()
}

/// What a round of scenarios, one in each stream, has left in the streams.
pub struct Round {
    /// When each began and was to end, epoch ms.
    pub span: BTreeMap<Scenario, (i64, i64)>,
    /// Records by partition.
    pub grown: BTreeMap<Scenario, Vec<i64>>,
    /// Records, as a multiple of the stream's rate.
    pub rate: BTreeMap<Scenario, f64>,
    /// Records that the tasks of `activity` have processed, by partition.
    pub worked: BTreeMap<i32, u64>,
}

/// Stream records that the tasks of `activity` have processed, by partition.
fn worked(cluster: &Cluster) -> BTreeMap<i32, u64> {
    tasks(&cluster.kafka, "activity").into_iter().map(|(partition, task)| (partition, task.records)).collect()
}

/// Provokes one scenario in each stream and waits until they are over. Telemetry says what they are, from when until when and
/// what should come of them, for just as long.
pub fn round(cluster: &Cluster, number: usize, meanwhile: impl FnOnce()) -> Round {
    let kafka = &cluster.kafka;
    let streams = PROVOKED.map(|(stream, ..)| stream);
    let before = ends(cluster, &streams);
    let worked_before = worked(cluster);
    let (mut span, mut ends_ms) = (BTreeMap::new(), BTreeMap::new());
    for (stream, _, scenarios) in PROVOKED {
        let scenario = scenarios[number];
        let given = now_ms();
        let body = json!({"name": scenario.name(), "seconds": SECONDS[number]});
        let path = format!("/producers/{stream}/scenario");
        let answer: Value = cluster.api.send("POST", &path, Some(&body)).expect(200).json();
        assert_eq!(answer["applied"], true, "{answer}");
        let told = eventually("telemetry tells of it", Duration::from_secs(15), || {
            let all = provoked(kafka);
            all.get(stream).filter(|told| told.name == scenario).cloned().ok_or_else(|| format!("{all:?}"))
        });
        assert!((given - 1..=now_ms()).contains(&told.started_ms), "given at {given}: {told:?}");
        assert_eq!(told.ends_ms - told.started_ms, SECONDS[number] * 1_000, "{told:?}");
        assert_eq!(told.provokes, scenario.provokes());
        span.insert(scenario, (told.started_ms, told.ends_ms));
        ends_ms.insert(stream, told.ends_ms);
    }
    meanwhile();
    eventually("the scenarios are over", Duration::from_secs(90), || {
        let running = provoked(kafka);
        for (stream, _, scenarios) in PROVOKED {
            let early = !running.contains_key(stream) && now_ms() < ends_ms[stream];
            assert!(!early, "{stream}: {} is over too early", scenarios[number].name());
        }
        if running.is_empty() { Ok(()) } else { Err(format!("{running:?}")) }
    });
    let after = ends(cluster, &streams);
    let (mut grown, mut rate) = (BTreeMap::new(), BTreeMap::new());
    for (stream, per_s, scenarios) in PROVOKED {
        let by_partition: Vec<i64> = after[stream].iter().zip(&before[stream]).map(|(b, a)| b - a).collect();
        let (began, _) = span[&scenarios[number]];
        let seconds = (now_ms() - began) as f64 / 1_000.0;
        rate.insert(scenarios[number], by_partition.iter().sum::<i64>() as f64 / seconds / per_s);
        grown.insert(scenarios[number], by_partition);
    }
    let mut worked = worked(cluster);
    for (partition, records) in &mut worked {
        *records = records.saturating_sub(worked_before[partition]);
    }
    Round { span, grown, rate, worked }
}

/// The partition of most, and it and the next.
pub fn most<P: Copy, N: Copy + Ord>(by_partition: impl IntoIterator<Item = (P, N)>) -> (P, N, N) {
    let mut all: Vec<(P, N)> = by_partition.into_iter().collect();
    all.sort_by_key(|(_, n)| *n);
    let [.., (_, next), (partition, most)] = all.as_slice() else { panic!("too few partitions") };
    (*partition, *most, *next)
}
