use serde::{Deserialize, Serialize};

use crate::time::TimeWindow;

/// Which windows there are. Durations in ms.
///
/// ```
/// use millrace_core::window::WindowSpec;
/// let spec = WindowSpec::sliding(10, 5);
/// let windows: Vec<_> = spec.windows(7).map(|w| (w.start, w.end)).collect();
/// assert_eq!(windows, [(0, 10), (5, 15)]);
/// assert!(WindowSpec::sliding(10, 0).validate().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowSpec {
    /// Windows side by side: `start = t - floormod(t - offset, size)`, `[start, start + size)`.
    Tumbling {
        /// Length.
        size: i64,
        /// Shift against the epoch.
        offset: i64,
    },
    /// Windows that overlap, or leave gaps if `slide > size`: `start = t - floormod(t - offset, slide)` and, going back
    /// by `slide`, all that still hold `t`.
    Sliding {
        /// Length.
        size: i64,
        /// From one start to the next.
        slide: i64,
        /// Shift against the epoch.
        offset: i64,
    },
    /// `[t, t + gap)`, merged with all windows of the key that it overlaps or touches.
    Session {
        /// Silence that ends a session.
        gap: i64,
    },
    /// The same with a gap that each record brings: see [`Keyed::session_window`](crate::stream::Keyed::session_window).
    SessionDynamic,
    /// One window per key, for ever: [`TimeWindow::GLOBAL`].
    Global,
}

/// A specification that names no windows, or no firings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Not a length.
    #[error("the window size must be greater than zero, it is {0} ms")]
    Size(i64),
    /// Windows that don't move.
    #[error("the window slide must be greater than zero, it is {0} ms")]
    Slide(i64),
    /// As Flink has it.
    #[error("the window offset must be smaller than the {of}, it is {offset} ms of {length} ms")]
    Offset {
        /// The offset.
        offset: i64,
        /// What it must be smaller than.
        length: i64,
        /// Its name: size or slide.
        of: &'static str,
    },
    /// Sessions that are over before they begin.
    #[error("the session gap must be greater than zero, it is {0} ms")]
    Gap(i64),
    /// A trigger that would fire without end.
    #[error("the trigger interval must be greater than zero, it is {0} ms")]
    Interval(i64),
    /// A trigger that counts to nothing.
    #[error("the trigger count must be greater than zero")]
    Count,
}

impl WindowSpec {
    /// Tumbling windows aligned to the epoch.
    pub const fn tumbling(size: i64) -> Self {
        Self::Tumbling { size, offset: 0 }
    }

    /// Sliding windows aligned to the epoch.
    pub const fn sliding(size: i64, slide: i64) -> Self {
        Self::Sliding { size, slide, offset: 0 }
    }

    /// Sessions with a fixed gap.
    pub const fn session(gap: i64) -> Self {
        Self::Session { gap }
    }

    /// # Errors
    /// Size, slide or gap not greater than zero, or an offset as large as the size (tumbling) or the slide (sliding).
    pub fn validate(self) -> Result<Self, InvalidWindow> {
        let offset = |offset: i64, length: i64, of| {
            let fits = offset.unsigned_abs() < length.unsigned_abs();
            if fits { Ok(self) } else { Err(InvalidWindow::Offset { offset, length, of }) }
        };
        match self {
            Self::Tumbling { size, .. } | Self::Sliding { size, .. } if size <= 0 => {
                Err(InvalidWindow::Size(size))
            }
            Self::Sliding { slide, .. } if slide <= 0 => Err(InvalidWindow::Slide(slide)),
            Self::Session { gap } if gap <= 0 => Err(InvalidWindow::Gap(gap)),
            Self::Tumbling { size, offset: shift } => offset(shift, size, "size"),
            Self::Sliding { slide, offset: shift, .. } => offset(shift, slide, "slide"),
            Self::Session { .. } | Self::SessionDynamic | Self::Global => Ok(self),
        }
    }

