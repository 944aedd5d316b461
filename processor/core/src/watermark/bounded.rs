use crate::time::{EventTime, Watermark};

/// How far out of order the records of a partition may be, and when its silence means that it is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundedOutOfOrderness {
    /// A record may come this much after a later one, ms.
    pub max_out_of_orderness: i64,
    /// Silent for longer than this, ms of processing time: idle. `None`: never.
    pub idle_timeout: Option<i64>,
}

/// An idle timeout of zero or less would make every partition idle at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the idle timeout must be greater than zero, it is {0} ms")]
pub struct InvalidIdleTimeout(pub i64);

/// What a partition says at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing yet.
    None,
    /// Its watermark.
    At(Watermark),
    /// Silent for too long.
    Idle,
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
    spec: BoundedOutOfOrderness,
    max: Option<i64>,
    silent_since: Option<i64>,
}

impl Bounded {
    /// # Errors
    /// The idle timeout is not greater than zero.
    pub fn new(spec: BoundedOutOfOrderness) -> Result<Self, InvalidIdleTimeout> {
        match spec.idle_timeout {
            Some(timeout) if timeout <= 0 => Err(InvalidIdleTimeout(timeout)),
            _ => Ok(Self { spec, max: None, silent_since: None }),
        }
    }

    /// A record of this event time has come. The watermark changes only with the next tick.
    pub fn record(&mut self, at: EventTime) {
        self.max = Some(self.max.map_or(at.0, |max| max.max(at.0)));
        self.silent_since = None;
    }

    /// The latest event time seen.
    pub fn max(&self) -> Option<i64> {
        self.max
    }

    /// Continues from a latest event time seen before.
    pub fn restore(&mut self, max: Option<i64>) {
        self.max = max;
        self.silent_since = None;
    }

    /// `max - max_out_of_orderness - 1`.
    pub fn watermark(&self) -> Watermark {
        self.max.map_or(Watermark::NONE, |max| {
            Watermark(max.saturating_sub(self.spec.max_out_of_orderness).saturating_sub(1))
        })
    }

    /// A tick of processing time.
    pub fn tick(&mut self, now: i64) -> Progress {
        if let Some(timeout) = self.spec.idle_timeout {
            let since = *self.silent_since.get_or_insert(now);
            if now.saturating_sub(since) > timeout {
                return Progress::Idle;
            }
        }
        match self.watermark() {
            Watermark::NONE => Progress::None,
            watermark => Progress::At(watermark),
        }
    }
}
