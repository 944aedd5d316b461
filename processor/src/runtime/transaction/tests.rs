//! Against brokers that answer as they are told: what real ones do when one would rather not wait for it.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, EndTxnResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdResponse, MetadataRequest, MetadataResponse, RequestHeader,
    ResponseHeader, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use rdkafka::Offset;

use super::*;

const APP: &str = "bank";
const RESULTS: &str = "account-balances";

/// What a request gets instead of being done.
#[derive(Clone, Copy)]
enum Instead {
    Error(ResponseError),
    HangUp,
    Silence,
}

struct Script {
    /// By what is asked: what the next requests get. After that, all goes well.
    instead: HashMap<i16, VecDeque<Instead>>,
    /// Who was asked for what, in order.
    asked: Vec<(i32, i16)>,
    /// Batches, as they came.
    records: Vec<(i32, Bytes)>,
    ports: Vec<u16>,
    coordinator: i32,
    leader: i32,
    /// Of `AddPartitionsToTxn`.
    newest: i16,
}

/// Two brokers, 0 and 1. They end with the process, as their threads wait for nothing but connections.
#[derive(Clone)]
struct Brokers(Arc<Mutex<Script>>);

impl Brokers {
    fn start() -> Self {
        let (instead, asked, records) = (HashMap::new(), Vec::new(), Vec::new());
        let script =
            Script { instead, asked, records, ports: Vec::new(), coordinator: 0, leader: 0, newest: 5 };
        let brokers = Self(Arc::new(Mutex::new(script)));
        for node in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            brokers.told(|script| script.ports.push(listener.local_addr().unwrap().port()));
            let brokers = brokers.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let brokers = brokers.clone();
                    std::thread::spawn(move || brokers.serve(node, &stream.unwrap()));
                }
            });
        }
        brokers
    }

    fn told<T>(&self, tell: impl FnOnce(&mut Script) -> T) -> T {
        tell(&mut self.0.lock().unwrap())
    }

    fn instead(&self, key: ApiKey, instead: &[Instead]) {
        self.told(|script| script.instead.insert(key as i16, instead.iter().copied().collect()));
    }

    /// Whom the requests of a kind went to.
    fn asked(&self, key: ApiKey) -> Vec<i32> {
        self.told(|script| {
            script.asked.iter().filter(|(_, asked)| *asked == key as i16).map(|(node, _)| *node).collect()
        })
    }

    /// Waits until so many requests of a kind have come.
    fn until_asked(&self, key: ApiKey, times: usize) {
        let began = Instant::now();
        while self.asked(key).len() < times {
            assert!(began.elapsed() < CALL, "{key:?} was asked {} times", self.asked(key).len());
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn producer(&self) -> Transactions {
        self.connect().unwrap()
    }

    fn connect(&self) -> Result<Transactions, SessionError> {
        let ports = self.told(|script| script.ports.clone());
        let bootstrap: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let kafka = KafkaArgs {
            bootstrap_servers: bootstrap.join(","),
            security_protocol: Some("PLAINTEXT".to_owned()),
            ssl_enabled: false,
            sasl_mechanism: String::new(),
            sasl_username: None,
            sasl_password: None,
            ssl_ca_location: None,
        };
        Transactions::start(&kafka, "processor-1", &[APP], Duration::from_secs(15))
    }

    fn serve(&self, node: i32, mut stream: &TcpStream) {
        let mut length = [0; 4];
        while stream.read_exact(&mut length).is_ok() {
            let mut request = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut request).unwrap();
            let key = i16::from_be_bytes([request[0], request[1]]);
            let version = i16::from_be_bytes([request[2], request[3]]);
            let mut request = Bytes::from(request);
            let header = ApiKey::try_from(key).unwrap().request_header_version(version);
            let correlation = RequestHeader::decode(&mut request, header).unwrap().correlation_id;
            let (answer, instead) = self.told(|script| {
                script.asked.push((node, key));
                let instead = script.instead.get_mut(&key).and_then(VecDeque::pop_front);
                let error = match instead {
                    Some(Instead::Error(error)) => error.code(),
                    _ => 0,
                };
                (script.answer(node, (key, version, correlation), request, error), instead)
            });
            match instead {
                Some(Instead::HangUp) => return,
                // The client hangs up.
                Some(Instead::Silence) => return drop(std::io::copy(&mut stream, &mut std::io::sink())),
                _ => stream.write_all(&answer).unwrap(),
            }
        }
    }
}

/// Decodes a request and encodes the answer.
fn answer<Q: Request + Decodable>(
    (version, correlation): (i16, i32),
    mut request: Bytes,
    answer: impl FnOnce(Q) -> Q::Response,
) -> BytesMut
where
    Q::Response: Encodable,
{
    let answer = answer(Q::decode(&mut request, version).unwrap());
    let mut bytes = BytesMut::from(&[0; 4][..]);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut bytes, Q::Response::header_version(version)).unwrap();
    answer.encode(&mut bytes, version).unwrap();
    let length = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

