use crate::time::Watermark;

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

/// The silence of a partition. Flink's `WatermarksWithIdleness`.
#[derive(Debug, Clone)]
pub(super) struct Idleness {
    timeout: Option<i64>,
    /// First tick of the silence.
    since: Option<i64>,
}

impl Idleness {
    pub fn new(timeout: Option<i64>) -> Result<Self, InvalidIdleTimeout> {
        match timeout {
            Some(timeout) if timeout <= 0 => Err(InvalidIdleTimeout(timeout)),
            _ => Ok(Self { timeout, since: None }),
        }
    }

    pub fn record(&mut self) {
        self.since = None;
    }

    pub fn tick(&mut self, now: i64, watermark: Watermark) -> Progress {
        if let Some(timeout) = self.timeout {
            let since = *self.since.get_or_insert(now);
            if now.saturating_sub(since) > timeout {
                return Progress::Idle;
            }
        }
        match watermark {
            Watermark::NONE => Progress::None,
            watermark => Progress::At(watermark),
        }
    }
}
