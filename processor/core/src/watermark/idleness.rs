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
    /// How long it had lasted at the latest tick, from the first one; `None`: a record has come since.
    silence: Option<i64>,
    /// The latest tick. After a restore there has not been one: the time until the next is no silence of the partition.
    last: Option<i64>,
}

impl Idleness {
    pub fn new(timeout: Option<i64>) -> Result<Self, InvalidIdleTimeout> {
        match timeout {
            Some(timeout) if timeout <= 0 => Err(InvalidIdleTimeout(timeout)),
            _ => Ok(Self { timeout, silence: None, last: None }),
        }
    }

    pub fn record(&mut self) {
        self.silence = None;
    }

    pub fn silence(&self) -> Option<i64> {
        self.silence
    }

    pub fn restore(&mut self, silence: Option<i64>) {
        (self.silence, self.last) = (silence, None);
    }

    pub fn is_idle(&self) -> bool {
        matches!((self.silence, self.timeout), (Some(silence), Some(timeout)) if silence > timeout)
    }

    pub fn tick(&mut self, now: i64, watermark: Watermark) -> Progress {
        if self.timeout.is_some() {
            let passed = self.last.replace(now).map_or(0, |last| now.saturating_sub(last).max(0));
            self.silence = Some(self.silence.map_or(0, |silence| silence.saturating_add(passed)));
            if self.is_idle() {
                return Progress::Idle;
            }
        }
        match watermark {
            Watermark::NONE => Progress::None,
            watermark => Progress::At(watermark),
        }
    }
}
