//! The task of an app: the one place where the order of things is decided.

use std::ops::ControlFlow;
use std::rc::Rc;

use super::handover::{Downstream, Told};
use super::stored::EntryKey;
use super::{
    App, Division, Input, JobStatus, Malformed, Parsed, Record, Refused, Share, SourceKind, Task, Totals,
};
use crate::cep::LivePattern;
use crate::effect::Effects;
use crate::invariant::Violation;
use crate::job::Job;
use crate::state::{Change, Cold, ColdTable, StateError, Table, encode};
use crate::stream::{Origin, Scope};
use crate::time::Watermark;
use crate::watermark::{Generator, InvalidIdleTimeout, Multiplexer, Progress, Valve};

pub(super) struct AppTask<E: 'static> {
    pub(super) app: App<E>,
    pub(super) partition: i32,
    pub(super) jobs: Vec<Box<dyn Job<E>>>,
    pub(super) inputs: Vec<SourceState>,
    pub(super) multiplexer: Multiplexer,
    pub(super) now: i64,
    pub(super) totals: Totals,
    dirty: bool,
    scratch: Vec<u8>,
    pub(super) told: Told,
    /// The others are to say again whether they are idle.
    pub(super) asks: bool,
    /// What is to be done with its state before it may run.
    pub(super) division: Option<Division>,
}

pub(super) struct SourceState {
    pub next_offset: Option<i64>,
    pub time: Time,
}

/// How a source moves event time.
pub(super) enum Time {
    /// Its number at the multiplexer, and its generator.
    Stream(usize, Generator),
    /// Not at all.
    Reference,
    /// That of a second stage.
    Repartition(Box<Downstream>),
}

impl SourceState {
    pub(super) fn generator(&mut self) -> Option<(usize, &mut Generator)> {
        match &mut self.time {
            Time::Stream(number, generator) => Some((*number, generator)),
            _ => None,
        }
    }

    /// Latest event time seen.
    pub(super) fn max(&self) -> Option<i64> {
        match &self.time {
            Time::Stream(_, generator) => generator.max(),
            Time::Reference => None,
            Time::Repartition(downstream) => downstream.max,
        }
    }
}

impl<E: 'static> AppTask<E> {
    pub(super) fn new(app: App<E>, partition: i32) -> Result<Self, InvalidIdleTimeout> {
        let mut multiplexer = Multiplexer::new(0);
        let mut jobs = (app.jobs)();
        let mut reads = |topic| {
            jobs.iter_mut().position(|job| job.second_stage().is_some_and(|stage| stage.topic() == topic))
        };
        let inputs = app
            .sources
            .iter()
            .map(|source| {
                let time = match source.kind {
                    SourceKind::Stream(order) => Time::Stream(multiplexer.register(), Generator::new(order)?),
                    SourceKind::Reference => Time::Reference,
                    SourceKind::Repartition => Time::Repartition(Box::new(Downstream {
                        valve: Valve::new(usize::try_from(app.partitions).unwrap_or(0)),
                        max: None,
                        // Without a job every record is dead, and says why.
                        job: reads(source.topic).unwrap_or(usize::MAX),
                    })),
                };
                Ok(SourceState { next_offset: None, time })
            })
            .collect::<Result<_, InvalidIdleTimeout>>()?;
        Ok(Self {
            app,
            partition,
            jobs,
            inputs,
            multiplexer,
            now: 0,
            totals: Totals::default(),
            dirty: false,
            scratch: Vec::new(),
            told: Told::default(),
            asks: false,
            division: None,
        })
    }

    /// Latest event time seen in the streams.
    fn max_seen(&self) -> Option<i64> {
        let streams = self.inputs.iter().filter(|input| matches!(input.time, Time::Stream(..)));
        streams.filter_map(SourceState::max).max()
    }

    fn record(&mut self, record: &Record<'_>, effects: &mut Effects) {
        let (Some(input), Some(source)) =
            (self.inputs.get_mut(record.source), self.app.sources.get(record.source))
        else {
            effects.dead(format!("source {} is not one of the app's", record.source));
            return;
        };
        self.dirty = true;
        input.next_offset = Some(record.offset + 1);
        if let Time::Repartition(_) = input.time {
            return self.repartitioned(record, effects);
        }
        if let Time::Stream(..) = input.time {
            self.totals.records += 1;
            self.totals.bytes += record.value.map_or(0, |value| value.len() as u64);
        }
        let Parsed { event, at, mark } = match (self.app.parse)(record) {
            Ok(parsed) => parsed,
            Err(Malformed(reason)) => {
                self.totals.dead += 1;
                effects.dead(reason);
                return;
            }
        };
        let Some((number, generator)) = input.generator() else {
            for job in &mut self.jobs {
                job.reference(&event);
            }
            return;
        };
        // The record is judged by the watermark before it, and windows by the latest time including it.
        generator.record(at, mark);
        let own = generator.watermark();
        let mut scope = Scope {
            now: self.now,
            watermark: self.multiplexer.watermark(),
            max_seen: None,
            origin: Some(Origin { topic: source.topic, partition: self.partition, offset: record.offset }),
            effects,
        };
        for job in &mut self.jobs {
            job.record(&event, at, &mut scope);
        }
        if self.multiplexer.update(number, own) {
            self.combine(effects);
        }
    }

    fn combine(&mut self, effects: &mut Effects) {
        if let Some(watermark) = self.multiplexer.combine().advanced {
            self.dirty = true;
            let mut scope = Scope { now: self.now, watermark, max_seen: None, origin: None, effects };
            for job in &mut self.jobs {
                job.watermark(&mut scope);
            }
        }
    }

    /// What the jobs hold for the time between two commits.
    pub(super) fn flush_jobs(&mut self, effects: &mut Effects) {
        let watermark = self.multiplexer.watermark();
        let mut scope = Scope { now: self.now, watermark, max_seen: None, origin: None, effects };
        for job in &mut self.jobs {
            job.flush(&mut scope);
        }
    }

    fn tick(&mut self, now: i64, effects: &mut Effects) {
        // Silence grows, and timers may change state and emit: that belongs to the next commit.
        self.dirty = true;
        if now > self.now {
            self.now = now;
            let watermark = self.multiplexer.watermark();
            let mut scope = Scope { now, watermark, max_seen: None, origin: None, effects: &mut *effects };
            for job in &mut self.jobs {
                job.processing_time(&mut scope);
            }
        }
        for (number, generator) in self.inputs.iter_mut().filter_map(SourceState::generator) {
            match generator.tick(now) {
                Progress::Idle => self.multiplexer.set_idle(number),
                Progress::At(watermark) => {
                    self.multiplexer.update(number, watermark);
                }
                Progress::None => {}
            }
        }
        self.combine(effects);
        self.tell(effects);
    }
}

