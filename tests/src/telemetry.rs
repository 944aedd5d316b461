use std::collections::BTreeMap;
use std::time::Duration;

use millrace_wire::telemetry::{Body, Frame, Provoked, Task};
use millrace_wire::topic;

use crate::{Kafka, eventually};

/// Frames in which every process says something.
const RECENT: i64 = 200;

/// The newest frames, oldest first.
fn frames(kafka: &Kafka) -> Vec<Frame> {
    let from: Vec<i64> = kafka.ends(topic::TELEMETRY).iter().map(|end| (end - RECENT).max(0)).collect();
    let read = kafka.read(topic::TELEMETRY, &from);
    read.iter().filter_map(|message| serde_json::from_slice(&message.value).ok()).collect()
}

/// The tasks of an app by partition, as the workers' newest telemetry says.
///
/// # Panics
/// Not all of them are told of.
#[track_caller]
pub fn tasks(kafka: &Kafka, app: &str) -> BTreeMap<i32, Task> {
    eventually("the workers publish telemetry", Duration::from_secs(30), || {
        let mut newest = BTreeMap::new();
        for frame in frames(kafka) {
            if let Body::Processor(processor) = frame.body {
                for task in processor.apps.into_iter().filter(|a| a.name == app).flat_map(|a| a.tasks) {
                    newest.insert(task.partition, task);
                }
            }
        }
        if newest.len() == usize::try_from(topic::PARTITIONS).unwrap() {
            Ok(newest)
        } else {
            Err(format!("only tasks {:?} are known", newest.keys()))
        }
    })
}

/// What is provoked by stream, as the generators' newest telemetry says.
///
/// # Panics
/// They say nothing.
#[track_caller]
pub fn provoked(kafka: &Kafka) -> BTreeMap<String, Provoked> {
    let streams = eventually("the generators publish telemetry", Duration::from_secs(30), || {
        let of_generators = frames(kafka).into_iter().rev().find_map(|frame| match frame.body {
            Body::Producers { streams } => Some(streams),
            _ => None,
        });
        of_generators.ok_or_else(|| "no frame".to_owned())
    });
    streams.into_iter().filter_map(|stream| Some((stream.stream, stream.scenario?))).collect()
}
