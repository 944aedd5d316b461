//! The transactional producer of a worker.
//!
//! A commit writes to dozens of partitions. librdkafka makes a request for each of them, which a broker answers one after the
//! other, each when its copies are written. Here it is one request for each broker (docs/adr/0005). Everything else that a worker
//! wants of Kafka is librdkafka's.

mod adding;
mod batch;
mod cluster;
mod connection;
mod coordinator;
mod sasl;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    EndTxnRequest, GroupId, InitProducerIdRequest, ProduceRequest, ProduceResponse, ProducerId, TopicName,
    TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use millrace_service::{KafkaArgs, clock};
use millrace_wire::{partition, topic};
use rdkafka::TopicPartitionList;
use rdkafka::message::ToBytes;
use rdkafka::producer::BaseRecord;

use self::adding::Ahead;
use self::batch::{Batch, Content, Identity};
use self::cluster::{Cluster, Coordinated, Lane, version};
use self::connection::Access;
use self::coordinator::{CALL, Call, SILENCE};
use super::assignment::Generation;
use super::restart::SessionError;

/// How long records may take to arrive, and a topic to be there.
const ARRIVAL: Duration = Duration::from_secs(15);
/// How long it may be silent before the same records are sent again over another connection: what was lost on the way comes late,
/// even when nothing is lost any more. A broker knows the numbers of records that it has.
const LOST: Duration = Duration::from_secs(3);
/// Between two tries: the first wait and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(3), Duration::from_millis(100));
/// Bytes that are worth sending before the commit.
const ENOUGH: usize = 512 * 1024;
/// Brokers refuse batches of more than 1 MiB, unless told otherwise.
const LARGEST_BATCH: usize = 900 * 1024;

const NOT_DELIVERED: &str = "a record of the transaction was not delivered";
const NOT_COMMITTED: &str = "the transaction was not committed";

/// Offset behind the last changelog record, by the app's number and partition.
pub type ChangelogEnds = HashMap<(usize, i32), i64>;

/// Records and what they hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Number of records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A topic that was written to.
struct Topic {
    name: String,
    /// Its number, if it is a changelog.
    changelog: Option<usize>,
    partitions: Vec<Partition>,
    /// Where records without a key go, until these are sent.
    keyless: usize,
}

impl Topic {
    /// The partition of a record: the one that was asked for, or that of its key, as other clients choose it.
    fn place(&self, asked: Option<i32>, key: Option<&[u8]>) -> Option<usize> {
        let count = self.partitions.len();
        let place = match (asked, key) {
            (Some(asked), _) => usize::try_from(asked).ok()?,
            (None, Some(key)) => usize::try_from(partition(key, i32::try_from(count).ok()?)).ok()?,
            (None, None) => self.keyless % count.max(1),
        };
        (place < count).then_some(place)
    }
}

#[derive(Default)]
struct Partition {
    /// What waits.
    batch: Batch,
    /// Of the next record, as this producer counts them.
    sequence: i32,
    /// Part of the open transaction.
    added: bool,
    /// Written to in this transaction, and in the one before.
    written: bool,
    written_before: bool,
}

/// A consumer group.
struct Group {
    name: String,
    /// Part of the open transaction.
    added: bool,
    /// Its offsets are committed in this transaction.
    moved: bool,
    /// They were in the one before, or there was none.
    moved_before: bool,
}

impl Group {
    fn new(name: String) -> Self {
        Self { name, added: false, moved: false, moved_before: true }
    }
}

/// Records under way to a partition.
struct Flight {
    topic: usize,
    partition: i32,
    records: Bytes,
    count: i32,
    /// Who was asked to take them.
    broker: Option<i32>,
}

