//! What is not well, in words: what is wrong, and what follows from it.

use std::collections::HashMap;

use millrace_wire::api::PartitionView;
use millrace_wire::live::{Overview, ProblemNote, WorkerGauge};
use millrace_wire::telemetry::{ComponentState, WorkerState};

use crate::clock::time_of_day;
use crate::kafka::View;
use crate::search::Health;

/// A component is silent after so long.
const SILENT_MS: i64 = 3_000;
/// A transaction hangs if it is open for so long: three times as long as the processor's longest.
const HANGS_MS: i64 = 6_000;
/// A worker that tells of a transaction as old as this is the one that readers wait for, ms.
const SLOW_MS: f64 = 3_000.0;
/// Offsets are old after so long.
const OFFSETS_OLD_MS: i64 = 5_000;

/// Remembers since when something is not well.
#[derive(Default)]
pub struct Tracker {
    since: HashMap<(String, &'static str), i64>,
}

/// A problem and what tells it from others about the same.
struct Found {
    about: String,
    kind: &'static str,
    text: String,
    since_ms: Option<i64>,
}

impl Tracker {
    /// Every problem now, worst first.
    pub fn notes(
        &mut self,
        now_ms: i64,
        overview: &Overview,
        view: &View,
        elastic: &Health,
    ) -> Vec<ProblemNote> {
        let mut since = HashMap::new();
        let notes = find(now_ms, overview, view, elastic)
            .into_iter()
            .map(|found| {
                let key = (found.about.clone(), found.kind);
                let since_ms =
                    found.since_ms.unwrap_or_else(|| self.since.get(&key).copied().unwrap_or(now_ms));
                since.insert(key, since_ms);
                ProblemNote { about: found.about, text: found.text, since_ms }
            })
            .collect();
        self.since = since;
        notes
    }
}

fn find(now_ms: i64, overview: &Overview, view: &View, elastic: &Health) -> Vec<Found> {
    let mut found = Vec::new();
    let mut add = |about: &str, kind, text: String, since_ms| {
        found.push(Found { about: about.to_owned(), kind, text, since_ms });
    };
    if view.away(now_ms).is_some() {
        let first_failure = view.error.as_ref().map(|(_, since)| *since);
        let since = if view.as_of_ms == 0 { first_failure } else { Some(view.as_of_ms) };
        let text = if view.as_of_ms == 0 {
            "Kafka does not answer yet: there are no numbers until it does".to_owned()
        } else {
            format!("Kafka does not answer: numbers stand still since {}", time_of_day(view.as_of_ms))
        };
        add("kafka", "away", text, since);
    } else {
        if overview.brokers_up < overview.brokers_expected {
            let (up, expected) = (overview.brokers_up, overview.brokers_expected);
            let text = format!(
                "{up} of {expected} brokers answer: the others' partitions are led by those that are left"
            );
            add("kafka", "brokers", text, None);
        }
        let leaderless: usize =
            view.topics.iter().flat_map(|t| &t.partitions).filter(|p| p.leader < 0).count();
        if leaderless > 0 {
            let text = format!("{leaderless} partitions have no leader: they can't be read or written");
            add("kafka", "leaderless", text, None);
        }
        if view.ends_ms > 0 && now_ms - view.ends_ms > OFFSETS_OLD_MS {
            let since = view.ends_ms;
            let text =
                format!("A broker does not answer: offsets and lag stand still since {}", time_of_day(since));
            add("kafka", "offsets", text, Some(since));
        }
        transactions(now_ms, overview, view, &mut add);
        processes(overview, &mut add);
    }
    let indexer_error = overview.indexer.as_ref().and_then(|i| i.error.as_ref());
    if elastic.ok == Some(false) {
        let text =
            "Elasticsearch does not answer: documents wait in Kafka and will be indexed when it is back";
        add("elasticsearch", "away", text.to_owned(), Some(elastic.since_ms));
    } else if let Some(error) = indexer_error {
        let text =
            format!("The indexer can't write ({error}): documents wait in Kafka and will be indexed later");
        add("indexer", "error", text, None);
    }
    for gauge in &overview.components {
        let component = &gauge.component;
        let what = match component.state {
            ComponentState::Restarting => "died and is being started again",
            ComponentState::Failed => {
                "has failed too often and stays down: look at its log, then start it again"
            }
            ComponentState::Stopped => "was stopped on request",
            ComponentState::Starting | ComponentState::Running => continue,
        };
        let detail = component.detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default();
        add(&component.name, "process", format!("{} {what}{detail}", component.name), None);
    }
    found
}

/// Readers of committed records wait for a transaction: a live worker is slow to commit it, or nobody works on it.
fn transactions(
    now_ms: i64,
    overview: &Overview,
    view: &View,
    add: &mut impl FnMut(&str, &'static str, String, Option<i64>),
) {
    let open = |p: &PartitionView| p.open_since_ms.filter(|since| now_ms - since > HANGS_MS);
    let held: Vec<_> = view
        .topics
        .iter()
        .flat_map(|t| t.partitions.iter().filter_map(move |p| Some((t, p, open(p)?))))
        .collect();
    let Some((topic, first, since)) = held.iter().min_by_key(|(_, _, since)| *since) else { return };
    let others = match held.len() - 1 {
        0 => String::new(),
        more => format!(", and of {more} more"),
    };
    let wait = format!(
        "readers of committed records of {}, partition {}{others}, wait at offset {} of {}",
        topic.name, first.partition, first.last_stable, first.high_watermark
    );
    let of_worker = |w: &WorkerGauge| w.transaction.filter(|t| w.age_ms <= SILENT_MS && t.age_ms >= SLOW_MS);
    match overview.workers.iter().find_map(|w| Some((&w.component, of_worker(w)?))) {
        Some((name, open)) => {
            let text = format!("{name} is slow to commit ({:.1} s so far): {wait}", open.age_ms / 1e3);
            add(name, "slow commit", text, Some(*since));
        }
        None => {
            let text = format!(
                "A transaction hangs: {wait}. Kafka aborts it after 15 s, or when its worker is back"
            );
            add("kafka", "transaction", text, Some(*since));
        }
    }
}

fn processes(overview: &Overview, add: &mut impl FnMut(&str, &'static str, String, Option<i64>)) {
    if !overview.workers.iter().any(|w| w.age_ms <= SILENT_MS) {
        let text = "No worker has reported in the last 3 s: events wait in Kafka and will be processed later";
        add("processor", "silent", text.to_owned(), None);
    }
    for worker in &overview.workers {
        let name = &worker.component;
        if worker.age_ms > SILENT_MS {
            let text = format!(
                "{name} is silent: its partitions wait until it is back or another worker takes them"
            );
            add(name, "silent", text, None);
            continue;
        }
        match &worker.state {
            WorkerState::Retrying { error } => {
                add(name, "retrying", format!("{name} starts again after: {error}"), None);
            }
            WorkerState::Failed { error } => {
                add(
                    name,
                    "failed",
                    format!("{name} has given up: {error}. Its partitions stand still"),
                    None,
                );
            }
            WorkerState::Restoring { records } => {
                add(
                    name,
                    "restoring",
                    format!("{name} puts its state back: {records} changelog records so far"),
                    None,
                );
            }
            WorkerState::Starting => {
                add(name, "starting", format!("{name} is starting: its partitions wait for it"), None);
            }
            WorkerState::Running => {}
        }
    }
    if overview.streams.is_empty() {
        add("producers", "silent", "No generator has reported: no new events are made".to_owned(), None);
    }
    for stream in &overview.streams {
        if stream.age_ms > SILENT_MS {
            let text = format!("The generator of {} is silent: no new events are made", stream.stream);
            add(&stream.stream, "silent", text, None);
        } else if let Some(error) = &stream.error {
            add(
                &stream.stream,
                "failing",
                format!("Events of {} can't be written: {error}", stream.stream),
                None,
            );
        }
    }
    match &overview.indexer {
        None => {
            let text = "The indexer has not reported: results wait in Kafka and can't be searched yet";
            add("indexer", "silent", text.to_owned(), None);
        }
        Some(indexer) if indexer.age_ms > SILENT_MS => {
            let text = "The indexer is silent: results wait in Kafka and will be indexed when it is back";
            add("indexer", "silent", text.to_owned(), None);
        }
        Some(_) => {}
    }
    for job in overview.jobs.iter().filter(|j| j.violations > 0) {
        let id = format!("{}.{}", job.app, job.job);
        let text = format!(
            "{id} broke an invariant of the engine {} times: a bug, please report it",
            job.violations
        );
        add(&id, "violations", text, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::api::TopicView;
    use millrace_wire::live::{IndexerGauge, StreamGauge};
    use millrace_wire::telemetry::OpenTransaction;

    fn well() -> (Overview, View, Health) {
        let worker = WorkerGauge {
            component: "processor-1".into(),
            state: WorkerState::Running,
            ..Default::default()
        };
        let overview = Overview {
            workers: vec![worker],
            streams: vec![StreamGauge { stream: "iot-sensors".into(), ..Default::default() }],
            indexer: Some(IndexerGauge::default()),
            brokers_up: 3,
            brokers_expected: 3,
            ..Overview::default()
        };
        let view = View { as_of_ms: 9_900, ..View::default() };
        (overview, view, Health { ok: Some(true), detail: String::new(), since_ms: 0 })
    }

    #[test]
    fn all_well_is_an_empty_list() {
        let (overview, view, elastic) = well();
        assert_eq!(Tracker::default().notes(10_000, &overview, &view, &elastic), vec![]);
    }

    #[test]
    fn a_problem_keeps_the_time_it_began_and_goes_when_it_is_over() {
        let (mut overview, view, mut elastic) = well();
        let mut tracker = Tracker::default();
        overview.brokers_up = 2;
        assert_eq!(tracker.notes(10_000, &overview, &view, &elastic)[0].since_ms, 10_000);
        overview.workers[0].age_ms = 5_000;
        elastic = Health { ok: Some(false), since_ms: 9_000, ..elastic };
        let notes = tracker.notes(11_000, &overview, &view, &elastic);
        let about: Vec<_> = notes.iter().map(|n| (n.about.as_str(), n.since_ms)).collect();
        assert_eq!(
            about,
            [("kafka", 10_000), ("processor", 11_000), ("processor-1", 11_000), ("elasticsearch", 9_000)]
        );
    }

    #[test]
    fn a_worker_that_does_not_process_yet_is_told_of() {
        let (mut overview, view, elastic) = well();
        for (state, told) in [
            (WorkerState::Starting, "processor-1 is starting: its partitions wait for it"),
            (
                WorkerState::Restoring { records: 7 },
                "processor-1 puts its state back: 7 changelog records so far",
            ),
        ] {
            overview.workers[0].state = state;
            let notes = Tracker::default().notes(10_000, &overview, &view, &elastic);
            assert_eq!(notes.iter().map(|note| note.text.as_str()).collect::<Vec<_>>(), [told]);
        }
    }

    #[test]
    fn without_kafka_only_kafka_is_blamed() {
        let (_, mut view, elastic) = well();
        view.error = Some(("timed out".into(), 8_000));
        view.as_of_ms = 7_000;
        let notes = Tracker::default().notes(13_000, &Overview::default(), &view, &elastic);
        assert_eq!(notes.len(), 1);
        assert_eq!(notes[0].text, "Kafka does not answer: numbers stand still since 00:00:07 UTC");
        assert_eq!(notes[0].since_ms, 7_000);
    }

    #[test]
    fn a_transaction_that_readers_wait_for_is_one_note_that_says_whose_it_is() {
        let (mut overview, mut view, elastic) = well();
        let held = |partition, since| PartitionView {
            partition,
            last_stable: 7,
            high_watermark: 9,
            open_since_ms: Some(since),
            ..PartitionView::default()
        };
        let topic =
            |name: &str, partitions| TopicView { name: name.into(), partitions, ..TopicView::default() };
        view.topics =
            vec![topic("a", vec![held(0, 3_500), held(1, 9_000)]), topic("b", vec![held(4, 3_000)])];
        let told = |overview: &Overview| {
            let notes = Tracker::default().notes(10_000, overview, &view, &elastic);
            assert_eq!(notes.len(), 1);
            (notes[0].about.clone(), notes[0].text.clone(), notes[0].since_ms)
        };
        let (about, text, since) = told(&overview);
        assert_eq!((about.as_str(), since), ("kafka", 3_000));
        assert!(
            text.starts_with(
                "A transaction hangs: readers of committed records of b, partition 4, and of 1 more"
            ),
            "{text}"
        );
        assert!(text.contains("offset 7 of 9"), "{text}");
        overview.workers[0].transaction = Some(OpenTransaction { age_ms: 6_800.0, committing: true });
        let (about, text, _) = told(&overview);
        assert!(
            about == "processor-1" && text.starts_with("processor-1 is slow to commit (6.8 s so far)"),
            "{text}"
        );
        // The transaction of a worker that no longer reports hangs.
        overview.workers[0].age_ms = 4_000;
        let notes = Tracker::default().notes(10_000, &overview, &view, &elastic);
        assert!(notes.iter().any(|n| n.text.starts_with("A transaction hangs")));
    }
}
