//! Wall-clock time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is left until the wall clock is a multiple of a period. Whoever sends at these moments sends when others do, so that brokers
/// copy it together: that costs them less than one request now and another a moment later.
pub fn until_next(period: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let into = now.as_nanos().checked_rem(period.as_nanos()).unwrap_or_default();
    period.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or_default()))
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