/// The producer and its open transaction, if there is one.
pub struct Transactions {
    cluster: Cluster,
    id: TransactionalId,
    identity: Identity,
    timeout: Duration,
    changelogs: Vec<String>,
    groups: Vec<Group>,
    topics: Vec<Topic>,
    /// Bytes that wait.
    waiting: usize,
    flights: Vec<Flight>,
    opened: Option<Instant>,
    /// Kafka may know of the open transaction.
    begun: bool,
    /// What it was asked ahead of the commit.
    ahead: Option<Ahead>,
    /// In the open transaction.
    sent: Sent,
    ends: ChangelogEnds,
    /// Time spent waiting for brokers to take records, commits aside.
    backpressured: Duration,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn away(what: &'static str) -> impl Fn(io::Error) -> SessionError {
    move |error| SessionError::Kafka(anyhow!(error).context(what))
}

fn refused(what: &'static str, error: ResponseError) -> SessionError {
    let meaning = match error {
        ResponseError::ProducerFenced | ResponseError::InvalidProducerEpoch => {
            ": somebody else works under this worker's name, or Kafka has ended the transaction, which took too long"
        }
        ResponseError::IllegalGeneration
        | ResponseError::UnknownMemberId
        | ResponseError::FencedInstanceId
        | ResponseError::RebalanceInProgress => ": the group has given the partitions away",
        _ => "",
    };
    SessionError::Kafka(anyhow!("Kafka says {error} ({}){meaning}", error.code()).context(what))
}

/// Whether the same may succeed soon.
fn passes(error: ResponseError) -> bool {
    error.is_retriable() || error == ResponseError::ConcurrentTransactions
}

/// The code that decides, of answers for so many partitions: what does not pass counts more than what does. 0: none.
fn worst(partitions: usize, codes: impl Iterator<Item = i16>) -> i16 {
    let codes: Vec<i16> = codes.collect();
    if codes.len() != partitions {
        return ResponseError::UnknownServerError.code();
    }
    let wrong = codes.into_iter().filter_map(|code| code.err());
    // Kafka does not even try the rest if one of them is wrong.
    let tried = wrong.filter(|error| *error != ResponseError::OperationNotAttempted);
    tried.max_by_key(|error| !passes(*error)).map_or(0, |error| error.code())
}

/// Waits between tries, longer each time.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(RETRY.0)
    }

    fn wait(&mut self) {
        std::thread::park_timeout(self.0);
        self.0 = (self.0 * 2).min(RETRY.1);
    }
}

