//! Balances `millrace.ledger` against Kafka's own offsets and Elasticsearch's counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use millrace_service::{KafkaArgs, Shutdown};
use millrace_wire::api::{Ledger, LedgerPartition, LedgerStream};
use millrace_wire::ledger::{self, Entry, FORMAT, JobCount, Undone};
use millrace_wire::live::{LedgerGauge, LedgerJob};
use millrace_wire::{bench, fork, topic};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::clock::locked;
use crate::kafka::View;

/// What was read at different moments is compared once nothing has moved for so long: Elasticsearch counts a document up to
/// 5 s after it was written.
const SETTLED_MS: i64 = 10_000;

/// The newest entry of each task, by app and partition.
#[derive(Default)]
pub struct Books {
    entries: BTreeMap<(String, i32), Entry>,
    /// Results taken back by restored savepoints, by app, partition and time.
    undone: BTreeMap<(String, i32, i64), i64>,
    unreadable: u64,
}

/// What Elasticsearch holds, and what is known of what it does not.
#[derive(Debug, Clone, Copy)]
pub struct Indexed {
    /// Documents in the result indices.
    pub documents: u64,
    /// Results that the indexer has not committed yet; `None`: not known.
    pub behind: Option<i64>,
}

impl Books {
    fn take(&mut self, value: &[u8]) {
        match serde_json::from_slice::<Entry>(value) {
            // Those of `millrace bench` are on no page, and their results in no index.
            Ok(entry) if bench::owns(&entry.app) => {}
            Ok(entry) if entry.v == FORMAT => {
                self.entries.insert((entry.app.clone(), entry.partition), entry);
            }
            Ok(_) | Err(_) => match serde_json::from_slice::<Undone>(value) {
                Ok(undone) if undone.v == FORMAT => {
                    self.undone.insert((undone.app, undone.partition, undone.at_ms), undone.emitted);
                }
                Ok(_) | Err(_) => self.unreadable += 1,
            },
        }
    }

    /// An app is no more.
    fn forget(&mut self, key: &str) {
        self.entries.retain(|(app, partition), _| ledger::key(app, *partition) != key);
    }

    /// Results in the topics that are indexed: what the tasks have emitted, and what they emitted before a savepoint was
    /// restored.
    fn emitted(&self) -> u64 {
        let indexed = self.entries.values().filter(|entry| fork::of(&entry.app).is_none());
        let counted: u64 = indexed.flat_map(|entry| &entry.jobs).map(|job| job.emitted).sum();
        counted.saturating_add_signed(self.undone.values().sum())
    }

    /// When the newest entry was written, epoch ms; 0 without any.
    fn newest_ms(&self) -> i64 {
        self.entries.values().map(|entry| entry.at_ms).max().unwrap_or(0)
    }

    /// The whole, with every finding.
    pub fn balance(&self, view: &View, indexed: Option<Indexed>, now_ms: i64) -> Ledger {
        let partitions: Vec<_> = self.entries.values().map(|entry| partition(entry, view, now_ms)).collect();
        let mut findings: Vec<String> = partitions.iter().flat_map(|p| p.findings.clone()).collect();
        if self.unreadable > 0 {
            findings.push(format!("{} entries of {} can't be read", self.unreadable, topic::LEDGER));
        }
        let emitted = self.emitted();
        if let Some(Indexed { documents, behind }) = indexed
            && now_ms - self.newest_ms() > SETTLED_MS
        {
            if documents > emitted {
                findings.push(format!("Elasticsearch holds {documents} documents of {emitted} results"));
            } else if documents < emitted && behind == Some(0) {
                findings.push(format!(
                    "Elasticsearch holds {documents} documents of {emitted} results, and the indexer has read all of them"
                ));
            }
        }
        Ledger {
            as_of_ms: self.newest_ms(),
            balanced: findings.is_empty(),
            findings,
            emitted,
            indexed: indexed.map(|indexed| indexed.documents),
            partitions,
        }
    }

    /// The same in sums, for the page.
    pub fn gauge(&self, view: &View, now_ms: i64) -> Option<LedgerGauge> {
        if self.entries.is_empty() {
            return None;
        }
        let Ledger { findings, .. } = self.balance(view, None, now_ms);
        let mut jobs: BTreeMap<(&str, &str), JobCount> = BTreeMap::new();
        for entry in self.entries.values() {
            for job in &entry.jobs {
                let sum = jobs.entry((&entry.app, &job.job)).or_insert_with(|| JobCount {
                    job: job.job.clone(),
                    records: 0,
                    filtered: 0,
                    late: 0,
                    dead: 0,
                    pending: 0,
                    done: 0,
                    emitted: 0,
                });
                sum.records += job.records;
                sum.filtered += job.filtered;
                sum.late += job.late;
                sum.dead += job.dead;
                sum.pending += job.pending;
                sum.done += job.done;
                sum.emitted += job.emitted;
            }
        }
        Some(LedgerGauge {
            as_of_ms: self.newest_ms(),
            findings,
            records: self.entries.values().map(|entry| entry.records).sum(),
            dead: self.entries.values().map(|entry| entry.dead).sum(),
            jobs: jobs
                .into_iter()
                .map(|((app, _), count)| LedgerJob { app: app.to_owned(), count })
                .collect(),
        })
    }
}

