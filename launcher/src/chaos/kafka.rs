//! What chaos asks of Kafka: how far everyone is, and what is in a topic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millrace_wire::topic;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::commands::client;
use crate::layout::Layout;
use crate::records::{self, Found};

/// One question to a broker.
const CALL: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Before a look at how far processing is behind, so that several are of different times.
const MOMENT: Duration = Duration::from_millis(500);
/// The group that reads orders.
const COMMERCE: &str = "millrace.commerce";
/// Groups that process the known input, with what they read.
const PROCESSING: [(&str, &str); 2] = [(COMMERCE, topic::ORDERS), ("millrace.bank", topic::TRANSACTIONS)];
/// Results that are compared.
const RESULTS: [&str; 3] = [topic::CUSTOMER_TOTALS, topic::CATEGORY_STATS, topic::ACCOUNT_BALANCES];
/// Offsets before the end of a topic among which there is a record that readers see.
const TAIL: i64 = 2_000;

/// Group, topic, and offsets to come to.
type Target = (&'static str, &'static str, Vec<i64>);

/// Clients of the cluster. They stay connected: what connecting takes is no part of a recovery.
#[derive(Clone)]
pub struct Kafka {
    config: ClientConfig,
    /// To ask where topics end for readers of committed records.
    reader: Arc<BaseConsumer>,
    /// One to ask about each group. A reader of committed records would be told of offsets only while no transaction has newer
    /// ones, and the workers have one open nearly always.
    groups: Arc<BTreeMap<&'static str, BaseConsumer>>,
}

impl Kafka {
    /// Of a data folder.
    pub fn new(layout: &Layout) -> Result<Self> {
        let mut config = client(layout, "millrace-chaos")?;
        // But a connection on which nothing comes through any more is given up as soon as anybody here would.
        config.set("socket.timeout.ms", "2000").set("socket.connection.setup.timeout.ms", "2000");
        let reader = Arc::new(records::consumer(&config, "millrace-chaos")?);
        let names = PROCESSING.map(|(group, _)| group).into_iter().chain([topic::INDEXER_GROUP]);
        let asking =
            |group| config.clone().set("group.id", group).set("isolation.level", "read_uncommitted").create();
        let groups = names.map(|group| Ok((group, asking(group)?))).collect::<Result<_>>()?;
        Ok(Self { config, reader, groups: Arc::new(groups) })
    }

    /// Its settings.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    fn consumer(&self, group: &str) -> Result<&BaseConsumer> {
        self.groups.get(group).with_context(|| format!("nobody asks about {group}"))
    }

    /// Where a topic ends for a reader of committed records.
    pub fn ends(&self, topic: &str) -> Result<Vec<i64>> {
        records::ends_by(&self.reader, topic, super::PATIENCE)
    }

    /// Where the records of a topic end that a reader sees: behind them may be markers and what was aborted.
    fn visible_ends(&self, topic: &'static str) -> Result<Vec<i64>> {
        let from: Vec<i64> = self.ends(topic)?.iter().map(|end| (end - TAIL).max(0)).collect();
        let mut ends = vec![0; from.len()];
        for found in self.read(topic, &from)? {
            if let Some(end) = usize::try_from(found.partition).ok().and_then(|p| ends.get_mut(p)) {
                *end = found.offset + 1;
            }
        }
        Ok(ends)
    }

    /// Whether a group has committed up to these offsets. `false` too while nobody can say.
    fn reached(consumer: &BaseConsumer, topic: &str, ends: &[i64]) -> bool {
        let mut wanted = TopicPartitionList::new();
        for (partition, _) in (0..).zip(ends) {
            wanted.add_partition(topic, partition);
        }
        let Ok(committed) = consumer.committed_offsets(wanted, CALL) else { return false };
        (0..).zip(ends).all(|(partition, end)| {
            let at = committed.find_partition(topic, partition).map(|element| element.offset());
            *end == 0 || matches!(at, Some(Offset::Offset(offset)) if offset >= *end)
        })
    }

    fn until_reached(&self, (group, topic, ends): &Target, patience: Duration) -> Result<()> {
        let (consumer, deadline) = (self.consumer(group)?, Instant::now() + patience);
        while !Self::reached(consumer, topic, ends) {
            if Instant::now() > deadline {
                bail!("{group} has not come to {ends:?} of {topic} after {} s", patience.as_secs());
            }
            let _ = consumer.poll(LOOK);
        }
        Ok(())
    }

    async fn blocking(&self, work: impl FnOnce(&Self) -> Result<()> + Send + 'static) -> Result<()> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await?
    }

    /// Waits until the input that is in the log now has been processed.
    pub async fn processed(&self, patience: Duration) -> Result<()> {
        self.blocking(move |kafka| {
            // Of one moment: what is written while one group is waited for is not what the other is waited for.
            let targets = PROCESSING.map(|(group, topic)| Ok((group, topic, kafka.ends(topic)?)));
            let targets: Vec<Target> = targets.into_iter().collect::<Result<_>>()?;
            targets.iter().try_for_each(|target| kafka.until_reached(target, patience))
        })
        .await
    }

    /// How long it takes until the input that is in the log after a moment has been processed.
    pub async fn behind(&self) -> Result<Duration> {
        tokio::time::sleep(MOMENT).await;
        let began = Instant::now();
        self.processed(super::PATIENCE).await?;
        Ok(began.elapsed())
    }

    /// Waits until the results that are in the log now are indexed.
    pub async fn indexed(&self, patience: Duration) -> Result<()> {
        self.blocking(move |kafka| {
            let targets = RESULTS.map(|topic| Ok((topic::INDEXER_GROUP, topic, kafka.visible_ends(topic)?)));
            let targets: Vec<Target> = targets.into_iter().collect::<Result<_>>()?;
            targets.iter().try_for_each(|target| kafka.until_reached(target, patience))
        })
        .await
    }

    /// Waits until nothing of the known input is under way: processed, read again by other keys, indexed.
    pub async fn settled(&self, patience: Duration) -> Result<()> {
        self.processed(patience).await?;
        self.blocking(move |kafka| {
            let between = topic::CATEGORY_STATS_REPARTITION;
            kafka.until_reached(&(COMMERCE, between, kafka.visible_ends(between)?), patience)
        })
        .await?;
        self.indexed(patience).await
    }

    /// The committed records of a topic from these offsets to its end, in order of each partition.
    pub fn read(&self, topic: &str, from: &[i64]) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let ends = self.ends(topic)?;
        records::read(&self.config, topic, (from, &ends), super::PATIENCE, |record| found.push(record))?;
        Ok(found)
    }
}
