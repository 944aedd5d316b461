use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use serde::Serialize;

use crate::state::{Access, Moment};
use crate::stream::{Context, Origin};
use crate::time::TimeDomain;
use crate::time::{EventTime, Watermark};
use crate::timer::Timers;

/// The state of the key at hand. It notices whether it is read or written: only what was written goes to the
/// changelog, and access refreshes its time to live.
#[derive(Debug)]
pub struct Current<S> {
    value: S,
    was_there: bool,
    read: Cell<bool>,
    written: bool,
}

impl<S> Deref for Current<S> {
    type Target = S;

    fn deref(&self) -> &S {
        self.read.set(true);
        &self.value
    }
}

impl<S> DerefMut for Current<S> {
    fn deref_mut(&mut self) -> &mut S {
        self.written = true;
        &mut self.value
    }
}

impl<S: Default + PartialEq> Current<S> {
    pub(super) fn take(slot: &mut Option<S>) -> Self {
        let was_there = slot.is_some();
        Self { value: slot.take().unwrap_or_default(), was_there, read: Cell::new(false), written: false }
    }

    pub(super) fn put_back(self, slot: &mut Option<S>) -> Access {
        if self.written {
            *slot = (self.value != S::default()).then_some(self.value);
            Access::Write
        } else {
            *slot = self.was_there.then_some(self.value);
            if self.read.get() { Access::Read } else { Access::None }
        }
    }
}

/// What a process function knows and can do.
pub struct ProcessContext<'a, 'c, P, O> {
    pub(super) ctx: &'a mut Context<'c, P>,
    pub(super) key: &'a str,
    pub(super) moment: Moment,
    pub(super) timers: &'a mut Timers,
    pub(super) outputs: &'a mut Vec<(O, EventTime)>,
}

impl<P, O> ProcessContext<'_, '_, P, O> {
    /// The job's parameters in force.
    pub fn params(&self) -> &P {
        self.ctx.params
    }

    /// The key of the record or timer.
    pub fn key(&self) -> &str {
        self.key
    }

    /// Where the record is from; `None` in a timer.
    pub fn origin(&self) -> Option<Origin> {
        self.ctx.origin
    }

    /// The watermark.
    pub fn watermark(&self) -> Watermark {
        self.ctx.watermark
    }

    /// The processing-time clock, epoch ms.
    pub fn now(&self) -> i64 {
        self.ctx.now
    }

    /// The moment for further [state](super::ProcessFunction::states) of the function.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// Sets a timer for the key, epoch ms; once per time, however often it is set.
    pub fn register_timer(&mut self, domain: TimeDomain, time: i64) {
        self.timers.register(domain, time, self.key);
    }

    /// Takes a timer of the key back, if it is set.
    pub fn delete_timer(&mut self, domain: TimeDomain, time: i64) {
        self.timers.delete(domain, time, self.key);
    }

    /// Hands on a result, at the time of the record or timer.
    pub fn collect(&mut self, result: O) {
        self.collect_at(result, EventTime(self.moment.at));
    }

    /// Hands on a result at another time.
    pub fn collect_at(&mut self, result: O, at: EventTime) {
        self.outputs.push((result, at));
    }

    /// Writes a record to a topic beside the job's main output.
    pub fn side<T: Serialize>(&mut self, topic: &'static str, key: &str, value: &T) {
        self.ctx.side(topic, key, value);
    }
}
