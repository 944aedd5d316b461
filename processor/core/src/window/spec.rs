use serde::{Deserialize, Serialize};

use crate::time::TimeWindow;

/// Which windows there are. Durations in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WindowSpec {
    /// Windows side by side: `start = t - floormod(t - offset, size)`, `[start, start + size)`.
    Tumbling {
        /// Length.
        size: i64,
        /// Shift against the epoch.
        offset: i64,
    },
}

/// A specification that names no windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// Not a length.
    #[error("the window size must be greater than zero, it is {0} ms")]
    Size(i64),
    /// As Flink has it.
    #[error("the window offset must be smaller than the size, it is {offset} ms of {size} ms")]
    Offset {
        /// The offset.
        offset: i64,
        /// The size.
        size: i64,
    },
}

impl WindowSpec {
    /// Tumbling windows aligned to the epoch.
    pub const fn tumbling(size: i64) -> Self {
        Self::Tumbling { size, offset: 0 }
    }

    /// # Errors
    /// Size not greater than zero, or an offset as large as the size.
    pub fn validate(self) -> Result<Self, InvalidWindow> {
        match self {
            Self::Tumbling { size, .. } if size <= 0 => Err(InvalidWindow::Size(size)),
            Self::Tumbling { size, offset } if offset.unsigned_abs() >= size.unsigned_abs() => {
                Err(InvalidWindow::Offset { offset, size })
            }
            Self::Tumbling { .. } => Ok(self),
        }
    }

    /// Length of a window, ms.
    pub fn size(self) -> i64 {
        match self {
            Self::Tumbling { size, .. } => size,
        }
    }

    /// The window of a record at `t`.
    pub fn window(self, t: i64) -> TimeWindow {
        match self {
            Self::Tumbling { size, offset } => {
                // In 128 bits, so that times near the ends of the range are right too.
                let start =
                    i128::from(t) - (i128::from(t) - i128::from(offset)).rem_euclid(i128::from(size.max(1)));
                let clamp = |t: i128| i64::try_from(t).unwrap_or(if t < 0 { i64::MIN } else { i64::MAX });
                TimeWindow { start: clamp(start), end: clamp(start + i128::from(size.max(1))) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_also_before_the_epoch() {
        let spec = WindowSpec::tumbling(10);
        assert_eq!(spec.window(-1), TimeWindow { start: -10, end: 0 });
        assert_eq!(spec.window(0), TimeWindow { start: 0, end: 10 });
        assert_eq!(WindowSpec::Tumbling { size: 10, offset: 3 }.window(2), TimeWindow { start: -7, end: 3 });
        assert_eq!(spec.window(i64::MAX).end, i64::MAX);
        assert_eq!(spec.window(i64::MIN).start, i64::MIN);
    }

    #[test]
    fn specifications_without_windows_are_refused() {
        assert_eq!(WindowSpec::tumbling(0).validate(), Err(InvalidWindow::Size(0)));
        assert!(WindowSpec::Tumbling { size: 5, offset: -5 }.validate().is_err());
        assert!(WindowSpec::Tumbling { size: 5, offset: -4 }.validate().is_ok());
    }
}