fn partition(entry: &Entry, view: &View, now_ms: i64) -> LedgerPartition {
    let name = format!("{}/{}", entry.app, entry.partition);
    let group = view.groups.iter().find(|group| group.group == topic::group(&entry.app));
    let mut findings = Vec::new();
    let mut log_starts = 0;
    let streams: Vec<_> = entry
        .streams
        .iter()
        .map(|(topic, next)| {
            let topics = view.topics.iter().find(|view| view.name == *topic);
            let log = topics.and_then(|view| view.partitions.iter().find(|p| p.partition == entry.partition));
            log_starts += log.map_or(0, |log| log.log_start);
            let committed = group.and_then(|group| {
                group
                    .partitions
                    .iter()
                    .find(|p| p.topic == *topic && p.partition == entry.partition)?
                    .committed
            });
            // Both are of one transaction, but are read at different moments.
            let settled = now_ms - entry.at_ms > SETTLED_MS && view.as_of_ms - entry.at_ms > SETTLED_MS / 2;
            if let Some(committed) = committed.filter(|committed| settled && committed != next) {
                findings.push(format!(
                    "{name}: {topic} is counted to offset {next}, the consumer group stands at {committed}"
                ));
            }
            LedgerStream {
                topic: topic.clone(),
                read_to: *next,
                committed,
                log_end: log.map(|log| log.high_watermark),
            }
        })
        .collect();
    let unaccounted = entry.unaccounted();
    if unaccounted < 0 {
        findings
            .push(format!("{name}: {} records more are counted than its streams have offsets", -unaccounted));
    } else if unaccounted > log_starts {
        findings
            .push(format!("{name}: {unaccounted} offsets of its streams are in no record that was counted"));
    }
    for job in entry.jobs.iter().filter(|job| !job.balances()) {
        let JobCount { job, records, filtered, late, dead, pending, done, .. } = job;
        findings.push(format!(
            "{name}: {job} saw {records} records, and accounts for {filtered} filtered, {late} late, {dead} dead, \
             {pending} pending and {done} done"
        ));
    }
    LedgerPartition {
        app: entry.app.clone(),
        partition: entry.partition,
        component: entry.component.clone(),
        at_ms: entry.at_ms,
        streams,
        records: entry.records,
        dead: entry.dead,
        jobs: entry.jobs.clone(),
        findings,
    }
}

/// Reads until `shutdown`; waits for Kafka as long as it takes.
pub fn run(kafka: &KafkaArgs, books: &Mutex<Books>, shutdown: &Shutdown) {
    if let Err(error) = follow(kafka, books, shutdown) {
        tracing::error!(%error, "the ledger can't be read: check the Kafka settings");
    }
}

