//! What is part of the open transaction: partitions, and the offsets of groups.

use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, GroupId, ProducerId,
    TopicName,
};

use super::cluster::version;
use super::coordinator::Call;
use super::{ARRIVAL, Group, NOT_COMMITTED, Partition, Topic, Transactions, text, worst};
use crate::runtime::restart::SessionError;

/// A partition: its topic's number and its own.
type Place = (usize, usize);

/// What was asked ahead of a commit, and who was asked.
#[derive(Default)]
pub struct Ahead {
    partitions: Option<(Call<AddPartitionsToTxnRequest>, i32, Vec<Place>)>,
    /// With the groups' numbers.
    groups: Vec<(Call<AddOffsetsToTxnRequest>, i32, usize)>,
}

impl Transactions {
    /// Asks for what a commit takes, as far as it can be foreseen, once the open transaction is so old. Nothing waits for the
    /// answers before the commit, which is shorter by that: the coordinator takes one after the other.
    ///
    /// Too many partitions only get a marker too many.
    pub fn ask_ahead(&mut self, age: Duration) {
        if self.ahead.is_some() || self.opened.is_none_or(|opened| opened.elapsed() < age) {
            return;
        }
        let partitions = self.partitions_to_add(|partition| partition.written_before);
        let mut ahead = Ahead::default();
        if !partitions.is_empty() {
            self.begun = true;
            let call = self.adding_partitions(&partitions);
            ahead.partitions =
                call.begin(&mut self.cluster).ok().flatten().map(|asked| (call, asked, partitions));
        }
        let groups = self.groups.iter().enumerate().filter(|(_, group)| group.moved_before && !group.added);
        let calls =
            groups.map(|(number, group)| (self.adding_group(&group.name), number)).collect::<Vec<_>>();
        for (call, number) in calls {
            self.begun = true;
            let Ok(Some(asked)) = call.begin_behind(&mut self.cluster) else { break };
            ahead.groups.push((call, asked, number));
        }
        self.ahead = Some(ahead);
    }

    /// Hears what became of what was asked ahead. What was refused is asked for again when it is wanted.
    ///
    /// # Errors
    /// The coordinator is silent.
    pub(super) fn hear_ahead(&mut self) -> Result<(), SessionError> {
        let Some(ahead) = &mut self.ahead else { return Ok(()) };
        if let Some((call, asked, partitions)) = ahead.partitions.take() {
            match call.heard(&mut self.cluster, asked)? {
                Some(answer) if partitions_code(partitions.len(), &answer) == 0 => {
                    added(&mut self.topics, &partitions);
                }
                Some(_) => {}
                // The other answers are lost with the connection.
                None => ahead.groups.clear(),
            }
        }
        for (call, asked, number) in std::mem::take(&mut ahead.groups) {
            let Some(answer) = call.heard(&mut self.cluster, asked)? else { break };
            if let Some(group) = self.groups.get_mut(number).filter(|_| answer.error_code == 0) {
                group.added = true;
            }
        }
        Ok(())
    }

    /// Which of the partitions that are not part of the transaction yet are to be: topics and places.
    fn partitions_to_add(&self, wanted: impl Fn(&Partition) -> bool) -> Vec<Place> {
        let mut found = Vec::new();
        for (number, topic) in self.topics.iter().enumerate() {
            for (place, partition) in topic.partitions.iter().enumerate() {
                if !partition.added && (!partition.batch.is_empty() || wanted(partition)) {
                    found.push((number, place));
                }
            }
        }
        found
    }

    fn adding_partitions(&self, partitions: &[Place]) -> Call<AddPartitionsToTxnRequest> {
        let of = |number: usize| partitions.iter().filter(move |(topic, _)| *topic == number);
        let topics = self.topics.iter().enumerate().filter(|(number, _)| of(*number).next().is_some());
        let topics = topics.map(|(number, topic)| {
            let places = of(number).map(|(_, place)| i32::try_from(*place).unwrap_or(i32::MAX)).collect();
            AddPartitionsToTxnTopic::default().with_name(TopicName(text(&topic.name))).with_partitions(places)
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id.clone())
            .with_v3_and_below_producer_id(ProducerId(self.identity.id))
            .with_v3_and_below_producer_epoch(self.identity.epoch)
            .with_v3_and_below_topics(topics.collect());
        self.call("partitions were not made part of the transaction", version::ADD_PARTITIONS, request)
    }

    fn adding_group(&self, group: &str) -> Call<AddOffsetsToTxnRequest> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(ProducerId(self.identity.id))
            .with_producer_epoch(self.identity.epoch)
            .with_group_id(GroupId(text(group)));
        self.call(NOT_COMMITTED, version::ADD_OFFSETS, request)
    }

    /// Makes the partitions that are to be written to part of the transaction.
    pub(super) fn add(&mut self) -> Result<(), SessionError> {
        self.hear_ahead()?;
        let partitions = self.partitions_to_add(|_| false);
        if !partitions.is_empty() {
            self.begun = true;
            let (call, began) = (self.adding_partitions(&partitions), Instant::now());
            call.until_done(&mut self.cluster, None, &|| began.elapsed() < ARRIVAL, |answer| {
                partitions_code(partitions.len(), answer)
            })?;
        }
        added(&mut self.topics, &partitions);
        Ok(())
    }

    /// Makes the offsets of a group part of the transaction. Returns the group's number.
    pub(super) fn add_group(&mut self, name: &str, go_on: &dyn Fn() -> bool) -> Result<usize, SessionError> {
        let known = self.groups.iter().position(|group| group.name == name);
        let number = known.unwrap_or_else(|| {
            self.groups.push(Group::new(name.to_owned()));
            self.groups.len() - 1
        });
        if self.groups.get(number).is_none_or(|group| !group.added) {
            self.begun = true;
            let call = self.adding_group(name);
            call.until_done(&mut self.cluster, None, go_on, |answer| answer.error_code)?;
        }
        if let Some(group) = self.groups.get_mut(number) {
            (group.added, group.moved) = (true, true);
        }
        Ok(number)
    }
}

/// The code that decides, of the answer to a request to add so many partitions.
fn partitions_code(count: usize, answer: &AddPartitionsToTxnResponse) -> i16 {
    let all = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
    worst(count, all.map(|partition| partition.partition_error_code))
}

/// These are part of the open transaction: topics and places.
fn added(topics: &mut [Topic], partitions: &[Place]) {
    for (topic, place) in partitions {
        let topic = topics.get_mut(*topic);
        if let Some(partition) = topic.and_then(|topic| topic.partitions.get_mut(*place)) {
            partition.added = true;
        }
    }
}
