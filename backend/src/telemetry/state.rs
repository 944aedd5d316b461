//! The reducer: frames in, gauges and history out. Pure: time comes from the frames and the caller.

use std::collections::{BTreeMap, HashMap, VecDeque};

use millrace_wire::control::{Command, ControlRecord};
use millrace_wire::fork;
use millrace_wire::live::{Quantiles, Sample};
use millrace_wire::telemetry::{Ack, Body, Checkpoint, Frame, JobDescriptor, Recovery};
use serde_json::{Map, Value};

use super::latency::Latencies;
use super::meter::Meter;

/// A component that was silent for so long is no longer shown.
pub const FORGET_MS: i64 = 60_000;
/// A component that was silent for so long does not count as living.
pub const LIVE_MS: i64 = 3_000;
/// Samples of history: ten minutes.
const HISTORY: usize = 600;
/// A second is closed so much later, when its last frames are in.
const GRACE_MS: i64 = 600;
const CHECKPOINTS: usize = 200;
const RECOVERIES: usize = 50;
/// Names come from a topic: a bound, so that nobody fills the memory with them.
const MAX_COMPONENTS: usize = 200;
const MAX_METERS: usize = 5_000;

/// A component and its counters.
pub struct Tracked {
    /// Its newest frame.
    pub frame: Frame,
    meters: HashMap<String, Meter>,
}

impl Tracked {
    /// The rate of one counter now.
    pub fn rate(&self, key: &str, now_ms: i64) -> f64 {
        self.meters.get(key).map_or(0.0, |m| m.rate(now_ms))
    }

    /// What one counter has counted in (`from`, `to`].
    pub fn gain(&self, key: &str, from_ms: i64, to_ms: i64) -> f64 {
        self.meters.get(key).map_or(0.0, |m| m.gain(from_ms, to_ms))
    }

    fn matching<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Meter> {
        self.meters.iter().filter(move |(key, _)| key.starts_with(prefix)).map(|(_, meter)| meter)
    }

    /// The sum of the rates of all counters whose key starts so.
    pub fn rates(&self, prefix: &str, now_ms: i64) -> f64 {
        self.matching(prefix).map(|m| m.rate(now_ms)).sum()
    }

    /// Milliseconds since its newest frame.
    pub fn age(&self, now_ms: i64) -> i64 {
        (now_ms - self.frame.at_ms).max(0)
    }
}

/// The lag at the time of a sample.
#[derive(Debug, Clone, Copy, Default)]
pub struct LagNow {
    /// Of the processor's groups together, records.
    pub records: Option<i64>,
    /// The largest of the processor's groups, seconds.
    pub seconds: Option<f64>,
    /// Of the indexer, records.
    pub index_records: Option<i64>,
}

/// Everything that telemetry says.
#[derive(Default)]
pub struct State {
    pub(super) components: BTreeMap<String, Tracked>,
    pub(super) catalogue: BTreeMap<(String, String), JobDescriptor>,
    pub(super) latencies: Latencies,
    samples: VecDeque<Sample>,
    next_sample_ms: Option<i64>,
    heard_ms: i64,
    checkpoints: VecDeque<Checkpoint>,
    recoveries: VecDeque<Recovery>,
    checkpoints_seen: u64,
    recoveries_seen: u64,
    control: HashMap<String, (i64, ControlRecord)>,
    /// Whether the frames of the last ten minutes have been read.
    pub caught_up: bool,
}

impl State {
    /// Takes in a frame and returns its acknowledgements.
    pub fn apply(&mut self, frame: Frame) -> Vec<Ack> {
        let known = self.components.get(&frame.component);
        if known.is_none() && self.components.len() >= MAX_COMPONENTS {
            return Vec::new();
        }
        if known.is_some_and(|k| k.frame.at_ms > frame.at_ms && k.frame.started_ms >= frame.started_ms) {
            return frame.acks;
        }
        self.heard_ms = self.heard_ms.max(frame.at_ms);
        let before = known.map(|k| (k.frame.at_ms, k.frame.started_ms));
        let mut meters = self.components.remove(&frame.component).map(|k| k.meters).unwrap_or_default();
        for (key, value) in counters(&frame) {
            let full = meters.len() >= MAX_METERS;
            let restarted = before.is_some_and(|(_, started)| started != frame.started_ms);
            match (meters.get_mut(&key), before) {
                (Some(meter), _) => meter.observe(frame.at_ms, value, restarted),
                (None, _) if full => {}
                (None, None) => drop(meters.insert(key, Meter::known(frame.at_ms, value))),
                (None, Some((at, _))) => drop(meters.insert(key, Meter::born(at, frame.at_ms, value))),
            }
        }
        if let Body::Processor(processor) = &frame.body {
            self.latencies.record(frame.at_ms, &processor.latency_us);
            if !processor.catalogue.is_empty() {
                // Whoever says what there is says all of it; an app that is gone was a fork.
                let said = |app: &str| processor.catalogue.iter().any(|job| job.app == app);
                self.catalogue.retain(|(app, _), _| fork::of(app).is_none() || said(app));
            }
            for descriptor in &processor.catalogue {
                self.catalogue.insert((descriptor.app.clone(), descriptor.job.clone()), descriptor.clone());
            }
            for app in &processor.apps {
                self.checkpoints_seen += push(&mut self.checkpoints, &app.checkpoints, CHECKPOINTS);
                self.recoveries_seen += push(&mut self.recoveries, &app.recoveries, RECOVERIES);
            }
        }
        let acks = frame.acks.clone();
        self.components.insert(frame.component.clone(), Tracked { frame, meters });
        acks
    }