impl Transactions {
    /// Connects, for the changelogs and groups of `apps`, and ends what a former life of this worker has left open. A
    /// transaction that is open for longer than `timeout` is aborted by Kafka.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub fn start(
        kafka: &KafkaArgs,
        component: &str,
        apps: &[&str],
        timeout: Duration,
    ) -> Result<Self, SessionError> {
        let access = Access::new(kafka, component).map_err(SessionError::Kafka)?;
        let cluster = Cluster::connect(access).map_err(away("Kafka does not answer"))?;
        let mut transactions = Self {
            cluster,
            id: TransactionalId(text(&format!("millrace.{component}"))),
            identity: Identity { id: -1, epoch: -1 },
            timeout,
            changelogs: apps.iter().map(|app| topic::changelog(app)).collect(),
            groups: apps.iter().map(|app| Group::new(topic::group(app))).collect(),
            topics: Vec::new(),
            waiting: 0,
            flights: Vec::new(),
            opened: None,
            begun: false,
            ahead: None,
            sent: Sent::default(),
            ends: ChangelogEnds::default(),
            backpressured: Duration::ZERO,
        };
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactions.id.clone()))
            .with_transaction_timeout_ms(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let call = transactions.call("transactions can't be started", version::INIT_PRODUCER_ID, request);
        let cluster = &mut transactions.cluster;
        let asked = call.begin(cluster).ok().flatten();
        // Ending what was left open takes its time.
        cluster.refresh(None).map_err(away("Kafka does not answer"))?;
        cluster.open_lanes(transactions.groups.iter().map(|group| group.name.as_str()));
        let answer = call.until_done(cluster, asked, &|| false, |answer| answer.error_code)?;
        transactions.identity = Identity { id: answer.producer_id.0, epoch: answer.producer_epoch };
        Ok(transactions)
    }

    /// A request to the coordinator of the transactions.
    fn call<R>(&self, what: &'static str, version: i16, request: R) -> Call<R> {
        let of = Coordinated::Transaction(self.id.to_string());
        Call { what, of, lane: Lane::Transaction, version, request }
    }

    /// When the open transaction began.
    pub fn opened(&self) -> Option<Instant> {
        self.opened
    }

    /// Opens a transaction, unless one is open.
    pub fn open(&mut self) {
        self.opened.get_or_insert_with(Instant::now);
    }

    /// Adds a record. Waits while brokers do not take what was sent before.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub fn send<K: ToBytes + ?Sized, V: ToBytes + ?Sized>(
        &mut self,
        record: BaseRecord<'_, K, V>,
    ) -> Result<(), SessionError> {
        let BaseRecord { topic, partition, key, payload, headers, .. } = record;
        let (key, value) = (key.map(ToBytes::to_bytes), payload.map(ToBytes::to_bytes));
        let bytes = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let number = self.topic(topic)?;
        let Some(place) = self.topics.get(number).and_then(|topic| topic.place(partition, key)) else {
            return Err(SessionError::Kafka(anyhow!("there is no partition {partition:?} of {topic}")));
        };
        let batch = self.batch(number, place);
        if batch.is_some_and(|batch| !batch.is_empty() && batch.len() + bytes > LARGEST_BATCH) {
            self.hand_over()?;
        }
        if let Some(batch) = self.batch(number, place) {
            batch.push(Content { key, value, headers: headers.as_ref() });
        }
        self.sent.records += 1;
        self.sent.bytes += bytes as u64;
        self.waiting += bytes;
        if self.waiting >= ENOUGH { self.hand_over() } else { Ok(()) }
    }

    fn batch(&mut self, topic: usize, partition: usize) -> Option<&mut Batch> {
        Some(&mut self.topics.get_mut(topic)?.partitions.get_mut(partition)?.batch)
    }

    /// The number of a topic, of which the partitions are known.
    fn topic(&mut self, name: &str) -> Result<usize, SessionError> {
        if let Some(known) = self.topics.iter().position(|topic| topic.name == name) {
            return Ok(known);
        }
        let (began, mut pause) = (Instant::now(), Pause::new());
        while self.cluster.leaders(name).is_empty() {
            self.cluster.refresh(Some(&[name])).map_err(away("Kafka does not answer"))?;
            if began.elapsed() > ARRIVAL {
                return Err(SessionError::Kafka(anyhow!(
                    "there is no topic {name}: `millrace topics setup`"
                )));
            }
            if self.cluster.leaders(name).is_empty() {
                pause.wait();
            }
        }
        self.topics.push(Topic {
            name: name.to_owned(),
            changelog: self.changelogs.iter().position(|changelog| changelog == name),
            partitions: self.cluster.leaders(name).iter().map(|_| Partition::default()).collect(),
            keyless: 0,
        });
        Ok(self.topics.len() - 1)
    }

    /// Sends everything added so far, when what was sent before has arrived.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub fn hand_over(&mut self) -> Result<(), SessionError> {
        let waiting = Instant::now();
        self.arrive()?;
        self.add()?;
        self.backpressured += waiting.elapsed();
        self.send_off();
        Ok(())
    }

    /// Sends the records that wait, in partitions that are part of the transaction.
    fn send_off(&mut self) {
        let now = clock::now_ms();
        for (number, topic) in self.topics.iter_mut().enumerate() {
            topic.keyless += 1;
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                if partition.batch.is_empty() {
                    continue;
                }
                let (records, count) = partition.batch.seal(self.identity, partition.sequence, now);
                partition.written = true;
                // Kafka counts on from 0.
                partition.sequence = partition.sequence.wrapping_add(count) & i32::MAX;
                let partition = i32::try_from(index).unwrap_or(i32::MAX);
                self.flights.push(Flight { topic: number, partition, records, count, broker: None });
            }
        }
        self.waiting = 0;
        self.launch();
    }

    /// Sends what nobody was asked to take yet: one request for each broker.
    fn launch(&mut self) {
        let mut requests: HashMap<i32, HashMap<usize, Vec<PartitionProduceData>>> = HashMap::new();
        for flight in self.flights.iter_mut().filter(|flight| flight.broker.is_none()) {
            let Some(topic) = self.topics.get(flight.topic) else { continue };
            let leaders = self.cluster.leaders(&topic.name);
            let leader = usize::try_from(flight.partition).ok().and_then(|index| leaders.get(index));
            let Some(&leader) = leader.filter(|leader| **leader >= 0) else { continue };
            flight.broker = Some(leader);
            let data = PartitionProduceData::default()
                .with_index(flight.partition)
                .with_records(Some(flight.records.clone()));
            requests.entry(leader).or_default().entry(flight.topic).or_default().push(data);
        }
        for (broker, topics) in requests {
            let data = topics.into_iter().filter_map(|(number, partitions)| {
                let name = TopicName(text(&self.topics.get(number)?.name));
                Some(TopicProduceData::default().with_name(name).with_partition_data(partitions))
            });
            let request = ProduceRequest::default()
                .with_transactional_id(Some(self.id.clone()))
                .with_acks(-1)
                .with_timeout_ms(i32::try_from(CALL.as_millis()).unwrap_or(i32::MAX))
                .with_topic_data(data.collect());
            let sent = self
                .cluster
                .lane(broker, Lane::Records)
                .and_then(|connection| connection.send(&request, version::PRODUCE));
            if let Err(error) = sent {
                self.lost(broker, &error);
            }
        }
    }

    /// A broker took nothing of what it was asked to, as far as is known. Kafka finds out what it has already.
    fn lost(&mut self, broker: i32, error: &io::Error) {
        tracing::debug!(broker, %error, "records are sent again");
        self.cluster.hang_up(broker, Lane::Records);
        let of_it = self.flights.iter_mut().filter(|flight| flight.broker == Some(broker));
        of_it.for_each(|flight| flight.broker = None);
    }

    /// Waits until everything that was sent has arrived: sends again what has not.
    fn arrive(&mut self) -> Result<(), SessionError> {
        let (began, mut pause) = (Instant::now(), Pause::new());
        loop {
            let mut last = None;
            let asked: Vec<i32> = self.asked();
            for broker in asked {
                match self.answer(broker) {
                    Ok(answer) => last = self.landed(broker, answer)?.or(last),
                    Err(error) => {
                        self.lost(broker, &error);
                        last = Some(error.to_string());
                    }
                }
            }
            if self.flights.is_empty() {
                return Ok(());
            }
            if began.elapsed() > ARRIVAL {
                let why = last.unwrap_or_else(|| "its partition has no leader".to_owned());
                return Err(SessionError::Kafka(anyhow!("{why}").context(NOT_DELIVERED)));
            }
            pause.wait();
            self.refresh();
            self.launch();
        }
    }

    /// The brokers that owe an answer.
    fn asked(&self) -> Vec<i32> {
        let mut asked: Vec<i32> = self.flights.iter().filter_map(|flight| flight.broker).collect();
        asked.sort_unstable();
        asked.dedup();
        asked
    }

    /// Learns anew who leads the partitions that something is under way to.
    fn refresh(&mut self) {
        let mut names: Vec<&str> =
            self.flights.iter().filter_map(|f| self.topics.get(f.topic)).map(|t| t.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if let Err(error) = self.cluster.refresh(Some(&names)) {
            tracing::debug!(%error, "no broker says who leads what");
        }
    }

    /// What a broker answers to the records that it was sent. One that is silent is waited for as long as it is the leader, but not
    /// for long on the same connection.
    fn answer(&mut self, broker: i32) -> io::Result<ProduceResponse> {
        let asked = Instant::now();
        while !self.cluster.lane(broker, Lane::Records)?.ready(SILENCE)? {
            self.refresh();
            let leads = |flight: &Flight| {
                let topic = self.topics.get(flight.topic)?;
                let leaders = self.cluster.leaders(&topic.name);
                leaders.get(usize::try_from(flight.partition).ok()?).copied()
            };
            let mut of_it = self.flights.iter().filter(|flight| flight.broker == Some(broker));
            if of_it.any(|flight| leads(flight).is_some_and(|leader| leader >= 0 && leader != broker)) {
                return Err(io::Error::other("others lead its partitions now"));
            }
            if asked.elapsed() > LOST {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.cluster.lane(broker, Lane::Records)?.receive::<ProduceRequest>(version::PRODUCE)
    }

    /// Takes note of what a broker has taken. Returns why it did not take the rest yet.
    fn landed(&mut self, broker: i32, answer: ProduceResponse) -> Result<Option<String>, SessionError> {
        let mut last = None;
        for topic in answer.responses {
            let Some(number) = self.topics.iter().position(|known| known.name == **topic.name) else {
                continue;
            };
            for partition in topic.partition_responses {
                let is_it = |flight: &Flight| {
                    flight.topic == number
                        && flight.partition == partition.index
                        && flight.broker == Some(broker)
                };
                let Some(place) = self.flights.iter().position(is_it) else { continue };
                match partition.error_code.err() {
                    None => {
                        let flight = self.flights.swap_remove(place);
                        let changelog = self.topics.get(number).and_then(|topic| topic.changelog);
                        if let Some(changelog) = changelog {
                            let end = partition.base_offset + i64::from(flight.count);
                            self.ends.insert((changelog, flight.partition), end);
                        }
                    }
                    Some(error) if passes(error) => {
                        if let Some(flight) = self.flights.get_mut(place) {
                            flight.broker = None;
                        }
                        tracing::debug!(%error, topic = %*topic.name, "records are sent again");
                        last = Some(format!("Kafka says {error} ({}) for {}", error.code(), *topic.name));
                    }
                    Some(error) => return Err(refused(NOT_DELIVERED, error)),
                }
            }
        }
        // What it did not mention, it has not taken.
        let of_it = self.flights.iter_mut().filter(|flight| flight.broker == Some(broker));
        of_it.for_each(|flight| flight.broker = None);
        Ok(last)
    }

    /// Time spent waiting for brokers since the last call.
    pub fn take_backpressured(&mut self) -> Duration {
        std::mem::take(&mut self.backpressured)
    }

    /// Commits what was sent together with offsets of each group. Returns what that was and the ends of the
    /// changelogs that it wrote to. `go_on` is asked before waiting longer for a coordinator.
    ///
    /// # Errors
    /// The transaction is not known to be committed: whoever calls starts again from what is.
    pub fn commit(
        &mut self,
        offsets: &[(&Generation, TopicPartitionList)],
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Sent, ChangelogEnds), SessionError> {
        let began = Instant::now();
        // After that, Kafka has taken it back.
        let (opened, longest) = (self.opened, self.timeout + CALL);
        let go_on = &|| opened.is_none_or(|opened| opened.elapsed() < longest) && go_on();
        self.arrive()?;
        self.add()?;
        let numbers = offsets.iter().map(|(group, _)| self.add_group(&group.group, go_on));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        let added = began.elapsed();
        // A broker asks the coordinator about one request of a transaction at a time and refuses what comes meanwhile. So it gets
        // the offsets of one group after the other, and then the records.
        let (mut asked, mut busy) = (Vec::new(), Vec::new());
        for ((group, offsets), number) in offsets.iter().zip(numbers) {
            let call = Call {
                what: NOT_COMMITTED,
                of: Coordinated::Group(group.group.clone()),
                lane: Lane::Offsets(number),
                version: version::TXN_OFFSET_COMMIT,
                request: self.offsets(group, offsets),
            };
            let broker = self.cluster.coordinator(&call.of).ok().flatten();
            let who = if broker.is_none_or(|broker| busy.contains(&broker)) {
                None
            } else {
                call.begin(&mut self.cluster).ok().flatten()
            };
            busy.extend(who);
            asked.push((call, offsets.count(), who));
        }
        asked.sort_by_key(|(_, _, who)| who.is_none());
        for (call, count, who) in asked {
            call.until_done(&mut self.cluster, who, go_on, |answer| {
                let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
                worst(count, all.map(|partition| partition.error_code))
            })?;
        }
        let offsets = began.elapsed();
        self.send_off();
        let partitions = self.flights.len();
        self.arrive()?;
        let arrived = began.elapsed();
        self.end(true, go_on)?;
        let ended = began.elapsed();
        tracing::debug!(partitions, ?added, ?offsets, ?arrived, ?ended, "committed");
        self.opened = None;
        Ok((std::mem::take(&mut self.sent), std::mem::take(&mut self.ends)))
    }

    fn offsets(&self, group: &Generation, offsets: &TopicPartitionList) -> TxnOffsetCommitRequest {
        let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
        for element in offsets.elements() {
            let Some(next) = element.offset().to_raw() else { continue };
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(element.partition())
                .with_committed_offset(next)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::default()));
            match topics.iter_mut().find(|topic| topic.name.as_str() == element.topic()) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    TxnOffsetCommitRequestTopic::default()
                        .with_name(TopicName(text(element.topic())))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id.clone())
            .with_group_id(GroupId(text(&group.group)))
            .with_producer_id(ProducerId(self.identity.id))
            .with_producer_epoch(self.identity.epoch)
            .with_generation_id(group.generation)
            .with_member_id(text(&group.member))
            .with_group_instance_id(group.instance.as_deref().map(text))
            .with_topics(topics)
    }

    /// Ends the open transaction, if Kafka may know of it.
    fn end(&mut self, committed: bool, go_on: &dyn Fn() -> bool) -> Result<(), SessionError> {
        if !std::mem::take(&mut self.begun) {
            return Ok(());
        }
        self.hear_ahead()?;
        let what = if committed { NOT_COMMITTED } else { "the transaction was not taken back" };
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(ProducerId(self.identity.id))
            .with_producer_epoch(self.identity.epoch)
            .with_committed(committed);
        let call = self.call(what, version::END, request);
        // Asked again, Kafka answers the same.
        call.until_done(&mut self.cluster, None, go_on, |answer| answer.error_code)?;
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.added = false;
            partition.written_before = std::mem::take(&mut partition.written);
        }
        for group in &mut self.groups {
            group.added = false;
            group.moved_before = std::mem::take(&mut group.moved);
        }
        self.ahead = None;
        Ok(())
    }

    /// Takes back the open transaction, so that readers need not wait for its timeout. Returns whether there was one. The
    /// producer is of no use afterwards.
    pub fn abort(&mut self) -> bool {
        let open = self.opened.take().is_some();
        if open && let Err(error) = self.end(false, &|| false) {
            tracing::warn!(%error, "the transaction could not be aborted; Kafka does that when this worker is back");
        }
        open
    }
}
