use serde::{Deserialize, Serialize};

use super::InvalidWindow;
use super::schedule::Epoch;
use super::slices::Slicing;
use crate::time::{TimeDomain, TimeWindow};

/// When a window gives its result. The names are Flink's (`EventTimeTrigger`, `CountTrigger`, .., release 1.20).
///
/// Any trigger may be used with any windows: the wall-clock ones on event-time windows give results while a window is
/// open. An early firing gives what is there so far, and nothing if nothing is there.
///
/// ```
/// use millrace_core::window::Trigger;
/// assert!(Trigger::Count { n: 10 }.validate().is_ok());
/// assert!(Trigger::ContinuousProcessingTime { interval: 0 }.validate().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// When the watermark reaches the last instant of the window, and then on each late record.
    EventTime,
    /// When the clock reaches the last instant of the window.
    ProcessingTime,
    /// As [`Trigger::EventTime`], and early whenever the watermark reaches a multiple of the interval.
    ContinuousEventTime {
        /// In ms.
        interval: i64,
    },
    /// Whenever the clock reaches a multiple of the interval, and at the last instant of the window.
    ContinuousProcessingTime {
        /// In ms.
        interval: i64,
    },
    /// On every n-th record since the last firing.
    Count {
        /// So many records.
        n: u64,
    },
    /// At the watermark `i64::MAX`: the end of a bounded stream.
    EndOfStream,
}

impl Trigger {
    /// # Errors
    /// An interval or a count that is not greater than zero.
    pub fn validate(self) -> Result<Self, InvalidWindow> {
        match self {
            Self::ContinuousEventTime { interval } | Self::ContinuousProcessingTime { interval }
                if interval <= 0 =>
            {
                Err(InvalidWindow::Interval(interval))
            }
            Self::Count { n: 0 } => Err(InvalidWindow::Count),
            _ => Ok(self),
        }
    }
}

/// How the windows of an operator fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    pub time: TimeDomain,
    pub trigger: Trigger,
    /// Whether a firing empties the window.
    pub purging: bool,
}

/// Up to where time has been dealt with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub watermark: i64,
    pub now: i64,
}

impl Clock {
    pub fn at(mut self, domain: TimeDomain, at: i64) -> Self {
        match domain {
            TimeDomain::Event => self.watermark = at,
            TimeDomain::Processing => self.now = at,
        }
        self
    }

    pub fn get(self, domain: TimeDomain) -> i64 {
        match domain {
            TimeDomain::Event => self.watermark,
            TimeDomain::Processing => self.now,
        }
    }
}

/// What a trigger remembers of a window: part of the window's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct TriggerState {
    /// Records since the last firing.
    pub count: u64,
    /// The next firing, where it does not follow from the window alone.
    pub plan: Option<i64>,
}

impl TriggerState {
    pub fn merge(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.plan = self.plan.into_iter().chain(other.plan).min();
    }
}

/// A time that jumps over more planned early firings than this leaves out those between the first and the last: without
/// records between them they would all say the same, and the end of a stream is 2^63 ms away.
const CATCH_UP: i64 = 1_000;

impl Rules {
    /// Whether, and how, the windows of an epoch are sliced: if they overlap, and nothing is to be known of a window but
    /// whether its time has come.
    pub fn slicing(&self, epoch: Epoch) -> Option<Slicing> {
        let plain = Self { time: TimeDomain::Event, trigger: Trigger::EventTime, purging: false };
        if *self == plain { Slicing::of(epoch) } else { None }
    }

