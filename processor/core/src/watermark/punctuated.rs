use super::idleness::{Idleness, InvalidIdleTimeout, Progress};
use crate::time::{EventTime, Watermark};

/// The generator of a partition whose records carry the watermark: some are marked "nothing before this follows".
/// Flink's punctuated `WatermarkGenerator`.
///
/// ```
/// use millrace_core::{EventTime, Watermark};
/// use millrace_core::watermark::Punctuated;
/// let mut partition = Punctuated::new(None).unwrap();
/// partition.record(EventTime(6_000), None);
/// assert_eq!(partition.record(EventTime(5_500), Some(Watermark(4_999))), Some(Watermark(4_999)));
/// assert_eq!(partition.record(EventTime(5_600), Some(Watermark(3_000))), None, "a watermark never falls");
/// assert_eq!(partition.watermark(), Watermark(4_999));
/// ```
#[derive(Debug, Clone)]
pub struct Punctuated {
    watermark: Watermark,
    max: Option<i64>,
    idleness: Idleness,
}

impl Punctuated {
    /// Silent for longer than `idle_timeout`, ms of processing time: idle. `None`: never.
    ///
    /// # Errors
    /// The idle timeout is not greater than zero.
    pub fn new(idle_timeout: Option<i64>) -> Result<Self, InvalidIdleTimeout> {
        Ok(Self { watermark: Watermark::NONE, max: None, idleness: Idleness::new(idle_timeout)? })
    }

    /// A record of this event time has come, with the watermark that it is marked with. Returns the watermark if it rose.
    pub fn record(&mut self, at: EventTime, mark: Option<Watermark>) -> Option<Watermark> {
        self.max = self.max.max(Some(at.0));
        self.idleness.record();
        let risen = mark.filter(|&mark| mark > self.watermark)?;
        self.watermark = risen;
        Some(risen)
    }

    /// The highest mark; [`Watermark::NONE`] before the first.
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// The latest event time seen.
    pub fn max(&self) -> Option<i64> {
        self.max
    }

    /// Continues from a latest event time seen before.
    pub fn restore(&mut self, max: Option<i64>) {
        self.max = max;
    }

    /// Continues from a highest mark of before.
    pub fn restore_mark(&mut self, mark: Watermark) {
        self.watermark = self.watermark.max(mark);
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
        self.idleness.tick(now, self.watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_it_idle_and_any_record_ends_that() {
        assert_eq!(
            Punctuated::new(Some(0)).unwrap_err().to_string(),
            "the idle timeout must be greater than zero, it is 0 ms"
        );
        let mut partition = Punctuated::new(Some(10)).unwrap();
        assert_eq!(partition.tick(0), Progress::None);
        assert_eq!(partition.tick(11), Progress::Idle);
        partition.record(EventTime(3), None);
        assert_eq!(partition.tick(12), Progress::None);
        partition.record(EventTime(9), Some(Watermark(5)));
        assert_eq!(partition.tick(100), Progress::At(Watermark(5)));
        assert_eq!(partition.tick(111), Progress::Idle);
    }
}