    /// Longest span of a window of one record, ms; `i64::MAX` if there is no bound.
    pub fn span(self) -> i64 {
        match self {
            Self::Tumbling { size, .. } | Self::Sliding { size, .. } => size.max(1),
            Self::Session { gap } => gap.max(1),
            Self::SessionDynamic | Self::Global => i64::MAX,
        }
    }

    /// Size, slide and offset of windows that are where they are whatever the records; none for sessions and the global
    /// window. A size or slide that [`WindowSpec::validate`] refuses counts as 1.
    pub(super) fn aligned(self) -> Option<Aligned> {
        match self {
            Self::Tumbling { size, offset } => {
                Some(Aligned { size: size.max(1), slide: size.max(1), offset })
            }
            Self::Sliding { size, slide, offset } => {
                Some(Aligned { size: size.max(1), slide: slide.max(1), offset })
            }
            Self::Session { .. } | Self::SessionDynamic | Self::Global => None,
        }
    }

    /// The windows of a record at `t`, by start. Sessions are not merged yet; a gap that comes with the record is
    /// counted as 1 ms here.
    #[inline]
    pub fn windows(self, t: i64) -> impl Iterator<Item = TimeWindow> {
        let (size, slide, back) = match self {
            // One that begins at t: the next would begin after it.
            Self::Session { gap } => (gap.max(1), i64::MAX, Some(0)),
            Self::SessionDynamic => (1, i64::MAX, Some(0)),
            Self::Global => return Starts { t, size: 0, slide: i64::MAX, back: None, global: true },
            Self::Tumbling { size, offset } => {
                let size = size.max(1);
                (size, size, Some(Aligned { size, slide: size, offset }.back(t)))
            }
            Self::Sliding { size, slide, offset } => {
                let (size, slide) = (size.max(1), slide.max(1));
                (size, slide, Aligned { size, slide, offset }.first_back(t))
            }
        };
        Starts { t, size, slide, back, global: false }
    }
}

/// The windows of a record, by start.
struct Starts {
    t: i64,
    size: i64,
    slide: i64,
    /// `t` minus the start of the next window.
    back: Option<i64>,
    global: bool,
}

impl Iterator for Starts {
    type Item = TimeWindow;

    #[inline]
    fn next(&mut self) -> Option<TimeWindow> {
        if std::mem::take(&mut self.global) {
            return Some(TimeWindow::GLOBAL);
        }
        let back = self.back?;
        self.back = (back >= self.slide).then(|| back - self.slide);
        Some(TimeWindow { start: self.t.saturating_sub(back), end: self.t.saturating_add(self.size - back) })
    }
}

/// Windows `[k * slide + offset, k * slide + offset + size)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aligned {
    /// > 0.
    pub size: i64,
    /// > 0.
    pub slide: i64,
    pub offset: i64,
}

impl Aligned {
    /// `t` minus the latest window start that is not after it: `floormod(t - offset, slide)`.
    #[inline]
    pub fn back(self, t: i64) -> i64 {
        match t.checked_sub(self.offset) {
            Some(shifted) => shifted.rem_euclid(self.slide),
            // Near the ends of the range, where 64 bits don't do.
            None => {
                let shifted = i128::from(t) - i128::from(self.offset);
                clamp(shifted.rem_euclid(i128::from(self.slide)))
            }
        }
    }

    /// `t` minus the start of the first window that holds it; `None` if it falls between two.
    fn first_back(self, t: i64) -> Option<i64> {
        self.first_before(self.back(t))
    }

    fn first_before(self, back: i64) -> Option<i64> {
        // back + k * slide < size, so nothing overflows. A record of one window alone costs no division.
        let rest = self.size - 1 - back;
        let more = if rest < self.slide { 0 } else { rest / self.slide * self.slide };
        (rest >= 0).then_some(back + more)
    }

    /// Starts of the first and the last window that hold `t`. In 128 bits, because the first may be before the range.
    pub fn starts(self, t: i64) -> Option<(i128, i128)> {
        let back = self.back(t);
        let t = i128::from(t);
        Some((t - i128::from(self.first_before(back)?), t - i128::from(back)))
    }

