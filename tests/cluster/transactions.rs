//! What ends a worker's transaction, and that nothing of it is read then: what `processor/src/runtime/transaction` is for.

use std::time::Duration;

use millrace_processor::runtime::{SessionError, Transactions};
use millrace_service::KafkaArgs;
use millrace_tests::{Cluster, eventually, now_ms};
use millrace_wire::topic;
use rdkafka::producer::BaseRecord;

/// No page counts what is in it, no index has it, and every test reads it from where it ended before.
const TOPIC: &str = topic::DEAD_LETTERS;

/// The transactional producer of a worker of that name.
pub fn start(cluster: &Cluster, name: &str, timeout_s: u64) -> Transactions {
    let setting = |name: &str| cluster.kafka.config().get(name).map(str::to_owned);
    let args = KafkaArgs {
        bootstrap_servers: setting("bootstrap.servers").unwrap(),
        security_protocol: setting("security.protocol"),
        ssl_enabled: false,
        sasl_mechanism: setting("sasl.mechanism").or_else(|| setting("sasl.mechanisms")).unwrap(),
        sasl_username: setting("sasl.username"),
        sasl_password: setting("sasl.password"),
        ssl_ca_location: None,
    };
    Transactions::start(&args, name, &[], Duration::from_secs(timeout_s)).unwrap()
}

fn send(transactions: &mut Transactions, text: &str) {
    transactions.open();
    transactions.send(BaseRecord::to(TOPIC).partition(0).key(text).payload(text)).unwrap();
    transactions.hand_over().unwrap();
}

fn commit(transactions: &mut Transactions) -> Result<(), SessionError> {
    transactions.commit(&[], &|| true).map(drop)
}

/// What these tests have written to the topic that can be read.
fn read(cluster: &Cluster, from: &[i64], name: &str) -> Vec<String> {
    let read = cluster.kafka.read(TOPIC, from).into_iter();
    read.map(|message| message.key).filter(|key| key.starts_with(name)).collect()
}

/// A worker that was taken for dead has a successor by its name. The successor ends its transaction, and it can't commit any more.
#[test]
fn a_fenced_worker_commits_nothing() {
    let cluster = Cluster::exclusive();
    let (name, before) = (format!("fenced-{}", now_ms()), cluster.kafka.ends(TOPIC));
    let mut zombie = start(&cluster, &name, 15);
    send(&mut zombie, &format!("{name}-zombie"));
    let mut successor = start(&cluster, &name, 15);
    send(&mut successor, &format!("{name}-successor"));
    commit(&mut successor).unwrap();
    let error = commit(&mut zombie).unwrap_err();
    assert!(matches!(error, SessionError::Kafka(_)), "{error}");
    assert!(error.to_string().contains("ProducerFenced"), "{error}");
    assert_eq!(read(&cluster, &before, &name), [format!("{name}-successor")]);
}

/// Readers wait for a transaction that is neither committed nor aborted, and the page says so. Kafka ends it when its time is over:
/// then it can't be committed any more, and whoever starts again may go on.
#[test]
fn a_transaction_that_hangs_is_shown_and_ended_by_kafka() {
    let cluster = Cluster::exclusive();
    cluster.wait_until_well(Duration::from_secs(60));
    let (name, before) = (format!("hanging-{}", now_ms()), cluster.kafka.ends(TOPIC));
    let mut hanging = start(&cluster, &name, 25);
    send(&mut hanging, &format!("{name}-hanging"));
    eventually("the page tells of it", Duration::from_secs(25), || {
        let problems = cluster.api.overview().problems;
        let tells = |text: &str| text.contains("readers of committed records") && text.contains(TOPIC);
        if problems.iter().any(|problem| tells(&problem.text)) {
            Ok(())
        } else {
            Err(format!("{problems:?}"))
        }
    });
    cluster.wait_until_well(Duration::from_secs(60));
    let error = commit(&mut hanging).unwrap_err();
    assert!(matches!(error, SessionError::Kafka(_)), "{error}");
    assert_eq!(read(&cluster, &before, &name), Vec::<String>::new());
    drop(hanging);
    let mut next = start(&cluster, &name, 15);
    send(&mut next, &format!("{name}-next"));
    commit(&mut next).unwrap();
    assert_eq!(read(&cluster, &before, &name), [format!("{name}-next")]);
}
