use super::idleness::{Idleness, InvalidIdleTimeout, Progress};
use crate::time::{EventTime, Watermark};

/// How far out of order the records of a partition may be, and when its silence means that it is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundedOutOfOrderness {
    /// A record may come this much after a later one, ms.
    pub max_out_of_orderness: i64,
    /// Silent for longer than this, ms of processing time: idle. `None`: never.
    pub idle_timeout: Option<i64>,
}

/// The generator of one partition.
///
/// ```
/// use millrace_core::watermark::{Bounded, BoundedOutOfOrderness};
/// use millrace_core::EventTime;
/// let mut partition = Bounded::new(BoundedOutOfOrderness { max_out_of_orderness: 5_000, idle_timeout: None }).unwrap();
/// partition.record(EventTime(10_000));
/// assert_eq!(partition.watermark().0, 4_999);
/// ```
#[derive(Debug, Clone)]
pub struct Bounded {
    max_out_of_orderness: i64,
    max: Option<i64>,
    idleness: Idleness,
}

impl Bounded {
    /// # Errors
    /// The idle timeout is not greater than zero.
    pub fn new(spec: BoundedOutOfOrderness) -> Result<Self, InvalidIdleTimeout> {
        let BoundedOutOfOrderness { max_out_of_orderness, idle_timeout } = spec;
        Ok(Self { max_out_of_orderness, max: None, idleness: Idleness::new(idle_timeout)? })
    }

    /// A record of this event time has come. The watermark changes only with the next tick.
    pub fn record(&mut self, at: EventTime) {
        self.max = Some(self.max.map_or(at.0, |max| max.max(at.0)));
        self.idleness.record();
    }

    /// The latest event time seen.
    pub fn max(&self) -> Option<i64> {
        self.max
    }

    /// Continues from a latest event time seen before.
    pub fn restore(&mut self, max: Option<i64>) {
        self.max = max;
    }

    /// `max - max_out_of_orderness - 1`.
    pub fn watermark(&self) -> Watermark {
        self.max.map_or(Watermark::NONE, |max| {
            Watermark(max.saturating_sub(self.max_out_of_orderness).saturating_sub(1))
        })
    }

    /// How long it has been silent, ms, as of the latest tick; `None`: a record has come since, or it is never idle.
    pub fn silence(&self) -> Option<i64> {
        self.idleness.silence()
    }

    /// Continues a silence of before. The time until the next tick is no part of it.
    pub fn restore_silence(&mut self, silence: Option<i64>) {
        self.idleness.restore(silence);
    }

    /// Whether it is idle, as of the latest tick.
    pub fn is_idle(&self) -> bool {
        self.idleness.is_idle()
    }

    /// A tick of processing time.
    pub fn tick(&mut self, now: i64) -> Progress {
        self.idleness.tick(now, self.watermark())
    }
}