impl Script {
    fn node(&self, node: i32) -> (BrokerId, StrBytes, i32) {
        (BrokerId(node), StrBytes::from_static_str("127.0.0.1"), self.ports[node as usize].into())
    }

    fn answer(
        &mut self,
        node: i32,
        (key, version, correlation): (i16, i16, i32),
        request: Bytes,
        error: i16,
    ) -> BytesMut {
        let of = (version, correlation);
        match ApiKey::try_from(key).unwrap() {
            ApiKey::ApiVersions => answer(of, request, |_: ApiVersionsRequest| {
                let add = ApiVersion::default().with_api_key(ApiKey::AddPartitionsToTxn as i16);
                ApiVersionsResponse::default().with_api_keys(vec![add.with_max_version(self.newest)])
            }),
            ApiKey::Metadata => answer(of, request, |asked: MetadataRequest| {
                let all = [RESULTS.to_owned(), topic::changelog(APP)];
                let asked = asked.topics.map_or(all.to_vec(), |asked| {
                    asked
                        .iter()
                        .filter_map(|topic| topic.name.as_ref())
                        .map(|name| name.to_string())
                        .collect()
                });
                let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(self.leader));
                let topics = asked.iter().map(|name| {
                    MetadataResponseTopic::default()
                        .with_name(Some(TopicName(text(name))))
                        .with_partitions(vec![partition.clone()])
                });
                let brokers = (0..2).map(|node| {
                    let (id, host, port) = self.node(node);
                    MetadataResponseBroker::default().with_node_id(id).with_host(host).with_port(port)
                });
                MetadataResponse::default().with_topics(topics.collect()).with_brokers(brokers.collect())
            }),
            ApiKey::FindCoordinator => answer(of, request, |_: FindCoordinatorRequest| {
                let (id, host, port) = self.node(self.coordinator);
                let found = Coordinator::default().with_node_id(id).with_host(host).with_port(port);
                FindCoordinatorResponse::default().with_coordinators(vec![found])
            }),
            ApiKey::InitProducerId => answer(of, request, |_: InitProducerIdRequest| {
                let answer = InitProducerIdResponse::default().with_error_code(error);
                answer.with_producer_id(ProducerId(7)).with_producer_epoch(3)
            }),
            ApiKey::AddPartitionsToTxn => answer(of, request, |asked: AddPartitionsToTxnRequest| {
                let of = |partition: &i32| {
                    AddPartitionsToTxnPartitionResult::default()
                        .with_partition_index(*partition)
                        .with_partition_error_code(error)
                };
                let topics = asked.v3_and_below_topics.into_iter().map(|topic| {
                    AddPartitionsToTxnTopicResult::default()
                        .with_name(topic.name)
                        .with_results_by_partition(topic.partitions.iter().map(of).collect())
                });
                AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
            }),
            ApiKey::Produce => answer(of, request, |asked: ProduceRequest| {
                let mut responses = Vec::new();
                for topic in asked.topic_data {
                    let partitions = topic.partition_data.into_iter().map(|partition| {
                        self.records.push((node, partition.records.unwrap()));
                        PartitionProduceResponse::default()
                            .with_index(partition.index)
                            .with_base_offset(40)
                            .with_error_code(error)
                    });
                    let partitions = partitions.collect();
                    responses.push(
                        TopicProduceResponse::default()
                            .with_name(topic.name)
                            .with_partition_responses(partitions),
                    );
                }
                ProduceResponse::default().with_responses(responses)
            }),
            ApiKey::AddOffsetsToTxn => answer(of, request, |_: AddOffsetsToTxnRequest| {
                AddOffsetsToTxnResponse::default().with_error_code(error)
            }),
            ApiKey::TxnOffsetCommit => answer(of, request, |asked: TxnOffsetCommitRequest| {
                let topics = asked.topics.into_iter().map(|topic| {
                    let partitions = topic.partitions.iter().map(|partition| {
                        TxnOffsetCommitResponsePartition::default()
                            .with_partition_index(partition.partition_index)
                            .with_error_code(error)
                    });
                    let partitions = partitions.collect();
                    TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
                });
                TxnOffsetCommitResponse::default().with_topics(topics.collect())
            }),
            ApiKey::EndTxn => {
                answer(of, request, |_: EndTxnRequest| EndTxnResponse::default().with_error_code(error))
            }
            other => unreachable!("nobody asks for {other:?}"),
        }
    }
}

