use super::idleness::{Idleness, InvalidIdleTimeout, Progress};
use crate::time::Watermark;

/// The generator of a partition whose records carry the watermark: some are marked "nothing before this follows".
/// Flink's punctuated `WatermarkGenerator`.
///
/// ```
/// use millrace_core::Watermark;
/// use millrace_core::watermark::Punctuated;
/// let mut partition = Punctuated::new(None).unwrap();
/// partition.record(None);
/// assert_eq!(partition.record(Some(Watermark(4_999))), Some(Watermark(4_999)));
/// assert_eq!(partition.record(Some(Watermark(3_000))), None, "a watermark never falls");
/// assert_eq!(partition.watermark(), Watermark(4_999));
/// ```
#[derive(Debug, Clone)]
pub struct Punctuated {
    watermark: Watermark,
    idleness: Idleness,
}

impl Punctuated {
    /// Silent for longer than `idle_timeout`, ms of processing time: idle. `None`: never.
    ///
    /// # Errors
    /// The idle timeout is not greater than zero.
    pub fn new(idle_timeout: Option<i64>) -> Result<Self, InvalidIdleTimeout> {
        Ok(Self { watermark: Watermark::NONE, idleness: Idleness::new(idle_timeout)? })
    }

    /// A record has come, with the watermark that it is marked with. Returns the watermark if it rose.
    pub fn record(&mut self, mark: Option<Watermark>) -> Option<Watermark> {
        self.idleness.record();
        let risen = mark.filter(|&mark| mark > self.watermark)?;
        self.watermark = risen;
        Some(risen)
    }

    /// The highest mark; [`Watermark::NONE`] before the first.
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Continues from a watermark of before.
    pub fn restore(&mut self, watermark: Watermark) {
        self.watermark = self.watermark.max(watermark);
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
        partition.record(None);
        assert_eq!(partition.tick(12), Progress::None);
        partition.record(Some(Watermark(5)));
        assert_eq!(partition.tick(100), Progress::At(Watermark(5)));
        assert_eq!(partition.tick(111), Progress::Idle);
    }
}
