//! The thread that asks Kafka once a second. It uses its own clients and time limits, so that a broker that hangs holds
//! up nothing but the age of the numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use millrace_service::clock::now_ms;
use millrace_service::{KafkaArgs, Shutdown};
use millrace_wire::api::{GroupPartition, GroupView, PartitionView, TopicView};
use millrace_wire::topic::{self, Kind};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::lag::{self, History};
use super::{Shared, View};

const INTERVAL: Duration = Duration::from_secs(1);
const METADATA: Duration = Duration::from_secs(2);
/// Per question about offsets: a broker that is away must not hold up what the others know.
const TIMEOUT: Duration = Duration::from_millis(800);

/// A group and the topics that it reads.
pub type Groups = BTreeMap<String, BTreeSet<String>>;

/// Topic and partition.
pub type Place = (String, i32);
type Offsets = HashMap<Place, i64>;

/// Ends and starts of a topic's partitions as they were last read. They outlive a broker that does not answer.
#[derive(Default)]
struct Known {
    ends: Offsets,
    starts: Offsets,
    /// Last stable offsets: what a reader of committed records may read.
    stable: Offsets,
    /// Where a last stable offset stands still below the end, and since when, epoch ms.
    open: HashMap<Place, (i64, i64)>,
    ends_ms: i64,
    groups: BTreeMap<String, (GroupView, i64)>,
}

struct Sampler {
    kafka: KafkaArgs,
    /// Reads metadata and high watermarks.
    client: BaseConsumer,
    /// Reads last stable offsets.
    stable: BaseConsumer,
    /// Read committed offsets: a client per group, which never subscribes, so that the group does not notice it.
    groups: HashMap<String, BaseConsumer>,
    known: Known,
    topic_ends: HashMap<String, History>,
    group_ends: HashMap<(String, Place), History>,
    group_lags: HashMap<String, History>,
}

/// Samples until `shutdown`. `groups` says which groups to watch.
///
/// `done` says whether nothing but transaction markers stands after an offset of a result topic: markers take offsets
/// that no consumer ever commits, and without it a group that has read everything would seem to be behind for ever.
pub fn run(
    kafka: &KafkaArgs,
    shared: &Shared,
    groups: impl Fn() -> Groups,
    done: impl Fn(&Place, i64) -> bool,
    shutdown: &Shutdown,
) {
    let mut sampler = match Sampler::new(kafka) {
        Ok(sampler) => sampler,
        Err(error) => {
            let text = format!("the Kafka client can't be made from these settings: {error}");
            tracing::error!("{text}");
            shared.set(View { error: Some((text, now_ms())), ..View::default() });
            return;
        }
    };
    while !shutdown.requested() {
        let started = Instant::now();
        match sampler.sample(&groups(), &done) {
            Ok(view) => {
                if shared.get().error.is_some() {
                    tracing::info!("Kafka answers");
                }
                shared.set(view);
            }
            Err(error) => {
                let mut view = View::clone(&shared.get());
                if view.error.is_none() {
                    tracing::warn!(%error, "Kafka does not answer");
                }
                let since = view.error.map_or_else(now_ms, |(_, since)| since);
                view.error = Some((error.to_string(), since));
                shared.set(view);
            }
        }
        while !shutdown.requested() && started.elapsed() < INTERVAL {
            let left = INTERVAL.saturating_sub(started.elapsed()).min(Duration::from_millis(100));
            // Serves the client's events, of which there are only errors.
            drop(sampler.client.poll(left));
        }
    }
}

impl Sampler {
    fn new(kafka: &KafkaArgs) -> KafkaResult<Self> {
        Ok(Self {
            kafka: kafka.clone(),
            client: kafka.consumer("gateway-view", "gateway-view", "read_uncommitted").create()?,
            stable: kafka.consumer("gateway-view", "gateway-view", "read_committed").create()?,
            groups: HashMap::new(),
            known: Known::default(),
            topic_ends: HashMap::new(),
            group_ends: HashMap::new(),
            group_lags: HashMap::new(),
        })
    }

