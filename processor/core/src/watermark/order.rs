use serde::{Deserialize, Serialize};

use super::{Bounded, BoundedOutOfOrderness, InvalidIdleTimeout, Progress, Punctuated};
use crate::time::{EventTime, Watermark};

/// How the records of a stream are ordered, and so what makes its event time go on.
///
/// ```
/// use millrace_core::watermark::{Generator, Order};
/// use millrace_core::{EventTime, Watermark};
///
/// let mut partition = Generator::new(Order::Punctuated { idle_timeout: None }).unwrap();
/// partition.record(EventTime(7_000), None);
/// assert_eq!(partition.watermark(), Watermark::NONE, "no record has said so yet");
/// partition.record(EventTime(6_000), Some(Watermark(5_000)));
/// assert_eq!((partition.watermark(), partition.max()), (Watermark(5_000), Some(7_000)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Out of order up to a bound: the watermark follows the latest record.
    Bounded(BoundedOutOfOrderness),
    /// Some records are marked with a watermark; the others do not move it.
    Punctuated {
        /// Silent for longer than this, ms of processing time: idle. `None`: never.
        idle_timeout: Option<i64>,
    },
}

impl Order {
    /// Out of order up to `max_out_of_orderness` ms; silent for longer than `idle_timeout` ms: idle.
    pub const fn bounded(max_out_of_orderness: i64, idle_timeout: Option<i64>) -> Self {
        Self::Bounded(BoundedOutOfOrderness { max_out_of_orderness, idle_timeout })
    }
}

/// What a [`Generator`] knows besides the latest event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The highest mark; `None` before the first, and in a bounded stream.
    pub mark: Option<Watermark>,
    /// How long the partition has been silent, ms; `None`: it was not, or it is never idle.
    pub silence: Option<i64>,
}

/// The generator of one partition of a stream, as its [`Order`] asks for.
#[derive(Debug, Clone)]
pub enum Generator {
    /// For [`Order::Bounded`].
    Bounded(Bounded),
    /// For [`Order::Punctuated`].
    Punctuated(Punctuated),
}

impl Generator {
    /// # Errors
    /// The idle timeout is not greater than zero.
    pub fn new(order: Order) -> Result<Self, InvalidIdleTimeout> {
        Ok(match order {
            Order::Bounded(spec) => Self::Bounded(Bounded::new(spec)?),
            Order::Punctuated { idle_timeout } => Self::Punctuated(Punctuated::new(idle_timeout)?),
        })
    }

    /// A record of this event time has come, marked with this watermark. A bounded stream knows no marks.
    pub fn record(&mut self, at: EventTime, mark: Option<Watermark>) {
        match self {
            Self::Bounded(bounded) => bounded.record(at),
            Self::Punctuated(punctuated) => {
                punctuated.record(at, mark);
            }
        }
    }

    /// The partition's watermark.
    pub fn watermark(&self) -> Watermark {
        match self {
            Self::Bounded(bounded) => bounded.watermark(),
            Self::Punctuated(punctuated) => punctuated.watermark(),
        }
    }

    /// The latest event time seen.
    pub fn max(&self) -> Option<i64> {
        match self {
            Self::Bounded(bounded) => bounded.max(),
            Self::Punctuated(punctuated) => punctuated.max(),
        }
    }

    /// What it knows besides.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Bounded(bounded) => Standing { mark: None, silence: bounded.silence() },
            Self::Punctuated(punctuated) => {
                let mark = Some(punctuated.watermark()).filter(|mark| *mark != Watermark::NONE);
                Standing { mark, silence: punctuated.silence() }
            }
        }
    }

    /// Continues from a latest event time seen before.
    pub fn restore(&mut self, max: Option<i64>) {
        match self {
            Self::Bounded(bounded) => bounded.restore(max),
            Self::Punctuated(punctuated) => punctuated.restore(max),
        }
    }

    /// Continues from what it knew besides. The time until the next tick is no part of its silence.
    pub fn restore_standing(&mut self, standing: Standing) {
        match self {
            Self::Bounded(bounded) => bounded.restore_silence(standing.silence),
            Self::Punctuated(punctuated) => {
                punctuated.restore_mark(standing.mark.unwrap_or(Watermark::NONE));
                punctuated.restore_silence(standing.silence);
            }
        }
    }

    /// Records wait to be read: there is no silence until they are.
    pub fn resume(&mut self) {
        match self {
            Self::Bounded(bounded) => bounded.restore_silence(None),
            Self::Punctuated(punctuated) => punctuated.restore_silence(None),
        }
    }

    /// Whether it is idle, as of the latest tick.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::Bounded(bounded) => bounded.is_idle(),
            Self::Punctuated(punctuated) => punctuated.is_idle(),
        }
    }

    /// A tick of processing time.
    pub fn tick(&mut self, now: i64) -> Progress {
        match self {
            Self::Bounded(bounded) => bounded.tick(now),
            Self::Punctuated(punctuated) => punctuated.tick(now),
        }
    }
}
