use serde::Serialize;

use crate::effect::Effects;
use crate::invariant::{Stats, Violation};
use crate::time::Watermark;

/// Where the record of this step is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Topic.
    pub topic: &'static str,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// What a step knows, whichever job it is in.
pub struct Scope<'a> {
    /// Processing time: an input like any other, epoch ms.
    pub now: i64,
    /// No record with `time <= watermark` is expected.
    pub watermark: Watermark,
    /// Latest event time seen, epoch ms.
    pub max_seen: Option<i64>,
    /// The record of this step; `None` when time moves without one.
    pub origin: Option<Origin>,
    /// What the step asks for.
    pub effects: &'a mut Effects,
}

/// What an operator knows in a step.
pub struct Context<'a, P> {
    /// The job's parameters in force.
    pub params: &'a P,
    /// See [`Scope`].
    pub now: i64,
    /// See [`Scope`].
    pub watermark: Watermark,
    /// See [`Scope`].
    pub max_seen: Option<i64>,
    /// See [`Scope`].
    pub origin: Option<Origin>,
    effects: &'a mut Effects,
    stats: &'a mut Stats,
    job: &'static str,
    /// Records and parts of them that were counted before this step.
    before: u64,
    /// Parts of the source record whose fate is known.
    settled: u64,
    /// What is processed now came out of an operator with state: its records are accounted for there.
    derived: bool,
}

impl<'a, P> Context<'a, P> {
    pub(crate) fn new(
        params: &'a P,
        scope: &'a mut Scope<'_>,
        stats: &'a mut Stats,
        job: &'static str,
    ) -> Self {
        let Scope { now, watermark, max_seen, origin, effects } = scope;
        let (now, watermark, max_seen, origin) = (*now, *watermark, *max_seen, *origin);
        let (before, settled, derived) = (stats.records, 0, false);
        Self { params, now, watermark, max_seen, origin, effects, stats, job, before, settled, derived }
    }

    /// The step of a record ends: what was neither refused nor kept of it has passed through.
    pub(crate) fn settle(&mut self) {
        self.stats.done += (self.stats.records + 1 - self.before).saturating_sub(self.settled);
    }

    /// The record does not concern the job.
    pub(crate) fn filtered(&mut self) {
        if !self.derived {
            self.stats.filtered += 1;
            self.settled += 1;
        }
    }

    /// The record came too late for this job: it goes to `late-events`.
    pub(crate) fn late(&mut self) {
        if !self.derived {
            self.stats.late += 1;
            self.settled += 1;
        }
        // What was derived in a step without a record has no bytes of its own to hand on.
        if self.origin.is_some() {
            self.effects.late(self.job, self.watermark.0);
        }
    }

    /// The record is held by the operator. Returns how many records that counts for (1, or 0 for one that came out of
    /// another operator with state): the operator adds it to its [`Operator::pending`], keeps it with what it holds, and
    /// hands it to [`Context::done`] in the end.
    pub(crate) fn keep(&mut self) -> u64 {
        if self.derived {
            return 0;
        }
        self.settled += 1;
        1
    }

    /// The record belongs to a window. `tardy`: whether that has given its result already.
    pub(crate) fn windowed(&mut self, tardy: bool) {
        self.stats.windowed += 1;
        self.stats.tardy += u64::from(tardy);
    }

    /// The work on so many records that were [kept](Context::keep) is done.
    pub(crate) fn done(&mut self, records: u64) {
        self.stats.done += records;
    }

    /// The record goes on as so many.
    pub(crate) fn fan_out(&mut self, records: u64) {
        if records == 0 {
            self.filtered();
        } else if !self.derived {
            self.stats.records += records - 1;
        }
    }

    /// Runs `hand_on` for what came out of state rather than from the record of this step.
    pub(crate) fn derive<R>(&mut self, hand_on: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.derived, true);
        let result = hand_on(self);
        self.derived = before;
        result
    }

    /// Writes a record to a topic beside the job's main output.
    pub fn side<T: Serialize>(&mut self, topic: &'static str, key: &str, value: &T) {
        self.stats.emitted += u64::from(self.effects.emit(topic, key, value));
    }

    /// Writes a record to a topic; no result.
    pub(crate) fn forward<T: Serialize>(&mut self, topic: &'static str, key: &str, value: &T) {
        self.effects.emit(topic, key, value);
    }

    /// Counts a violation of an invariant.
    pub(crate) fn violation(&mut self, violation: Violation) {
        self.stats.violation(violation);
    }
}
