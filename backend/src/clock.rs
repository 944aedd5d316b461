//! Time of day in texts, and locks that outlive a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_wire::Timestamp;

/// `12:00:03 UTC`.
pub fn time_of_day(ms: i64) -> String {
    let iso = Timestamp(ms).to_iso();
    format!("{} UTC", iso.get(11..19).unwrap_or(&iso))
}

/// The guarded value, even after a panic elsewhere: every value here is whole between statements.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
