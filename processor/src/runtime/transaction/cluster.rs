//! Who leads what, who coordinates what, and the connections to them.

use std::collections::HashMap;
use std::io;

use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, FindCoordinatorRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::connection::{Access, Connection};

/// Versions of the requests that are made here: those of Kafka 3.0.
///
/// Not those with which partitions and offsets become part of a transaction by writing to them (KIP-890, Kafka 4.0): each
/// broker and each group then asks the coordinator on its own, which takes one at a time and sends the others away to try
/// again.
#[allow(missing_docs, reason = "named like the requests")]
pub mod version {
    pub const PRODUCE: i16 = 9;
    pub const INIT_PRODUCER_ID: i16 = 4;
    pub const ADD_PARTITIONS: i16 = 3;
    pub const ADD_OFFSETS: i16 = 3;
    pub const TXN_OFFSET_COMMIT: i16 = 3;
    pub const END: i16 = 3;
    pub(super) const API_VERSIONS: i16 = 3;
    pub(super) const METADATA: i16 = 9;
    pub(super) const FIND_COORDINATOR: i16 = 4;
}

/// Brokers that have this have the others, and refuse what arrives when its transaction is over already (KIP-890).
const NEEDED: (ApiKey, i16) = (ApiKey::AddPartitionsToTxn, 4);

/// What a connection is for. A broker answers the requests of a connection one after the other, so what need not wait for
/// each other goes by lanes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Records.
    Records,
    /// The beginning and the end of transactions.
    Transaction,
    /// Offsets of a group, by number.
    Offsets(usize),
}

/// Somebody whose coordinator is to be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Coordinated {
    /// A consumer group.
    Group(String),
    /// A transactional id.
    Transaction(String),
}

/// A Kafka cluster, as one client knows it.
pub struct Cluster {
    access: Access,
    brokers: HashMap<i32, String>,
    leaders: HashMap<String, Vec<i32>>,
    coordinators: HashMap<Coordinated, i32>,
    lanes: HashMap<(i32, Lane), Connection>,
    /// To whoever answers questions.
    asked: Option<(String, Connection)>,
}