fn follow(kafka: &KafkaArgs, books: &Mutex<Books>, shutdown: &Shutdown) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = kafka
        .consumer("gateway-ledger", "gateway-ledger", "read_committed")
        .set("fetch.wait.max.ms", "500")
        .set("auto.offset.reset", "earliest")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic::LEDGER, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    while !shutdown.requested() {
        match consumer.poll(Duration::from_millis(200)) {
            None => {}
            Some(Err(error)) => tracing::debug!(%error, "reading the ledger"),
            Some(Ok(message)) => {
                let mut books = locked(books);
                match (message.payload(), message.key_view::<str>()) {
                    (Some(value), _) => books.take(value),
                    // Of the bench, or a fork that was removed.
                    (None, Some(Ok(key))) => books.forget(key),
                    (None, _) => {}
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use millrace_wire::api::{GroupPartition, GroupView, PartitionView, TopicView};

    use super::*;

    fn job(records: u64, done: u64) -> JobCount {
        JobCount { job: "j".into(), records, filtered: 1, late: 2, dead: 0, pending: 3, done, emitted: 4 }
    }

    fn entry(next: i64, records: u64, job: JobCount) -> Vec<u8> {
        let streams = vec![("s".to_owned(), next)];
        let (app, component) = ("a".to_owned(), "w".to_owned());
        let jobs = vec![job];
        let entry =
            Entry { v: 1, app, partition: 2, component, at_ms: 1_000, streams, records, dead: 1, jobs };
        serde_json::to_vec(&entry).unwrap()
    }

    fn view(log_start: i64, committed: i64) -> View {
        let p =
            PartitionView { partition: 2, leader: 1, log_start, high_watermark: 100, ..Default::default() };
        let topic = TopicView {
            name: "s".into(),
            kind: "raw".into(),
            partitions: vec![p],
            replication: 3,
            records_per_s: 0.0,
        };
        let of = GroupPartition {
            topic: "s".into(),
            partition: 2,
            committed: Some(committed),
            end: 100,
            lag_records: 0,
            lag_seconds: None,
        };
        let group = GroupView {
            group: topic::group("a"),
            lag_records: 0,
            lag_seconds: None,
            trend_per_s: 0.0,
            partitions: vec![of],
        };
        View { as_of_ms: 100_000, topics: vec![topic], groups: vec![group], ..View::default() }
    }

    fn findings(value: &[u8], view: &View, now_ms: i64, indexed: Option<Indexed>) -> Vec<String> {
        let mut books = Books::default();
        books.take(value);
        let ledger = books.balance(view, indexed, now_ms);
        assert_eq!(ledger.balanced, ledger.findings.is_empty());
        ledger.findings
    }

    #[test]
    fn what_balances_has_no_findings_and_what_does_not_names_the_place() {
        let good = entry(16, 16, job(16, 10));
        let later = 100_000;
        assert_eq!(findings(&good, &view(0, 16), later, None), [""; 0]);
        let lost = findings(&entry(16, 15, job(16, 10)), &view(0, 16), later, None);
        assert_eq!(lost, ["a/2: 1 offsets of its streams are in no record that was counted"]);
        assert_eq!(findings(&entry(16, 15, job(16, 10)), &view(1, 16), later, None), [""; 0]);
        let doubled = findings(&entry(16, 18, job(16, 10)), &view(9, 16), later, None);
        assert_eq!(doubled, ["a/2: 2 records more are counted than its streams have offsets"]);
        let inside = findings(&entry(16, 16, job(16, 9)), &view(0, 16), later, None);
        assert!(inside.len() == 1 && inside[0].starts_with("a/2: j saw 16 records"), "{inside:?}");
        let moved = findings(&good, &view(0, 17), later, None);
        assert_eq!(moved, ["a/2: s is counted to offset 16, the consumer group stands at 17"]);
        assert_eq!(
            findings(&good, &view(0, 17), 2_000, None),
            [""; 0],
            "just read: they may be of two moments"
        );
        assert_eq!(findings(b"nonsense", &view(0, 0), later, None).len(), 1);
        let bench = String::from_utf8(entry(16, 15, job(16, 10))).unwrap();
        let bench = bench.replace(r#""app":"a""#, r#""app":"bench-cep-1""#);
        assert_eq!(findings(bench.as_bytes(), &view(0, 16), later, None), [""; 0], "none of the demo's");
    }

    #[test]
    fn elasticsearch_holds_each_result_once() {
        let good = entry(16, 16, job(16, 10));
        let found = |documents, behind, now| {
            findings(&good, &view(0, 16), now, Some(Indexed { documents, behind })).len()
        };
        assert_eq!(found(4, Some(0), 100_000), 0);
        assert_eq!(found(5, Some(0), 100_000), 1, "one is there twice");
        assert_eq!(found(3, Some(0), 100_000), 1, "one is missing");
        assert_eq!(found(3, Some(1), 100_000), 0, "one is on its way");
        assert_eq!(found(5, None, 2_000), 0, "just read");
    }

    #[test]
    fn a_fork_is_balanced_but_not_indexed_and_is_forgotten_with_its_topics() {
        let mut books = Books::default();
        books.take(&entry(16, 16, job(16, 10)));
        let fork = String::from_utf8(entry(16, 17, job(16, 10))).unwrap();
        books.take(fork.replace(r#""app":"a""#, r#""app":"a.trial""#).as_bytes());
        let indexed = Indexed { documents: 4, behind: Some(0) };
        let balance = |books: &Books| books.balance(&view(0, 16), Some(indexed), 100_000);
        let both = balance(&books);
        assert_eq!(
            (both.emitted, both.partitions.len(), both.findings.len()),
            (4, 2, 1),
            "{:?}",
            both.findings
        );
        assert!(both.findings[0].starts_with("a.trial/2:"), "{:?}", both.findings);
        books.forget("a.trial/2");
        let one = balance(&books);
        assert_eq!((one.partitions.len(), one.findings), (1, vec![]));
    }

    #[test]
    fn what_a_restored_savepoint_took_back_is_still_there() {
        let mut books = Books::default();
        books.take(&entry(16, 16, job(16, 10)));
        for (at_ms, emitted) in [(1, 3), (2, -1)] {
            let undone = Undone { v: 1, app: "a".into(), partition: 2, at_ms, emitted };
            books.take(&serde_json::to_vec(&undone).unwrap());
        }
        let indexed = Indexed { documents: 6, behind: Some(0) };
        let ledger = books.balance(&view(0, 16), Some(indexed), 100_000);
        assert_eq!((ledger.emitted, ledger.findings), (6, vec![]));
    }
}
