//! What happens after a session or an app has failed.

use std::time::{Duration, Instant};

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Kafka: brokers away, a transaction aborted, this worker fenced. Tried again for as long as it takes.
    #[error("{0:#}")]
    Kafka(anyhow::Error),
    /// The state or configuration of an app. It is tried again a few times; the other apps go on without it.
    #[error("{app}: {error:#}")]
    App {
        /// Which.
        app: &'static str,
        /// What is wrong.
        error: anyhow::Error,
    },
}

impl SessionError {
    /// For `map_err`.
    pub fn app<E: Into<anyhow::Error>>(app: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::App { app, error: error.into() }
    }
}

impl From<rdkafka::error::KafkaError> for SessionError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        Self::Kafka(error.into())
    }
}

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LARGEST_DELAY: Duration = Duration::from_secs(5);
const APP_ATTEMPTS: u32 = 3;
const APP_DELAY: Duration = Duration::from_secs(10);
/// What lived so long was healthy: counting starts again.
const HEALTHY: Duration = Duration::from_secs(60);

/// When to start the next session after one that Kafka ended: doubling delay from 0.1 s to 5 s, for ever.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after a session that began at `started`.
    pub fn after(&mut self, started: Instant) -> Duration {
        if started.elapsed() > HEALTHY {
            self.failures = 0;
        }
        self.failures += 1;
        LARGEST_DELAY.min(FIRST_DELAY * 2_u32.pow(self.failures.min(10) - 1))
    }
}

/// When to start an app again that failed: 3 attempts, 10 s apart (Flink's fixed-delay strategy), then FAILED.
#[derive(Debug, Default)]
pub struct FixedDelay {
    failures: u32,
}

impl FixedDelay {
    /// How long to wait after an app that was started at `started`; `None`: give up.
    pub fn after(&mut self, started: Instant) -> Option<Duration> {
        if started.elapsed() > HEALTHY {
            self.failures = 0;
        }
        self.failures += 1;
        (self.failures <= APP_ATTEMPTS).then_some(APP_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_is_tried_for_ever_and_an_app_three_times() {
        let (mut backoff, mut fixed, now) = (Backoff::default(), FixedDelay::default(), Instant::now());
        let delays: Vec<_> = (0..20).map(|_| backoff.after(now)).collect();
        assert_eq!(delays[..2], [FIRST_DELAY, FIRST_DELAY * 2]);
        assert_eq!(delays[19], LARGEST_DELAY);
        let app: Vec<_> = (0..4).map(|_| fixed.after(now)).collect();
        assert_eq!(app, [Some(APP_DELAY), Some(APP_DELAY), Some(APP_DELAY), None]);
    }
}
