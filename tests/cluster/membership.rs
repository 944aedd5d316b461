//! Who may commit what in a group: what `processor/src/runtime/assignment.rs` is for.

use std::time::{Duration, Instant};

use millrace_processor::runtime::{Assignment, Change, Generation, Membership};
use millrace_tests::{Cluster, now_ms};
use millrace_wire::topic;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use crate::transactions::start;

fn member(cluster: &Cluster, group: &str, name: &str) -> Membership {
    let mut config = cluster.kafka.config().clone();
    config
        .set("group.id", group)
        .set("group.instance.id", name)
        .set("partition.assignment.strategy", "range")
        .set("session.timeout.ms", "20000")
        .set("heartbeat.interval.ms", "500")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "latest");
    let member = Membership::new(config.create_with_context(Assignment::default()).unwrap());
    member.subscribe(&[topic::ORDERS]).unwrap();
    member
}

/// Serves the members until there is an answer.
fn until<T>(what: &str, members: &[&Membership], mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        for member in members {
            drop(member.poll(Duration::from_millis(20)));
        }
        if let Some(found) = found() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "not within 60 s: {what}");
    }
}

fn assigned(member: &Membership) -> Option<(Vec<i32>, Generation)> {
    member.changes().into_iter().find_map(|change| match change {
        Change::Assigned(partitions, generation) => Some((partitions, generation)),
        Change::Revoked | Change::Failed(_) => None,
    })
}

/// Commits an offset of a partition in a transaction.
fn commit(cluster: &Cluster, generation: &Generation, partition: i32) -> Result<(), String> {
    let mut transactions = start(cluster, &generation.group, 15);
    transactions.open();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic::ORDERS, partition, Offset::Offset(1)).unwrap();
    let committed = transactions.commit(&[(generation, offsets)], &|| true);
    committed.map(drop).map_err(|error| {
        transactions.abort();
        error.to_string()
    })
}

/// A worker that is to give partitions back has the time to commit what it has done, and nobody else has them meanwhile. Once
/// somebody else has them, the group refuses its offsets, though its client is in the new generation already.
#[test]
fn partitions_are_kept_until_they_are_given_back_and_offsets_are_of_their_generation() {
    let cluster = Cluster::exclusive();
    let group = format!("millrace-test-membership-{}", now_ms());
    let first = member(&cluster, &group, "first");
    let (all, before) = until("all partitions", &[&first], || assigned(&first));
    assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    let second = member(&cluster, &group, "second");
    until("partitions are asked back", &[&first, &second], || {
        first.changes().into_iter().any(|change| matches!(change, Change::Revoked)).then_some(())
    });
    until("the other has joined and waits", &[&first, &second], || {
        let groups = first.fetch_group_list(Some(&group), Duration::from_secs(20)).unwrap();
        let waits = groups.groups().iter().any(|group| group.state() == "PreparingRebalance");
        waits.then_some(())
    });
    commit(&cluster, &before, 5).unwrap();
    assert!(second.changes().is_empty(), "the other has to wait");

    first.give_back().unwrap();
    let (mut ours, mut theirs) = (None, None);
    until("both have partitions", &[&first, &second], || {
        ours = ours.take().or_else(|| assigned(&first));
        theirs = theirs.take().or_else(|| assigned(&second));
        (ours.is_some() && theirs.is_some()).then_some(())
    });
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!([ours.0, theirs.0].concat().len(), 6);
    let refused = commit(&cluster, &before, 5).unwrap_err();
    assert!(refused.contains("IllegalGeneration"), "{refused}");
    commit(&cluster, &ours.1, 0).unwrap();
    commit(&cluster, &theirs.1, 5).unwrap();
}
