use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use millrace_core::Application;
use millrace_core::task::SourceKind;
use millrace_service::clock;
use millrace_wire::topic::{self, Topic};
use millrace_wire::{fork as names, ledger};
use object_store::path::Path;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};

use super::restore::{as_many, open, put_back, read, wait_until_empty};
use super::{CALL, CLIENT, Context, say};
use crate::apps::fork::Fork;
use crate::checkpoint::{FORMAT, ReadError, Store, seal};
use crate::runtime::changelog::Clients;

/// Folder of what is known of forks.
const FOLDER: &str = "forks";
/// The file that makes a fork one that workers run.
const FILE: &str = "fork.json";

/// What is known of a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forked {
    /// [`FORMAT`].
    pub version: u32,
    /// The savepoint that it began with.
    pub savepoint: String,
    /// When it was made, epoch ms.
    pub created_ms: i64,
}

fn folder(store: &Store, name: &str) -> Path {
    store.root().clone().join(FOLDER).join(name)
}

/// The names of the forks, and what is known of each; `None`: that is damaged.
///
/// # Errors
/// The store does not answer.
pub async fn forks(store: &Store) -> anyhow::Result<Vec<(String, Option<Forked>)>> {
    let mut forks = Vec::new();
    for name in store.folders(&store.root().clone().join(FOLDER)).await? {
        match store.sealed(&folder(store, &name), FILE).await {
            Ok(fork) => forks.push((name, Some(fork))),
            Err(ReadError::Damaged(_)) => forks.push((name, None)),
            Err(ReadError::Missing(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(forks)
}

/// Makes the fork `name`, as in `commerce.trial`, of a savepoint.
///
/// # Errors
/// There is one of this name; the savepoint is not there, damaged or without the app; Kafka does not answer.
pub fn fork(
    context: &Context,
    savepoint: &str,
    name: &str,
    all: &'static [&'static dyn Application],
) -> anyhow::Result<()> {
    let fork = Fork::new(name, all)?;
    let saved = open(context, savepoint)?;
    let tasks = read(context, &saved, fork.of(), fork)?;
    ensure!(!tasks.is_empty(), "the savepoint {savepoint} has no app {}", fork.of().name());
    as_many(context, Rc::new(Clients::new(&context.kafka, CLIENT)?), fork.of(), &tasks)?;
    let partitions = i32::try_from(tasks.len()).unwrap_or(i32::MAX);
    let of_tasks = |topic: Topic| match topic.kind {
        topic::Kind::Internal => Topic { partitions, ..topic },
        _ => topic,
    };
    let topics: Vec<Topic> = topics(fork).into_iter().map(of_tasks).collect();
    let admin = admin(context)?;
    context.runtime.block_on(create(&admin, &topics, name))?;
    let made = put_back(context, fork, tasks).and_then(|()| {
        let fork = Forked { version: FORMAT, savepoint: savepoint.to_owned(), created_ms: clock::now_ms() };
        context.runtime.block_on(context.store.put(&folder(&context.store, name), FILE, seal(&fork)?))
    });
    if made.is_err() {
        context.runtime.block_on(remove(&admin, fork, &topics))?;
    }
    made?;
    let results = topics.iter().filter(|topic| topic.kind == topic::Kind::Result).map(|topic| &*topic.name);
    say(format!("{name} writes to {}", results.collect::<Vec<_>>().join(", ")));
    Ok(())
}

/// Removes a fork with its topics, its group, its checkpoints and its part of the ledger.
///
/// # Errors
/// There is none of this name; workers run; Kafka or the store does not answer.
pub fn unfork(context: &Context, name: &str, all: &'static [&'static dyn Application]) -> anyhow::Result<()> {
    let fork = Fork::new(name, all)?;
    let store = &context.store;
    if !context.runtime.block_on(forks(store))?.iter().any(|(fork, _)| fork == name) {
        bail!("there is no fork {name}: `millrace savepoint list` shows them");
    }
    let group = context.kafka.consumer(CLIENT, &topic::group(name), "read_committed");
    let group: BaseConsumer = group.create()?;
    wait_until_empty(context, &group, name)?;
    // First, so that no worker runs what is half removed.
    context.runtime.block_on(store.delete(&folder(store, name), FILE))?;
    let topics = topics(fork);
    let clients = Clients::new(&context.kafka, CLIENT)?;
    let partitions = clients.partitions(&[&topic::changelog(name)])?.into_iter().sum();
    context.runtime.block_on(remove(&admin(context)?, fork, &topics))?;
    for partition in 0..partitions {
        context.runtime.block_on(forget_checkpoints(store, &store.folder(name, partition)))?;
    }
    let ledger: BaseProducer = context.kafka.producer(CLIENT).create()?;
    for partition in 0..partitions {
        let key = ledger::key(name, partition);
        let gone = BaseRecord::<str, [u8]>::to(topic::LEDGER).key(&key);
        ledger.send(gone).map_err(|(error, _)| error)?;
    }
    ledger.flush(CALL)?;
    say(format!("{name} is removed, with {} topics", topics.len()));
    Ok(())
}

async fn forget_checkpoints(store: &Store, folder: &Path) -> anyhow::Result<()> {
    for name in store.names(folder).await? {
        store.delete(folder, &name).await?;
    }
    Ok(())
}

/// The topics that only the fork has.
fn topics(fork: &Fork) -> Vec<Topic> {
    let of = fork.of();
    let jobs = of.descriptors();
    let mut own: BTreeSet<&str> = jobs.iter().flat_map(|job| job.outputs).copied().collect();
    let between = of.sources().iter().filter(|source| source.kind == SourceKind::Repartition);
    own.extend(between.map(|source| source.topic));
    let changelog = topic::changelog(of.name());
    own.insert(&changelog);
    let theirs = topic::catalogue().into_iter().filter(|topic| own.contains(&*topic.name));
    theirs.map(|topic| Topic { name: names::topic(fork.name(), &topic.name), ..topic }).collect()
}

pub(super) fn admin(context: &Context) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(context.kafka.client(CLIENT).create()?)
}

pub(super) fn patience() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL))
}