    /// First window start that is not before `t`.
    pub fn ceil(self, t: i128) -> i128 {
        let slide = i128::from(self.slide);
        let back = match i64::try_from(t) {
            Ok(t) => i128::from(self.back(t)),
            Err(_) => (t - i128::from(self.offset)).rem_euclid(slide),
        };
        if back == 0 { t } else { t - back + slide }
    }
}

/// Into the range of 64 bits.
pub(super) fn clamp(t: i128) -> i64 {
    i64::try_from(t).unwrap_or(if t < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(spec: WindowSpec, t: i64) -> Vec<(i64, i64)> {
        spec.windows(t).map(|w| (w.start, w.end)).collect()
    }

    #[test]
    fn windows_are_aligned_also_before_the_epoch() {
        let spec = WindowSpec::tumbling(10);
        assert_eq!(windows(spec, -1), [(-10, 0)]);
        assert_eq!(windows(spec, 0), [(0, 10)]);
        assert_eq!(windows(WindowSpec::Tumbling { size: 10, offset: 3 }, 2), [(-7, 3)]);
        assert_eq!(windows(WindowSpec::sliding(10, 5), -1), [(-10, 0), (-5, 5)]);
        assert_eq!(windows(WindowSpec::sliding(12, 5), 21), [(10, 22), (15, 27), (20, 32)]);
        assert_eq!(windows(WindowSpec::sliding(2, 5), 6), [(5, 7)]);
        assert_eq!(windows(WindowSpec::sliding(2, 5), 7), []);
        assert_eq!(windows(WindowSpec::session(3), 7), [(7, 10)]);
        assert_eq!(windows(WindowSpec::Global, 7), [(i64::MIN, i64::MAX)]);
    }

    #[test]
    fn the_ends_of_time_are_in_windows_too() {
        for spec in [
            WindowSpec::Tumbling { size: 10, offset: -3 },
            WindowSpec::Sliding { size: 10, slide: 3, offset: 2 },
            WindowSpec::Sliding { size: i64::MAX, slide: i64::MAX / 2, offset: 2 },
            WindowSpec::Sliding { size: i64::MAX, slide: i64::MAX, offset: 1 - i64::MAX },
            WindowSpec::session(10),
            WindowSpec::tumbling(i64::MAX),
        ] {
            for t in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
                let windows: Vec<_> = spec.windows(t).collect();
                assert!(!windows.is_empty());
                assert!(windows.iter().all(|w| w.start <= t && t <= w.last()), "{spec:?} {t} {windows:?}");
                let exact = |w: &TimeWindow| {
                    let start = i128::from(w.end) - i128::from(spec.span());
                    w.end == i64::MAX || w.start == clamp(start)
                };
                assert!(windows.iter().all(exact), "{spec:?} {t} {windows:?}");
            }
        }
        let far = Aligned { size: 10, slide: 10, offset: 3 };
        let exact = |t: i64| (i128::from(t) - 3).rem_euclid(10);
        assert_eq!(i128::from(far.back(i64::MIN)), exact(i64::MIN));
        assert_eq!(i128::from(far.back(i64::MAX)), exact(i64::MAX));
    }

    #[test]
    fn specifications_without_windows_are_refused() {
        assert_eq!(WindowSpec::tumbling(0).validate(), Err(InvalidWindow::Size(0)));
        assert!(WindowSpec::Tumbling { size: 5, offset: -5 }.validate().is_err());
        assert!(WindowSpec::Tumbling { size: 5, offset: -4 }.validate().is_ok());
        assert_eq!(WindowSpec::sliding(5, 0).validate(), Err(InvalidWindow::Slide(0)));
        assert_eq!(
            WindowSpec::Sliding { size: 5, slide: 2, offset: 2 }.validate().unwrap_err().to_string(),
            "the window offset must be smaller than the slide, it is 2 ms of 2 ms"
        );
        assert_eq!(WindowSpec::session(-1).validate(), Err(InvalidWindow::Gap(-1)));
        assert!(WindowSpec::Global.validate().is_ok());
    }
}
