//! What happens after a session has failed.

use std::time::{Duration, Instant};

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Kafka: brokers away, a transaction aborted, this worker fenced. Tried again for as long as it takes.
    #[error("{0:#}")]
    Kafka(anyhow::Error),
    /// The app's state or configuration. Tried again a few times.
    #[error("{0:#}")]
    App(anyhow::Error),
}

impl From<rdkafka::error::KafkaError> for SessionError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        Self::Kafka(error.into())
    }
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start a session after so long.
    Retry(Duration),
    /// Give up: the app is FAILED.
    Fail,
}

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LARGEST_DELAY: Duration = Duration::from_secs(5);
const APP_ATTEMPTS: u32 = 3;
const APP_DELAY: Duration = Duration::from_secs(10);
/// A session that lived so long was healthy: counting starts again.
const HEALTHY: Duration = Duration::from_secs(60);

/// Kafka's failures: doubling delay from 0.1 s to 5 s, for ever. The app's: 3 attempts, 10 s apart (Flink's
/// fixed-delay strategy), then FAILED.
#[derive(Debug, Default)]
pub struct RestartStrategy {
    kafka_failures: u32,
    app_failures: u32,
}

impl RestartStrategy {
    /// Decides after a session that began at `started`.
    pub fn after(&mut self, error: &SessionError, started: Instant) -> Next {
        if started.elapsed() > HEALTHY {
            *self = Self::default();
        }
        match error {
            SessionError::Kafka(_) => {
                self.kafka_failures += 1;
                Next::Retry(LARGEST_DELAY.min(FIRST_DELAY * 2_u32.pow(self.kafka_failures.min(10) - 1)))
            }
            SessionError::App(_) if self.app_failures < APP_ATTEMPTS => {
                self.app_failures += 1;
                Next::Retry(APP_DELAY)
            }
            SessionError::App(_) => Next::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_is_tried_for_ever_and_an_app_three_times() {
        let mut strategy = RestartStrategy::default();
        let (now, kafka, app) = (
            Instant::now(),
            SessionError::Kafka(anyhow::anyhow!("x")),
            SessionError::App(anyhow::anyhow!("y")),
        );
        let delays: Vec<_> = (0..20).map(|_| strategy.after(&kafka, now)).collect();
        assert_eq!(delays[..2], [Next::Retry(FIRST_DELAY), Next::Retry(FIRST_DELAY * 2)]);
        assert_eq!(delays[19], Next::Retry(LARGEST_DELAY));
        let app: Vec<_> = (0..4).map(|_| strategy.after(&app, now)).collect();
        assert_eq!(app, [Next::Retry(APP_DELAY), Next::Retry(APP_DELAY), Next::Retry(APP_DELAY), Next::Fail]);
    }
}