    /// A record at `t` has been added. Returns whether the window fires.
    pub fn on_element(&self, state: &mut TriggerState, window: TimeWindow, t: i64, clock: Clock) -> bool {
        let first = |t: i64, interval: i64| {
            let interval = interval.max(1);
            t.saturating_sub(t.rem_euclid(interval)).saturating_add(interval).min(window.last())
        };
        match self.trigger {
            Trigger::EventTime => window.last() <= clock.watermark,
            Trigger::ProcessingTime => {
                state.plan = Some(window.last());
                false
            }
            Trigger::ContinuousEventTime { interval } => {
                let over = window.last() <= clock.watermark;
                if !over {
                    state.plan.get_or_insert_with(|| first(t, interval));
                }
                over
            }
            Trigger::ContinuousProcessingTime { interval } => {
                state.plan.get_or_insert_with(|| first(clock.now, interval));
                false
            }
            Trigger::Count { n } => {
                state.count += 1;
                let full = state.count >= n;
                if full {
                    state.count = 0;
                }
                full
            }
            Trigger::EndOfStream => false,
        }
    }

    /// Time has come to `at`, on its way to `until`. Returns whether the window fires.
    pub fn on_time(
        &self,
        state: &mut TriggerState,
        window: TimeWindow,
        domain: TimeDomain,
        at: i64,
        until: i64,
    ) -> bool {
        let last = window.last();
        let next = |interval: i64| {
            let interval = interval.max(1);
            let left = until.min(last).saturating_sub(at) / interval;
            let steps = if left > CATCH_UP { left } else { 1 };
            at.saturating_add(steps.saturating_mul(interval)).min(last)
        };
        match (self.trigger, domain) {
            (Trigger::EventTime, TimeDomain::Event) => at == last,
            (Trigger::EndOfStream, TimeDomain::Event) => at == i64::MAX,
            (Trigger::ContinuousEventTime { .. }, TimeDomain::Event) if at == last => {
                state.plan = None;
                true
            }
            (Trigger::ContinuousEventTime { interval }, TimeDomain::Event)
            | (Trigger::ContinuousProcessingTime { interval }, TimeDomain::Processing)
                if state.plan == Some(at) =>
            {
                state.plan = (at < last).then(|| next(interval));
                true
            }
            (Trigger::ProcessingTime, TimeDomain::Processing) if state.plan == Some(at) => {
                state.plan = None;
                true
            }
            _ => false,
        }
    }

    /// When the window must be looked at next. A plan may be in the past: it fires when time moves.
    pub fn due(
        &self,
        state: &TriggerState,
        window: TimeWindow,
        cleanup: i64,
        domain: TimeDomain,
        clock: Clock,
    ) -> Option<i64> {
        let passed = |at: i64| at <= clock.watermark;
        let last = Some(window.last()).filter(|&at| !passed(at));
        let fires = match (self.trigger, domain) {
            (Trigger::EventTime, TimeDomain::Event) => last,
            (Trigger::EndOfStream, TimeDomain::Event) => Some(i64::MAX).filter(|&at| !passed(at)),
            (Trigger::ContinuousEventTime { .. }, TimeDomain::Event) => {
                state.plan.into_iter().chain(last).min()
            }
            (Trigger::ProcessingTime | Trigger::ContinuousProcessingTime { .. }, TimeDomain::Processing) => {
                state.plan
            }
            _ => None,
        };
        // "At i64::MAX, never."
        let forgotten = (self.time == domain && cleanup < i64::MAX).then_some(cleanup);
        fires.into_iter().chain(forgotten).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_time_does_not_fire_without_end() {
        let rules = Rules {
            time: TimeDomain::Event,
            trigger: Trigger::ContinuousEventTime { interval: 10 },
            purging: false,
        };
        let mut state = TriggerState { count: 0, plan: Some(10) };
        let (mut fired, mut at) = (Vec::new(), 10);
        while rules.on_time(&mut state, TimeWindow::GLOBAL, TimeDomain::Event, at, i64::MAX)
            && fired.len() < 9
        {
            fired.push(at);
            match state.plan {
                Some(next) => at = next,
                None => break,
            }
        }
        assert_eq!(fired.len(), 3, "{fired:?}");
        assert_eq!((fired[0], fired[2]), (10, i64::MAX));
    }
}