impl<E: 'static> Task for AppTask<E> {
    fn step(&mut self, input: Input<'_>, effects: &mut Effects) -> Result<(), Refused> {
        match input {
            Input::Record(record) => self.record(&record, effects),
            Input::ProcessingTime(now) => self.tick(now, effects),
            Input::Parameters { job, version, values } => {
                let max_seen = self.max_seen();
                let Some(job) = self.jobs.iter_mut().find(|j| j.descriptor().name == job) else {
                    return Err(Refused(format!("app {} has no job {job}", self.app.name)));
                };
                if version <= job.params_version() {
                    return Ok(());
                }
                let watermark = self.multiplexer.watermark();
                let mut scope = Scope { now: self.now, watermark, max_seen, origin: None, effects };
                job.set_params(version, values, &mut scope)?;
                self.dirty = true;
            }
        }
        Ok(())
    }

    fn flush(&mut self, effects: &mut Effects) {
        // A task whose records are there, and of which the others still hear that it is idle, would not be waited for.
        self.combine(effects);
        self.tell(effects);
        self.flush_jobs(effects);
    }

    fn changes(&mut self, change: &mut Change<'_>) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        for job in &mut self.jobs {
            let mut stats = job.stats();
            if !stats.balances(job.pending()) {
                stats.violation(Violation::RecordsDoNotBalance);
                job.restore_stats(stats);
            }
            let (name, mut number) = (job.descriptor().name, 0);
            job.tables(&mut |table| {
                table.changes(&mut |key, value| {
                    encode(&EntryKey { job: name, table: number, key }, &mut bytes);
                    change(&bytes, value);
                });
                number += 1;
            });
        }
        self.own(change);
        self.scratch = bytes;
    }

    fn snapshot(&mut self, entry: &mut Change<'_>) {
        self.own(entry);
        let mut bytes = Vec::new();
        for job in &mut self.jobs {
            let (name, mut number) = (job.descriptor().name, 0);
            job.tables(&mut |table| {
                table.snapshot(&mut |key, value| {
                    encode(&EntryKey { job: name, table: number, key }, &mut bytes);
                    entry(&bytes, value);
                });
                number += 1;
            });
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, StateError> {
        let entry = EntryKey::read(key)?;
        if entry.job.is_empty() {
            return self.load_own(entry.table, value);
        }
        let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == entry.job) else {
            return Ok(false);
        };
        let (mut number, mut loaded) = (0, Ok(false));
        job.tables(&mut |table: &mut dyn Table| {
            if number == entry.table {
                loaded = table.load(entry.key, value).map(|()| true);
            }
            number += 1;
        });
        loaded
    }

    fn attach(&mut self, cold: Rc<dyn Cold>, cached: usize) {
        // Its own entries first: they say which parameters are in force.
        let mut own = Vec::new();
        encode(&"", &mut own);
        cold.each(&own, &[], &mut |key, value| {
            if let Err(error) = self.load(key, Some(value)) {
                cold.failed(error);
            }
            ControlFlow::Continue(())
        });
        for job in &mut self.jobs {
            let (name, mut number) = (job.descriptor().name, 0);
            job.tables(&mut |table| {
                table.attach(ColdTable::new(cold.clone(), EntryKey::prefix(name, number), cached));
                number += 1;
            });
        }
    }

    fn start(&mut self) {
        for input in &self.inputs {
            match &input.time {
                Time::Stream(number, generator) => {
                    // Otherwise the slowest stream would be whichever has had no record since.
                    self.multiplexer.update(*number, generator.watermark());
                    if generator.is_idle() {
                        self.multiplexer.set_idle(*number);
                    }
                }
                Time::Reference => {}
                Time::Repartition(downstream) => {
                    let job = self.jobs.get_mut(downstream.job);
                    if let Some(stage) = job.and_then(|job| job.second_stage()) {
                        stage.restore(downstream.valve.watermark(), downstream.max);
                    }
                }
            }
        }
        let mut effects = Effects::default();
        let mut scope = Scope {
            now: self.now,
            watermark: self.multiplexer.watermark(),
            max_seen: self.max_seen(),
            origin: None,
            effects: &mut effects,
        };
        for job in &mut self.jobs {
            job.start(&mut scope);
        }
    }

    fn reposition(&mut self, topic: &str, next_offset: i64) {
        let at = self.app.sources.iter().position(|source| source.topic == topic);
        if let Some(input) = at.and_then(|at| self.inputs.get_mut(at)) {
            input.next_offset = Some(next_offset);
            self.dirty = true;
        }
    }

    fn resume(&mut self, unread: &[&str]) {
        for (source, input) in self.app.sources.iter().zip(&mut self.inputs) {
            match &mut input.time {
                Time::Stream(number, generator) if unread.contains(&source.topic) => {
                    generator.resume();
                    self.multiplexer.update(*number, generator.watermark());
                }
                Time::Stream(..) | Time::Reference => {}
                Time::Repartition(downstream) => {
                    downstream.valve.resume();
                    self.asks = true;
                }
            }
        }
    }

    fn offsets(&self) -> Vec<(&'static str, i64)> {
        let pairs = self.app.sources.iter().zip(&self.inputs);
        pairs.filter_map(|(source, input)| Some((source.topic, input.next_offset?))).collect()
    }

    fn watermark(&self) -> Watermark {
        self.multiplexer.watermark()
    }

    fn is_idle(&self) -> bool {
        self.multiplexer.is_idle()
    }

    fn totals(&self) -> Totals {
        self.totals
    }

    fn jobs(&self) -> Vec<JobStatus> {
        self.jobs
            .iter()
            .map(|job| JobStatus {
                name: job.descriptor().name,
                stats: job.stats(),
                pending: job.pending(),
                params: job.params(),
                params_version: job.params_version(),
            })
            .collect()
    }

    fn patterns(&self, visit: &mut dyn FnMut(&'static str, LivePattern<'_>)) {
        for job in &self.jobs {
            let name = job.descriptor().name;
            job.patterns(&mut |pattern| visit(name, pattern));
        }
    }

    fn owner(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let entry = EntryKey::read(key)?;
        let Some(job) = self.jobs.iter_mut().find(|job| job.descriptor().name == entry.job) else {
            return Ok(None);
        };
        let (mut number, mut owner) = (0, Ok(None));
        job.tables(&mut |table: &mut dyn Table| {
            if number == entry.table {
                owner = table.owner(entry.key);
            }
            number += 1;
        });
        owner
    }

    fn division(&self) -> Option<Division> {
        self.division
    }

    fn divided(&mut self, share: Share) {
        self.take(share);
    }

    fn entries(&mut self) -> usize {
        let mut entries = 0;
        for job in &mut self.jobs {
            job.tables(&mut |table| entries += table.len());
        }
        entries
    }
}
