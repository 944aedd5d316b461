//! How each part of the pipeline is, in numbers and words. Pure.

use millrace_wire::live::{GroupGauge, Overview};
use millrace_wire::telemetry::{TimeUse, WorkerState};
use millrace_wire::topic::INDEXER_GROUP;

use crate::format::{self, NOTHING};
use crate::store::STALE_MS;

/// A place in the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// The generators.
    Generators,
    /// The brokers, with the raw topic.
    Kafka,
    /// The workers.
    Processor,
    /// Where results go.
    Results,
    /// Moves results on.
    Indexer,
    /// Stores results.
    Elasticsearch,
    /// Serves the page.
    Gateway,
}

impl Node {
    /// All, in the order of the flow.
    pub const ALL: [Self; 7] = [
        Self::Generators,
        Self::Kafka,
        Self::Processor,
        Self::Results,
        Self::Indexer,
        Self::Elasticsearch,
        Self::Gateway,
    ];

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Generators => "Generators",
            Self::Kafka => "Kafka",
            Self::Processor => "Processor",
            Self::Results => "Result topics",
            Self::Indexer => "Indexer",
            Self::Elasticsearch => "Elasticsearch",
            Self::Gateway => "Gateway",
        }
    }
}

/// How a node is: shown as colour, symbol and words together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// As it should be.
    Good,
    /// Working, but not as it should.
    Warn,
    /// Not working.
    Bad,
    /// Nothing heard.
    Unknown,
}

impl Health {
    /// Class in style.css.
    pub fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Unknown => "wait",
        }
    }

    /// Symbol beside the words.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Good => "●",
            Self::Warn => "▲",
            Self::Bad => "✕",
            Self::Unknown => "◌",
        }
    }
}

/// What a node's box says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How it is.
    pub health: Health,
    /// The number that matters.
    pub figure: String,
    /// How it is, in words.
    pub words: String,
}

fn status(health: Health, figure: impl Into<String>, words: impl Into<String>) -> Status {
    Status { health, figure: figure.into(), words: words.into() }
}

fn silent(age_ms: i64) -> Option<Status> {
    (age_ms as f64 > STALE_MS)
        .then(|| status(Health::Unknown, NOTHING, format!("silent for {}", format::age(age_ms as f64))))
}

/// How a node is.
pub fn node(node: Node, overview: &Overview) -> Status {
    match node {
        Node::Generators => generators(overview),
        Node::Kafka => brokers(overview),
        Node::Processor => processor(overview),
        Node::Results => {
            let of_kafka = brokers(overview).health;
            status(of_kafka, per_second(overview.emitted_per_s), "averages, alerts")
        }
        Node::Indexer => match &overview.indexer {
            None => status(Health::Unknown, NOTHING, "not reporting"),
            Some(indexer) => silent(indexer.age_ms).unwrap_or_else(|| match &indexer.error {
                Some(_) => status(Health::Warn, per_second(indexer.indexed_per_s), "will catch up"),
                None => status(Health::Good, per_second(indexer.indexed_per_s), "effectively once"),
            }),
        },
        Node::Elasticsearch => match &overview.indexer {
            None => status(Health::Unknown, NOTHING, "not known"),
            Some(indexer) => {
                let documents = format!("{} docs", format::compact(indexer.indexed_total as f64));
                let away =
                    indexer.error.is_some() || overview.problems.iter().any(|p| p.about == "elasticsearch");
                match (away, indexer.rejected_total) {
                    (true, _) => status(Health::Bad, documents, "not indexing"),
                    (false, 0) => status(Health::Good, documents, "taking documents"),
                    (false, refused) => {
                        status(Health::Warn, documents, format!("{} refused", format::total(refused)))
                    }
                }
            }
        },
        Node::Gateway => status(Health::Good, "this page", "pushed as it happens"),
    }
}

fn per_second(rate: f64) -> String {
    format!("{}/s", format::compact(rate))
}