    /// Takes in a record of `millrace.control`.
    pub fn command(&mut self, version: i64, record: ControlRecord) {
        let newest = self.control.entry(record.command.key()).or_insert_with(|| (version, record.clone()));
        if version > newest.0 {
            *newest = (version, record);
        }
    }

    /// The newest command of a target and its version.
    pub fn newest_command(&self, key: &str) -> Option<&(i64, ControlRecord)> {
        self.control.get(key)
    }

    /// Closes the seconds that are over. Seconds in which nobody was heard leave a gap: nothing is invented.
    pub fn advance(&mut self, now_ms: i64, lag: LagNow) -> Vec<Sample> {
        let over = (now_ms - GRACE_MS).div_euclid(1000) * 1000;
        let mut end = self.next_sample_ms.unwrap_or(over).max(over - HISTORY as i64 * 1000);
        let mut closed = Vec::new();
        while end <= over {
            if self.heard_ms > end - LIVE_MS && !self.components.is_empty() {
                closed.push(self.sample(end, if end == over { lag } else { LagNow::default() }));
            }
            end += 1000;
        }
        self.next_sample_ms = Some(end);
        self.samples.extend(closed.iter().cloned());
        self.samples.drain(..self.samples.len().saturating_sub(HISTORY));
        closed
    }

    /// What was counted in (`from`, `to`] by counters whose key starts so.
    pub fn gain(&self, prefix: &str, from_ms: i64, to_ms: i64) -> f64 {
        let meters = self.components.values().flat_map(|c| c.matching(prefix));
        meters.map(|m| m.gain(from_ms, to_ms)).sum()
    }

    fn sample(&self, end_ms: i64, lag: LagNow) -> Sample {
        let gain = |prefix: &str| self.gain(prefix, end_ms - 1000, end_ms);
        Sample {
            at_ms: end_ms,
            produced_per_s: gain("produced/"),
            consumed_per_s: gain("task/"),
            emitted_per_s: gain("emitted/"),
            indexed_per_s: gain("indexed"),
            latency: self.latencies.quantiles(end_ms, 1),
            lag_records: lag.records,
            lag_seconds: lag.seconds,
            index_lag_records: lag.index_records,
        }
    }

    /// Everything counted by counters whose key starts so.
    pub fn total(&self, prefix: &str) -> u64 {
        self.components.values().flat_map(|c| c.matching(prefix)).map(Meter::total).sum::<f64>() as u64
    }

    /// The sum of rates of counters whose key starts so.
    pub fn rate(&self, prefix: &str, now_ms: i64) -> f64 {
        self.shown(now_ms).map(|(_, c)| c.rates(prefix, now_ms)).sum()
    }

    /// Components heard in the last [`FORGET_MS`].
    pub fn shown(&self, now_ms: i64) -> impl Iterator<Item = (&String, &Tracked)> {
        self.components.iter().filter(move |(_, c)| c.age(now_ms) <= FORGET_MS)
    }

    /// Components heard in the last [`LIVE_MS`].
    pub fn living(&self, now_ms: i64) -> impl Iterator<Item = (&String, &Tracked)> {
        self.components.iter().filter(move |(_, c)| c.age(now_ms) <= LIVE_MS)
    }

    /// When the newest frame was made, epoch ms; 0 before the first.
    pub fn heard_ms(&self) -> i64 {
        self.heard_ms
    }