    /// Fails only without metadata. Where one broker is away, what it alone knows stays as it was, and ages.
    fn sample(&mut self, groups: &Groups, done: &impl Fn(&Place, i64) -> bool) -> KafkaResult<View> {
        let metadata = self.client.fetch_metadata(None, METADATA)?;
        let (mut topics, places) = layout(&metadata);
        self.read_ends(&places, groups);
        for view in topics.values_mut() {
            let mut sum = 0;
            for p in &mut view.partitions {
                let place = (view.name.clone(), p.partition);
                p.high_watermark = self.known.ends.get(&place).copied().unwrap_or(0);
                p.log_start = self.known.starts.get(&place).copied().unwrap_or(0);
                // Where no transaction was ever written, both are the same.
                p.last_stable = self.known.stable.get(&place).copied().unwrap_or(p.high_watermark);
                p.open_since_ms = self.known.open.get(&place).map(|(_, since)| *since);
                sum += p.high_watermark;
            }
            let history = self.topic_ends.entry(view.name.clone()).or_default();
            history.push(self.known.ends_ms, sum);
            view.records_per_s = history.growth();
        }
        for (group, of) in groups {
            let places: Vec<Place> = places.iter().filter(|(t, _)| of.contains(t)).cloned().collect();
            match self.group(group, places, done) {
                Ok(view) => drop(self.known.groups.insert(group.clone(), (view, now_ms()))),
                Err(error) => tracing::debug!(group, %error, "a group's coordinator does not answer"),
            }
        }
        let (groups, groups_ms) = self.known.groups.values().cloned().unzip();
        Ok(View {
            as_of_ms: now_ms(),
            ends_ms: self.known.ends_ms,
            error: None,
            topics: topics.into_values().collect(),
            groups,
            groups_ms,
            brokers_up: u32::try_from(metadata.brokers().len()).unwrap_or(0),
        })
    }

    fn read_ends(&mut self, places: &[Place], groups: &Groups) {
        let known = &mut self.known;
        let read = offsets(&self.client, places, Offset::End).and_then(|ends| {
            known.ends.extend(ends);
            known.ends_ms = now_ms();
            known.starts.extend(offsets(&self.client, places, Offset::Beginning)?);
            let transactional = |topic: &str| {
                groups.values().any(|of| of.contains(topic))
                    || matches!(kind(topic), "result" | "side" | "internal")
            };
            let ours: Vec<Place> =
                places.iter().filter(|(t, _)| transactional(t) && !t.starts_with("__")).cloned().collect();
            // A client that does not consume keeps leaders that it once learnt until it is told.
            self.stable.fetch_metadata(None, METADATA)?;
            let (stable, now) = (offsets(&self.stable, &ours, Offset::End)?, now_ms());
            for (place, stable) in &stable {
                if known.ends.get(place).is_none_or(|end| stable >= end) {
                    known.open.remove(place);
                } else if known.open.get(place).is_none_or(|(stood, _)| stood != stable) {
                    known.open.insert(place.clone(), (*stable, now));
                }
            }
            known.stable.extend(stable);
            Ok(())
        });
        if let Err(error) = read {
            tracing::debug!(%error, "some partitions' leaders do not answer");
        }
    }