fn commit(transactions: &mut Transactions) -> Result<(Sent, ChangelogEnds), SessionError> {
    transactions.open();
    transactions.send(BaseRecord::to(RESULTS).key("a").payload("1"))?;
    transactions.send(BaseRecord::to(&topic::changelog(APP)).partition(0).key("b").payload("22"))?;
    let member = Generation {
        group: topic::group(APP),
        generation: 4,
        member: "processor-1-x".to_owned(),
        instance: Some("processor-1".to_owned()),
    };
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset("transactions", 0, Offset::Offset(12)).unwrap();
    transactions.commit(&[(&member, offsets)], &|| true)
}

#[test]
fn a_transaction_is_committed_with_one_request_for_each_broker() {
    let brokers = Brokers::start();
    let mut transactions = brokers.producer();
    for n in 1..=2 {
        let (sent, ends) = commit(&mut transactions).unwrap();
        assert_eq!((sent.records, sent.bytes), (2, 5));
        assert_eq!(ends, ChangelogEnds::from([((0, 0), 41)]));
        for key in [
            ApiKey::AddPartitionsToTxn,
            ApiKey::Produce,
            ApiKey::AddOffsetsToTxn,
            ApiKey::TxnOffsetCommit,
            ApiKey::EndTxn,
        ] {
            assert_eq!(brokers.asked(key), vec![0; n], "{key:?}");
        }
    }
}

#[test]
fn what_may_pass_is_asked_again() {
    let again = [
        Instead::Error(ResponseError::ConcurrentTransactions),
        Instead::HangUp,
        Instead::Error(ResponseError::NotCoordinator),
        Instead::Error(ResponseError::CoordinatorLoadInProgress),
    ];
    for key in [
        ApiKey::InitProducerId,
        ApiKey::AddPartitionsToTxn,
        ApiKey::AddOffsetsToTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::EndTxn,
    ] {
        let brokers = Brokers::start();
        brokers.instead(key, &again);
        commit(&mut brokers.producer()).unwrap();
        assert_eq!(brokers.asked(key).len(), again.len() + 1, "{key:?}");
    }
}

#[test]
fn records_are_sent_again_as_they_were_to_whoever_leads() {
    for instead in [Instead::Error(ResponseError::NotLeaderOrFollower), Instead::HangUp] {
        let brokers = Brokers::start();
        let mut transactions = brokers.producer();
        commit(&mut transactions).unwrap();
        brokers.told(|script| {
            script.leader = 1;
            script.records.clear();
        });
        brokers.instead(ApiKey::Produce, &[instead]);
        commit(&mut transactions).unwrap();
        let mut records = brokers.told(|script| script.records.clone());
        records.sort_by_key(|(node, batch)| (batch.clone(), *node));
        // Each batch twice, with the same number, so that a broker that has it knows it.
        assert_eq!(records.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [0, 1, 0, 1]);
        assert_eq!(records[0].1, records[1].1);
        assert_eq!(records[2].1, records[3].1);
    }
}

#[test]
fn who_is_fenced_or_no_longer_a_member_commits_nothing() {
    let fenced = "works under this worker's name";
    let given_away = "the group has given the partitions away";
    for (key, error, says) in [
        (ApiKey::AddPartitionsToTxn, ResponseError::ProducerFenced, fenced),
        (ApiKey::Produce, ResponseError::InvalidProducerEpoch, fenced),
        (ApiKey::AddOffsetsToTxn, ResponseError::ProducerFenced, fenced),
        (ApiKey::TxnOffsetCommit, ResponseError::InvalidProducerEpoch, fenced),
        (ApiKey::TxnOffsetCommit, ResponseError::IllegalGeneration, given_away),
        (ApiKey::TxnOffsetCommit, ResponseError::UnknownMemberId, given_away),
        (ApiKey::TxnOffsetCommit, ResponseError::FencedInstanceId, given_away),
        (ApiKey::EndTxn, ResponseError::ProducerFenced, fenced),
        (ApiKey::EndTxn, ResponseError::InvalidTxnState, "not committed"),
    ] {
        let brokers = Brokers::start();
        let mut transactions = brokers.producer();
        brokers.instead(key, &[Instead::Error(error)]);
        let refused = commit(&mut transactions).unwrap_err().to_string();
        assert!(refused.contains(says), "{key:?} {error}: {refused}");
        let ended = usize::from(key == ApiKey::EndTxn);
        assert_eq!(brokers.asked(ApiKey::EndTxn).len(), ended, "{key:?} {error}");
    }
}