impl Cluster {
    /// Connects to any of its brokers.
    ///
    /// # Errors
    /// None of them answers, or they are of a version that does not have what is needed.
    pub fn connect(access: Access) -> io::Result<Self> {
        let mut cluster = Self {
            access,
            brokers: HashMap::new(),
            leaders: HashMap::new(),
            coordinators: HashMap::new(),
            lanes: HashMap::new(),
            asked: None,
        };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("millrace"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let has = cluster.ask(&request, version::API_VERSIONS)?;
        let (key, needed) = NEEDED;
        if !has.api_keys.iter().any(|api| api.api_key == key as i16 && api.max_version >= needed) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "workers need Kafka 3.6 or later"));
        }
        Ok(cluster)
    }

    /// Asks any broker, one that has just been silent last.
    fn ask<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        let mut silent = None;
        if let Some((address, mut asked)) = self.asked.take() {
            if let Ok(answer) = asked.call(request, version) {
                self.asked = Some((address, asked));
                return Ok(answer);
            }
            silent = Some(address);
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no broker is named");
        let mut addresses: Vec<String> =
            self.brokers.values().chain(&self.access.bootstrap).cloned().collect();
        addresses.sort_by_key(|address| Some(address) == silent.as_ref());
        for address in addresses {
            let answer = Connection::open(&address, &self.access)
                .and_then(|mut connection| Ok((connection.call(request, version)?, connection)));
            match answer {
                Ok((answer, connection)) => {
                    self.asked = Some((address, connection));
                    return Ok(answer);
                }
                Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    /// Learns anew who leads the partitions of topics; `None`: of all that there are.
    ///
    /// # Errors
    /// No broker answers.
    pub fn refresh(&mut self, topics: Option<&[&str]>) -> io::Result<()> {
        let name = |topic: &&str| TopicName(StrBytes::from_string((*topic).to_owned()));
        let wanted = |topic| MetadataRequestTopic::default().with_name(Some(name(topic)));
        let wanted = topics.map(|topics| topics.iter().map(wanted).collect());
        let request = MetadataRequest::default().with_topics(wanted);
        let answer = self.ask(&request.with_allow_auto_topic_creation(false), version::METADATA)?;
        for broker in answer.brokers {
            self.brokers.insert(broker.node_id.0, format!("{}:{}", broker.host, broker.port));
        }
        for topic in answer.topics {
            let Some(name) = topic.name.map(|name| name.to_string()) else { continue };
            if topic.error_code.is_err() {
                self.leaders.remove(&name);
                continue;
            }
            let mut partitions: Vec<_> =
                topic.partitions.iter().map(|p| (p.partition_index, p.leader_id.0)).collect();
            partitions.sort_unstable();
            self.leaders.insert(name, partitions.into_iter().map(|(_, leader)| leader).collect());
        }
        Ok(())
    }

    /// The leaders of a topic's partitions, in their order, as far as it is known; -1: none at the moment.
    pub fn leaders(&self, topic: &str) -> &[i32] {
        self.leaders.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Who coordinates somebody; `None`: nobody at the moment.
    ///
    /// # Errors
    /// No broker answers.
    pub fn coordinator(&mut self, of: &Coordinated) -> io::Result<Option<i32>> {
        if let Some(&known) = self.coordinators.get(of) {
            return Ok(Some(known));
        }
        let (kind, key) = match of {
            Coordinated::Group(key) => (0, key),
            Coordinated::Transaction(key) => (1, key),
        };
        let request = FindCoordinatorRequest::default()
            .with_key_type(kind)
            .with_coordinator_keys(vec![StrBytes::from_string(key.clone())]);
        let answer = self.ask(&request, version::FIND_COORDINATOR)?;
        let Some(found) = answer.coordinators.into_iter().next() else { return Ok(None) };
        match found.error_code.err() {
            None => {}
            Some(error) if error.is_retriable() => return Ok(None),
            Some(error) => {
                let text = format!("Kafka says {error} ({}) to who coordinates {key}", error.code());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
        }
        self.brokers.insert(found.node_id.0, format!("{}:{}", found.host, found.port));
        self.coordinators.insert(of.clone(), found.node_id.0);
        Ok(Some(found.node_id.0))
    }

    /// Opens the connections over which records go, and those to the coordinators of `groups`, so that the first commit takes no
    /// longer than others. What can't be opened now will be when it is wanted.
    pub fn open_lanes<'g>(&mut self, groups: impl Iterator<Item = &'g str>) {
        let mut wanted: HashMap<i32, Vec<Lane>> =
            self.brokers.keys().map(|broker| (*broker, vec![Lane::Records])).collect();
        for (number, group) in groups.enumerate() {
            if let Ok(Some(broker)) = self.coordinator(&Coordinated::Group(group.to_owned())) {
                wanted.entry(broker).or_default().push(Lane::Offsets(number));
            }
        }
        let (access, lanes) = (&self.access, &self.lanes);
        let opened: Vec<_> = std::thread::scope(|scope| {
            let open = |(broker, wanted): (i32, Vec<Lane>)| {
                let address = self.brokers.get(&broker)?;
                let missing = wanted.into_iter().filter(|lane| !lanes.contains_key(&(broker, *lane)));
                let missing: Vec<Lane> = missing.collect();
                let open = move |lane| Some(((broker, lane), Connection::open(address, access).ok()?));
                Some(scope.spawn(move || missing.into_iter().filter_map(open).collect::<Vec<_>>()))
            };
            let opening: Vec<_> = wanted.into_iter().filter_map(open).collect();
            opening.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        self.lanes.extend(opened);
    }

    /// Somebody's coordinator is to be looked for again.
    pub fn forget(&mut self, of: &Coordinated) {
        self.coordinators.remove(of);
    }

    /// The connection to a broker, made if there is none.
    ///
    /// # Errors
    /// The broker does not answer, or refuses.
    pub fn lane(&mut self, broker: i32, lane: Lane) -> io::Result<&mut Connection> {
        let entry = match self.lanes.entry((broker, lane)) {
            std::collections::hash_map::Entry::Occupied(open) => return Ok(open.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => entry,
        };
        let address = self.brokers.get(&broker).ok_or(io::ErrorKind::NotFound)?;
        Ok(entry.insert(Connection::open(address, &self.access)?))
    }

    /// The connection to a broker on which nothing is under way.
    ///
    /// # Errors
    /// As of [`lane`](Self::lane).
    pub fn free_lane(&mut self, broker: i32, lane: Lane) -> io::Result<&mut Connection> {
        if self.lanes.get(&(broker, lane)).is_some_and(Connection::owes) {
            self.hang_up(broker, lane);
        }
        self.lane(broker, lane)
    }

    /// Closes a connection, after an error.
    pub fn hang_up(&mut self, broker: i32, lane: Lane) {
        self.lanes.remove(&(broker, lane));
    }
}