    fn group(
        &mut self,
        group: &str,
        mut places: Vec<Place>,
        done: &impl Fn(&Place, i64) -> bool,
    ) -> KafkaResult<GroupView> {
        if !self.groups.contains_key(group) {
            let client = self.kafka.consumer("gateway-view", group, "read_committed").create()?;
            self.groups.insert(group.to_owned(), client);
        }
        let Some(client) = self.groups.get(group).filter(|_| !places.is_empty()) else {
            return Ok(GroupView {
                group: group.to_owned(),
                lag_records: 0,
                lag_seconds: None,
                trend_per_s: 0.0,
                partitions: Vec::new(),
            });
        };
        drop(client.poll(Duration::ZERO));
        let mut asked = TopicPartitionList::new();
        for (topic, partition) in &places {
            asked.add_partition(topic, *partition);
        }
        let committed = collect(&client.committed_offsets(asked, TIMEOUT)?);
        let read: BTreeSet<&String> = committed.keys().map(|(t, _)| t).collect();
        // A reference table that the group never commits is not read through it.
        places.retain(|(t, _)| read.contains(t) || kind(t) != "reference");
        let now = now_ms();
        let mut partitions = Vec::new();
        for place in places {
            let Some(&end) = self.known.stable.get(&place) else { continue };
            let start = self.known.starts.get(&place).copied().unwrap_or(0);
            let committed = committed.get(&place).copied();
            // The ends were read before the commits: what was committed since is an end too.
            let end = end.max(committed.unwrap_or(0));
            let history = self.group_ends.entry((group.to_owned(), place.clone())).or_default();
            history.push(now, end);
            let all_read = committed.is_some_and(|offset| offset < end && done(&place, offset));
            // What is left are markers: the group stands at the end.
            let reached = if all_read { Some(end) } else { committed };
            partitions.push(GroupPartition {
                lag_records: lag::records(end, reached, start),
                lag_seconds: lag::seconds(history, now, end, reached, start),
                topic: place.0,
                partition: place.1,
                committed,
                end,
            });
        }
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let lag_records = partitions.iter().map(|p| p.lag_records).sum();
        let lags = self.group_lags.entry(group.to_owned()).or_default();
        lags.push(now, lag_records);
        let known: Option<Vec<f64>> = partitions.iter().map(|p| p.lag_seconds).collect();
        Ok(GroupView {
            group: group.to_owned(),
            lag_records,
            lag_seconds: known.and_then(|all| all.into_iter().reduce(f64::max)),
            trend_per_s: lags.trend(),
            partitions,
        })
    }
}

/// Topics without their offsets, and the partitions that have a leader to ask.
fn layout(metadata: &Metadata) -> (BTreeMap<String, TopicView>, Vec<Place>) {
    let mut topics = BTreeMap::new();
    let mut places = Vec::new();
    for topic in metadata.topics() {
        let name = topic.name().to_owned();
        let mut replication = 0;
        let mut partitions: Vec<PartitionView> = topic
            .partitions()
            .iter()
            .map(|p| {
                replication = replication.max(u32::try_from(p.replicas().len()).unwrap_or(0));
                if p.leader() >= 0 {
                    places.push((name.clone(), p.id()));
                }
                let (partition, leader, in_sync) = (p.id(), p.leader(), p.isr().to_vec());
                PartitionView { partition, leader, in_sync, ..PartitionView::default() }
            })
            .collect();
        partitions.sort_by_key(|p| p.partition);
        let kind = kind(&name).to_owned();
        topics.insert(name.clone(), TopicView { name, kind, partitions, replication, records_per_s: 0.0 });
    }
    (topics, places)
}

/// One ListOffsets request per broker: the ends that the client's isolation level may read, or the log starts.
fn offsets(client: &BaseConsumer, places: &[Place], which: Offset) -> KafkaResult<Offsets> {
    if places.is_empty() {
        return Ok(Offsets::new());
    }
    let mut asked = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        asked.add_partition_offset(topic, *partition, which)?;
    }
    Ok(collect(&client.offsets_for_times(asked, TIMEOUT)?))
}

fn collect(list: &TopicPartitionList) -> Offsets {
    list.elements()
        .iter()
        .filter(|e| e.error().is_ok())
        .filter_map(|e| match e.offset() {
            Offset::Offset(offset) => Some(((e.topic().to_owned(), e.partition()), offset)),
            _ => None,
        })
        .collect()
}

fn kind(name: &str) -> &'static str {
    match topic::catalogue().iter().find(|t| t.name == name).map(|t| t.kind) {
        Some(Kind::Raw) => "raw",
        Some(Kind::Reference) => "reference",
        Some(Kind::Result) => "result",
        Some(Kind::Side) => "side",
        Some(Kind::Internal) => "internal",
        None if name.starts_with("__") || name.starts_with("millrace.") => "internal",
        None => "other",
    }
}

/// Whether an error means that Kafka is away, rather than that something was refused.
pub fn away(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, LeaderNotAvailable, MessageTimedOut, NotEnoughReplicas,
        NotEnoughReplicasAfterAppend, OperationTimedOut, QueueFull, RequestTimedOut,
    };
    error.rdkafka_error_code().is_some_and(|code| {
        matches!(
            code,
            AllBrokersDown
                | BrokerTransportFailure
                | LeaderNotAvailable
                | MessageTimedOut
                | NotEnoughReplicas
                | NotEnoughReplicasAfterAppend
                | OperationTimedOut
                | QueueFull
                | RequestTimedOut
        )
    })
}
