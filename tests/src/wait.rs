use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tries until there is a result; fails the test with the last reason when the deadline has passed.
#[track_caller]
pub fn eventually<T>(what: &str, deadline: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(result) => return result,
            Err(reason) => {
                assert!(
                    started.elapsed() < deadline,
                    "{what}: not within {} s: {reason}",
                    deadline.as_secs()
                );
            }
        }
        pause(Duration::from_millis(100));
    }
}

/// Lets time pass, between two looks at a condition or because a rate is measured over time.
pub fn pause(duration: Duration) {
    let until = Instant::now() + duration;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Wall clock, epoch ms.
pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
