//! What tasks of an app hand to each other: records for second stages, and how far each task is.

use super::app::{AppTask, Time};
use super::{Malformed, Record};
use crate::effect::Effects;
use crate::invariant::Violation;
use crate::repartition::{self, MARKER_EVERY, Message};
use crate::stream::{Origin, Scope};
use crate::time::Watermark;
use crate::watermark::{Marker, Valve};

/// Event time of a second stage.
pub(super) struct Downstream {
    pub valve: Valve,
    pub max: Option<i64>,
    /// Whose second stage.
    pub job: usize,
}

/// What the other tasks know of this one's progress.
#[derive(Default)]
pub(super) struct Told {
    watermark: Option<Watermark>,
    idle: bool,
    at: i64,
    /// One of them has come back and does not know whether this one is idle.
    asked: bool,
}

impl<E: 'static> AppTask<E> {
    /// A record of a repartition topic.
    pub(super) fn repartitioned(&mut self, record: &Record<'_>, effects: &mut Effects) {
        let (Some(this), Some(Time::Repartition(downstream))) = (
            self.app.sources.get(record.source),
            self.inputs.get_mut(record.source).map(|input| &mut input.time),
        ) else {
            return;
        };
        let Downstream { valve, max, job } = &mut **downstream;
        let Some(job) = self.jobs.get_mut(*job) else {
            return effects.dead("no job reads this repartition topic".to_owned());
        };
        let mut scope = Scope {
            now: self.now,
            watermark: valve.watermark(),
            max_seen: *max,
            origin: None,
            effects: &mut *effects,
        };
        let message = record.value.ok_or_else(|| "it has no value".into()).and_then(Message::read);
        let read = match message {
            Ok(Message::Record { at, origin, record: json }) => {
                *max = (*max).max(Some(at.0));
                scope.max_seen = *max;
                let source = origin.and_then(|(topic, partition, offset)| {
                    let source = self.app.sources.iter().find(|source| source.topic == topic)?;
                    Some(Origin { topic: source.topic, partition, offset })
                });
                scope.origin = Some(source.unwrap_or(Origin {
                    topic: this.topic,
                    partition: self.partition,
                    offset: record.offset,
                }));
                job.second_stage().map_or(Ok(()), |stage| stage.record(json, at, &mut scope))
            }
            Ok(Message::Progress { from, watermark, idle, asks }) => {
                self.told.asked |= asks;
                let channel = usize::try_from(from).unwrap_or(usize::MAX);
                let markers = if idle {
                    [Marker::Watermark(watermark), Marker::Idle]
                } else {
                    [Marker::Active, Marker::Watermark(watermark)]
                };
                for marker in markers {
                    if let Some(risen) = valve.marker(channel, marker).advanced
                        && let Some(stage) = job.second_stage()
                    {
                        scope.watermark = risen;
                        stage.watermark(&mut scope);
                    }
                }
                Ok(())
            }
            Err(reason) => Err(reason),
        };
        if let Err(Malformed(reason)) = read {
            let mut stats = job.stats();
            (stats.records, stats.dead) = (stats.records + 1, stats.dead + 1);
            stats.violation(Violation::ForeignRecord);
            job.restore_stats(stats);
            effects.dead(reason);
        }
    }

    /// Tells the second stages of all tasks how far this one is, if there is news.
    pub(super) fn tell(&mut self, effects: &mut Effects) {
        let (watermark, idle) = (self.multiplexer.watermark(), self.multiplexer.is_idle());
        let known = self.told.watermark.unwrap_or(Watermark::NONE);
        let due = idle != self.told.idle
            // At the same moments for all tasks: then their markers are in as few transactions as can be.
            || watermark > known && self.now.div_euclid(MARKER_EVERY) > self.told.at.div_euclid(MARKER_EVERY)
            || idle && self.told.asked
            || self.asks;
        let repartitions = self.app.sources.iter().zip(&self.inputs).filter_map(|(source, input)| {
            let Time::Repartition(downstream) = &input.time else { return None };
            Some((source.topic, i32::try_from(downstream.valve.channels()).ok()?))
        });
        let repartitions: Vec<_> = if due { repartitions.collect() } else { Vec::new() };
        if repartitions.is_empty() {
            return;
        }
        // What is held was in time: it goes before the marker.
        self.flush_jobs(effects);
        let progress = repartition::progress(self.partition, watermark, idle, std::mem::take(&mut self.asks));
        // Each task is a channel of the others.
        for (topic, tasks) in repartitions {
            effects.marker(topic, tasks, &progress);
        }
        self.told = Told { watermark: Some(watermark), idle, at: self.now, asked: false };
    }
}