fn generators(overview: &Overview) -> Status {
    let Some(stream) = overview.streams.first() else {
        return status(Health::Unknown, NOTHING, "not reporting");
    };
    let rate = per_second(overview.streams.iter().map(|s| s.rate).sum());
    silent(stream.age_ms).unwrap_or_else(|| match overview.streams.iter().find_map(|s| s.error.clone()) {
        Some(_) => status(Health::Bad, rate, "delivery is failing"),
        None => {
            let wanted: f64 = overview.streams.iter().map(|s| s.target_rate).sum();
            status(Health::Good, rate, format!("asked for {}", format::compact(wanted)))
        }
    })
}

fn brokers(overview: &Overview) -> Status {
    let (up, expected) = (overview.brokers_up, overview.brokers_expected);
    let words = format!("{up} of {expected} brokers");
    let health = match (up, expected) {
        (_, 0) => Health::Unknown,
        (0, _) => Health::Bad,
        (up, expected) if up < expected => Health::Warn,
        _ => Health::Good,
    };
    let figure = match overview.streams.as_slice() {
        [] => NOTHING.to_owned(),
        [stream] => stream.stream.clone(),
        streams => format!("{} streams", streams.len()),
    };
    status(health, figure, words)
}

/// From here on back-pressure is high, as in Flink's page.
const HIGH_BACKPRESSURE_MS_PER_S: f64 = 500.0;

fn processor(overview: &Overview) -> Status {
    if overview.workers.is_empty() {
        return status(Health::Unknown, NOTHING, "not reporting");
    }
    let heard: Vec<_> = overview.workers.iter().filter(|w| w.age_ms as f64 <= STALE_MS).collect();
    let running = heard.iter().filter(|w| w.state == WorkerState::Running).count();
    let all = overview.workers.len();
    let noun = if all == 1 { "worker" } else { "workers" };
    let rate = per_second(overview.consumed_per_s);
    if running == 0 {
        let health = if heard.iter().any(|w| matches!(w.state, WorkerState::Failed { .. })) {
            Health::Bad
        } else {
            Health::Warn
        };
        let words = heard.first().map_or_else(|| format!("{all} {noun} silent"), |w| short(&w.state).into());
        return status(health, rate, words);
    }
    if running < all {
        return status(Health::Warn, rate, format!("{running} of {all} {noun} running"));
    }
    let time = heard.iter().fold(TimeUse::default(), |sum, w| TimeUse {
        busy_ms_per_s: sum.busy_ms_per_s + w.time.busy_ms_per_s,
        idle_ms_per_s: sum.idle_ms_per_s + w.time.idle_ms_per_s,
        backpressured_ms_per_s: sum.backpressured_ms_per_s + w.time.backpressured_ms_per_s,
    });
    // What they do is in the box, and how many they are only if there is room.
    let words = format::time_use(&time);
    if words.starts_with("backpressured") {
        let high = time.backpressured_ms_per_s > HIGH_BACKPRESSURE_MS_PER_S * all as f64;
        return status(if high { Health::Warn } else { Health::Good }, rate, words);
    }
    status(Health::Good, rate, format!("{all} {noun}, {words}"))
}

fn short(state: &WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Restoring { .. } => "restoring state",
        WorkerState::Running => "running",
        WorkerState::Retrying { .. } => "restarting after an error",
        WorkerState::Failed { .. } => "failed",
    }
}

/// An arrow: what moves along it, and what waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// From.
    pub from: Node,
    /// To.
    pub to: Node,
    /// Records per second; `None` when nobody measured it.
    pub rate: Option<f64>,
    /// What waits, in words.
    pub lag: Option<String>,
    /// What moves, when that is not a rate of records.
    pub label: Option<&'static str>,
}