    /// One sample a second, oldest first.
    pub fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }

    /// Checkpoints, oldest first, and how many there have ever been.
    pub fn checkpoints(&self) -> (&VecDeque<Checkpoint>, u64) {
        (&self.checkpoints, self.checkpoints_seen)
    }

    /// Recoveries, oldest first, and how many there have ever been.
    pub fn recoveries(&self) -> (&VecDeque<Recovery>, u64) {
        (&self.recoveries, self.recoveries_seen)
    }

    /// What the jobs are.
    pub fn jobs(&self) -> impl Iterator<Item = &JobDescriptor> {
        self.catalogue.values()
    }

    /// A job by `app.job`.
    pub fn job(&self, id: &str) -> Option<&JobDescriptor> {
        self.catalogue
            .values()
            .find(|d| id.strip_prefix(&d.app).and_then(|r| r.strip_prefix('.')) == Some(&d.job))
    }

    /// Parameters in force and their version: the slowest worker's.
    pub fn params(&self, app: &str, job: &str, now_ms: i64) -> Option<(i64, Map<String, Value>)> {
        let jobs = |(_, c): (_, &Tracked)| match &c.frame.body {
            Body::Processor(p) => p
                .apps
                .iter()
                .filter(|a| a.name == app)
                .flat_map(|a| &a.jobs)
                .filter(|j| j.name == job)
                .map(|j| (j.params_version, j.params.clone()))
                .collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let living: Vec<_> = self.living(now_ms).flat_map(jobs).collect();
        let any = if living.is_empty() { self.components.iter().flat_map(jobs).collect() } else { living };
        any.into_iter().min_by_key(|(version, _)| *version)
    }

    /// What a form shows: the values in force over the schema's defaults. When no worker says what is in force, it is what
    /// was last asked for.
    pub fn params_shown(&self, descriptor: &JobDescriptor, now_ms: i64) -> (i64, Map<String, Value>) {
        let (app, job) = (&descriptor.app, &descriptor.job);
        let asked = || match self.control.get(&format!("params/{app}/{job}")) {
            Some((version, ControlRecord { command: Command::Params { params, .. }, .. })) => {
                (*version, params.clone())
            }
            _ => (-1, Map::new()),
        };
        let (version, values) =
            self.params(app, job, now_ms).filter(|(_, values)| !values.is_empty()).unwrap_or_else(asked);
        let properties = descriptor.schema.get("properties").and_then(Value::as_object);
        let defaults = properties
            .into_iter()
            .flatten()
            .filter_map(|(name, p)| Some((name.clone(), p.get("default")?.clone())));
        let mut shown: Map<String, Value> = defaults.collect();
        shown.extend(values);
        (version, shown)
    }

    /// End-to-end latency over the last 10 s.
    pub fn latency(&self, now_ms: i64) -> Option<Quantiles> {
        self.latencies.quantiles(now_ms + 1000, 10)
    }
}

fn push<T: Clone>(to: &mut VecDeque<T>, new: &[T], keep: usize) -> u64 {
    to.extend(new.iter().cloned());
    to.drain(..to.len().saturating_sub(keep));
    new.len() as u64
}

/// A frame's counters by key.
fn counters(frame: &Frame) -> Vec<(String, f64)> {
    let mut out = vec![("cpu".to_owned(), frame.process.cpu_seconds)];
    let mut add = |key: String, value: u64| out.push((key, value as f64));
    match &frame.body {
        Body::Producers { streams } => {
            for stream in streams {
                add(format!("produced/{}", stream.stream), stream.produced);
            }
        }
        Body::Processor(processor) => {
            add("commits".to_owned(), processor.commits);
            add("restarts".to_owned(), processor.restarts);
            add("out/records".to_owned(), processor.records_out);
            add("out/bytes".to_owned(), processor.bytes_out);
            for app in &processor.apps {
                for task in &app.tasks {
                    add(format!("task/{}/{}", app.name, task.partition), task.records);
                    add(format!("bytes/{}/{}", app.name, task.partition), task.bytes);
                    add(format!("dead/{}/{}", app.name, task.partition), task.dead);
                }
                for job in &app.jobs {
                    let id = format!("{}/{}", app.name, job.name);
                    add(format!("concerned/{id}/"), job.records.saturating_sub(job.filtered));
                    add(format!("emitted/{id}/"), job.emitted);
                    add(format!("late/{id}/"), job.late);
                    add(format!("windowed/{id}/"), job.windowed);
                    add(format!("tardy/{id}/"), job.tardy);
                    add(format!("violations/{id}/"), job.violations);
                }
            }
        }
        Body::Indexer(indexer) => {
            add("indexed".to_owned(), indexer.indexed);
            add("rejected".to_owned(), indexer.rejected);
        }
        Body::Launcher { components } => {
            for component in components {
                out.push((format!("child-cpu/{}/", component.name), component.process.cpu_seconds));
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