#[test]
fn an_answer_to_something_else_is_not_heard() {
    let brokers = Brokers::start();
    let mut transactions = brokers.producer();
    brokers.instead(ApiKey::EndTxn, &[Instead::Error(ResponseError::ProducerFenced)]);
    let end = transactions.call("nobody hears this", version::END, EndTxnRequest::default());
    let asked = end.begin(&mut transactions.cluster).unwrap();
    assert!(transactions.cluster.lane(asked.unwrap(), Lane::Transaction).unwrap().ready(CALL).unwrap());
    let end = transactions.call("this is heard", version::END, EndTxnRequest::default());
    end.until_done(&mut transactions.cluster, None, &|| false, |answer| answer.error_code).unwrap();
    assert_eq!(brokers.asked(ApiKey::EndTxn), [0, 0]);
}

#[test]
fn a_coordinator_that_is_silent_is_left_for_the_one_that_follows_it() {
    let brokers = Brokers::start();
    let mut transactions = brokers.producer();
    commit(&mut transactions).unwrap();
    brokers.instead(ApiKey::EndTxn, &[Instead::Silence]);
    brokers.told(|script| script.coordinator = 1);
    commit(&mut transactions).unwrap();
    assert_eq!(brokers.asked(ApiKey::EndTxn), [0, 0, 1]);
}

#[test]
fn brokers_of_old_are_refused() {
    let brokers = Brokers::start();
    brokers.told(|script| script.newest = 3);
    let refused = brokers.connect().map(drop).unwrap_err().to_string();
    assert!(refused.contains("Kafka 3.6"), "{refused}");
}

#[test]
fn what_was_asked_ahead_is_not_asked_again() {
    let brokers = Brokers::start();
    let mut transactions = brokers.producer();
    commit(&mut transactions).unwrap();
    transactions.open();
    transactions.ask_ahead(Duration::ZERO);
    transactions.ask_ahead(Duration::ZERO);
    brokers.until_asked(ApiKey::AddOffsetsToTxn, 2);
    commit(&mut transactions).unwrap();
    assert_eq!(brokers.asked(ApiKey::AddPartitionsToTxn), [0, 0]);
    assert_eq!(brokers.asked(ApiKey::AddOffsetsToTxn), [0, 0]);
    // Nothing is open: there is nothing to ask for.
    transactions.ask_ahead(Duration::ZERO);
    commit(&mut transactions).unwrap();
    assert_eq!(brokers.asked(ApiKey::EndTxn), [0, 0, 0]);
    assert_eq!(brokers.asked(ApiKey::AddOffsetsToTxn), [0, 0, 0]);
}

#[test]
fn what_was_refused_or_lost_ahead_is_asked_again() {
    for instead in [Instead::Error(ResponseError::ConcurrentTransactions), Instead::HangUp] {
        for key in [ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn] {
            let brokers = Brokers::start();
            let mut transactions = brokers.producer();
            commit(&mut transactions).unwrap();
            brokers.instead(key, &[instead]);
            transactions.open();
            transactions.ask_ahead(Duration::ZERO);
            brokers.until_asked(key, 2);
            let (sent, _) = commit(&mut transactions).unwrap();
            assert_eq!(sent.records, 2);
            assert_eq!(brokers.asked(key).len(), 3, "{key:?}");
            assert_eq!(brokers.asked(ApiKey::EndTxn), [0, 0]);
        }
    }
}

#[test]
fn what_was_asked_ahead_is_taken_back_with_the_rest() {
    let brokers = Brokers::start();
    let mut transactions = brokers.producer();
    assert!(!transactions.abort());
    transactions.open();
    transactions.ask_ahead(Duration::ZERO);
    assert!(transactions.abort());
    assert_eq!(brokers.asked(ApiKey::EndTxn), [0]);
}

#[test]
fn a_leader_that_is_silent_gets_the_same_again_over_another_connection() {
    let brokers = Brokers::start();
    let mut transactions = brokers.producer();
    brokers.instead(ApiKey::Produce, &[Instead::Silence]);
    commit(&mut transactions).unwrap();
    let mut records = brokers.told(|script| script.records.clone());
    records.sort_by_key(|(_, batch)| batch.clone());
    assert_eq!(records.len(), 4);
    assert_eq!((&records[0], &records[2]), (&records[1], &records[3]));
}

#[test]
fn a_coordinator_that_is_silent_to_what_was_asked_ahead_is_not_waited_for_twice() {
    let brokers = Brokers::start();
    let mut transactions = brokers.producer();
    commit(&mut transactions).unwrap();
    brokers.instead(ApiKey::AddPartitionsToTxn, &[Instead::Silence]);
    transactions.open();
    transactions.ask_ahead(Duration::ZERO);
    brokers.until_asked(ApiKey::AddPartitionsToTxn, 2);
    let error = commit(&mut transactions).map(drop).unwrap_err().to_string();
    assert!(error.contains("the coordinator is silent"), "{error}");
    assert_eq!(brokers.asked(ApiKey::AddPartitionsToTxn).len(), 2);
    assert_eq!(brokers.asked(ApiKey::EndTxn), [0]);
}