/// The arrows.
pub fn edges(overview: Option<&Overview>) -> Vec<Edge> {
    let read = |f: &dyn Fn(&Overview) -> Option<f64>| overview.and_then(f);
    let lag = |indexer: bool| {
        let groups = overview.map(|o| o.groups.as_slice()).unwrap_or_default();
        let chosen: Vec<&GroupGauge> =
            groups.iter().filter(|g| (g.group == INDEXER_GROUP) == indexer).collect();
        (!chosen.is_empty())
            .then(|| format!("lag {}", format::compact(chosen.iter().map(|g| g.lag_records as f64).sum())))
    };
    let indexed = read(&|o| o.indexer.as_ref().map(|i| i.indexed_per_s));
    let edge = |from, to, rate, lag| Edge { from, to, rate, lag, label: None };
    vec![
        edge(Node::Generators, Node::Kafka, read(&|o| Some(o.produced_per_s)), None),
        edge(Node::Kafka, Node::Processor, read(&|o| Some(o.consumed_per_s)), lag(false)),
        edge(Node::Processor, Node::Results, read(&|o| Some(o.emitted_per_s)), None),
        edge(Node::Results, Node::Indexer, indexed, lag(true)),
        edge(Node::Indexer, Node::Elasticsearch, indexed, None),
        Edge {
            label: Some("live"),
            ..edge(Node::Results, Node::Gateway, read(&|o| Some(o.emitted_per_s)), None)
        },
    ]
}

/// Seconds that a dash takes along an arrow: faster with the rate's order of magnitude; `None` when nothing moves.
pub fn dash_seconds(rate: Option<f64>) -> Option<f64> {
    let rate = rate.filter(|r| *r >= 0.05)?;
    let magnitude = (rate + 1.0).log10().clamp(0.0, 5.0);
    Some(((2.4 - 0.4 * magnitude) * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_wire::live::{IndexerGauge, WorkerGauge};

    #[test]
    fn nothing_heard_is_not_called_well() {
        let nothing = Overview::default();
        for n in [
            Node::Generators,
            Node::Kafka,
            Node::Processor,
            Node::Results,
            Node::Indexer,
            Node::Elasticsearch,
        ] {
            assert_eq!(node(n, &nothing).health, Health::Unknown, "{n:?}");
        }
    }

    #[test]
    fn a_lost_broker_warns_and_no_broker_is_bad() {
        let with = |brokers_up| Overview { brokers_up, brokers_expected: 3, ..Overview::default() };
        assert_eq!(node(Node::Kafka, &with(3)).health, Health::Good);
        assert_eq!(node(Node::Kafka, &with(2)), status(Health::Warn, NOTHING, "2 of 3 brokers"));
        assert_eq!(node(Node::Kafka, &with(0)).health, Health::Bad);
    }

    #[test]
    fn workers_are_described_together() {
        let time = |busy_ms_per_s, backpressured_ms_per_s| TimeUse {
            busy_ms_per_s,
            idle_ms_per_s: 1_000.0 - busy_ms_per_s - backpressured_ms_per_s,
            backpressured_ms_per_s,
        };
        let running =
            WorkerGauge { state: WorkerState::Running, time: time(300.0, 0.0), ..Default::default() };
        let mut o = Overview { workers: vec![running; 2], ..Overview::default() };
        assert_eq!(node(Node::Processor, &o).words, "2 workers, busy 30 %");
        for (pressed, health) in [(180.0, Health::Good), (620.0, Health::Warn)] {
            o.workers.iter_mut().for_each(|worker| worker.time = time(300.0, pressed));
            let (now, words) = (node(Node::Processor, &o), format!("backpressured {:.0} %", pressed / 10.0));
            assert_eq!((now.health, now.words), (health, words));
        }
        o.workers[0].state = WorkerState::Restoring { records: 5 };
        assert_eq!(node(Node::Processor, &o).words, "1 of 2 workers running");
        o.workers[1].age_ms = 60_000;
        assert_eq!(node(Node::Processor, &o).words, "restoring state");
    }

    #[test]
    fn elasticsearch_is_away_and_the_indexer_waits() {
        let indexer = IndexerGauge { error: Some("connection refused".into()), ..IndexerGauge::default() };
        let o = Overview { indexer: Some(indexer), ..Overview::default() };
        assert_eq!(node(Node::Elasticsearch, &o).health, Health::Bad);
        assert_eq!(node(Node::Indexer, &o).health, Health::Warn);
    }

    #[test]
    fn dashes_follow_the_rate() {
        assert_eq!(dash_seconds(None), None);
        assert_eq!(dash_seconds(Some(0.0)), None);
        assert!(dash_seconds(Some(10_000.0)) < dash_seconds(Some(10.0)));
    }
}