async fn create(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[Topic],
    fork: &str,
) -> anyhow::Result<()> {
    let settings: Vec<_> = topics.iter().map(Topic::settings).collect();
    let new = topics.iter().zip(&settings).map(|(topic, settings)| NewTopic {
        name: &topic.name,
        num_partitions: topic.partitions,
        replication: TopicReplication::Fixed(topic::REPLICATION),
        config: settings.iter().map(|(key, value)| (*key, value.as_str())).collect(),
    });
    let new: Vec<_> = new.collect();
    for created in admin.create_topics(&new, &patience()).await? {
        match created {
            Ok(_) => {}
            Err((name, RDKafkaErrorCode::TopicAlreadyExists)) => bail!(
                "there is a topic {name} already: take another name for the fork, or remove it with `millrace savepoint \
                 unfork {fork}`"
            ),
            Err((name, code)) => bail!("the topic {name} can't be created: {code}"),
        }
    }
    let topics: Vec<_> = topics.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    until_led(admin, &topics).await
}

/// Waits until so many partitions of each topic have a leader.
pub(super) async fn until_led(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[(&str, i32)],
) -> anyhow::Result<()> {
    let begun = Instant::now();
    while let Some((topic, _)) = topics.iter().find(|(topic, partitions)| !is_led(admin, topic, *partitions))
    {
        ensure!(begun.elapsed() < CALL, "the topic {topic} has no leader after {CALL:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn is_led(admin: &AdminClient<DefaultClientContext>, topic: &str, partitions: i32) -> bool {
    let Ok(metadata) = admin.inner().fetch_metadata(Some(topic), CALL) else { return false };
    let found = metadata.topics().iter().filter(|found| found.name() == topic);
    found.flat_map(|found| found.partitions()).filter(|partition| partition.leader() >= 0).count()
        == usize::try_from(partitions).unwrap_or_default()
}

/// Removes what a fork has in Kafka, if it is there.
async fn remove(
    admin: &AdminClient<DefaultClientContext>,
    fork: &Fork,
    topics: &[Topic],
) -> anyhow::Result<()> {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    for removed in admin.delete_topics(&names, &patience()).await? {
        match removed {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((name, code)) => bail!("the topic {name} can't be removed: {code}"),
        }
    }
    let group = topic::group(fork.name());
    for removed in admin.delete_groups(&[&group], &patience()).await? {
        match removed {
            Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
            Err((name, code)) => bail!("the group {name} can't be removed: {code}"),
        }
    }
    Ok(())
}
