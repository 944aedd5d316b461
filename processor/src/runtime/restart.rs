//! What happens after a session or an app has failed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::anyhow;

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

/// Runs work of an app. A panic in it is a failure of the app and not of the process: the session ends, and what the panic
/// left half done with it.
///
/// # Errors
/// Those of the work, and a panic.
pub fn of_app<T>(
    app: &'static str,
    work: impl FnOnce() -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(SessionError::app(app)(anyhow!("a panic, which is a bug: {}", text.unwrap_or("no message"))))
    })
}

impl From<rdkafka::error::KafkaError> for SessionError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        Self::Kafka(error.into())
    }
}

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LARGEST_DELAY: Duration = Duration::from_secs(5);
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
        doubled(FIRST_DELAY, self.failures - 1, LARGEST_DELAY)
    }
}

fn doubled(first: Duration, times: u32, largest: Duration) -> Duration {
    largest.min(first.saturating_mul(2_u32.saturating_pow(times)))
}

/// When to start an app again that failed. Flink's strategies, with its names: as text, `fixed-delay:ATTEMPTS:DELAY_S`,
/// `exponential-delay:FIRST_S:LARGEST_S` or `failure-rate:FAILURES:IN_S:DELAY_S`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// So many attempts, so far apart, then FAILED. An app that ran for a minute begins anew.
    FixedDelay {
        /// How many.
        attempts: u32,
        /// How far apart.
        delay: Duration,
    },
    /// For ever, each time after twice the wait. An app that ran for a minute begins anew.
    ExponentialDelay {
        /// The first wait.
        first: Duration,
        /// The longest.
        largest: Duration,
    },
    /// FAILED with more than so many failures within a time.
    FailureRate {
        /// How many.
        failures: u32,
        /// Within which time.
        within: Duration,
        /// Before each attempt.
        delay: Duration,
    },
}

impl Default for Strategy {
    fn default() -> Self {
        Self::FixedDelay { attempts: 3, delay: Duration::from_secs(10) }
    }
}

impl std::str::FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is no restart strategy: give fixed-delay:ATTEMPTS:DELAY_S, exponential-delay:FIRST_S:LARGEST_S or \
                 failure-rate:FAILURES:IN_S:DELAY_S, in whole numbers"
            )
        };
        let (name, numbers) = text.split_once(':').ok_or_else(refused)?;
        let numbers: Vec<u32> =
            numbers.split(':').map(|n| n.parse().map_err(|_| refused())).collect::<Result<_, _>>()?;
        let s = |n: u32| Duration::from_secs(n.into());
        match (name, numbers.as_slice()) {
            ("fixed-delay", &[attempts, delay]) => Ok(Self::FixedDelay { attempts, delay: s(delay) }),
            ("exponential-delay", &[first, largest]) if first > 0 => {
                Ok(Self::ExponentialDelay { first: s(first), largest: s(largest) })
            }
            ("failure-rate", &[failures, within, delay]) => {
                Ok(Self::FailureRate { failures, within: s(within), delay: s(delay) })
            }
            _ => Err(refused()),
        }
    }
}

/// The failures of an app, judged by a strategy.
#[derive(Debug, Default)]
pub struct Failures {
    strategy: Strategy,
    count: u32,
    at: VecDeque<Instant>,
}

impl Failures {
    /// None so far.
    pub fn new(strategy: Strategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// How long to wait after a failure now of an app that was started at `started`; `None`: give up.
    pub fn after(&mut self, started: Instant) -> Option<Duration> {
        let now = Instant::now();
        if now.duration_since(started) > HEALTHY {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        match self.strategy {
            Strategy::FixedDelay { attempts, delay } => (self.count <= attempts).then_some(delay),
            Strategy::ExponentialDelay { first, largest } => Some(doubled(first, self.count - 1, largest)),
            Strategy::FailureRate { failures, within, delay } => {
                self.at.push_back(now);
                while self.at.front().is_some_and(|at| now.duration_since(*at) > within) {
                    self.at.pop_front();
                }
                (self.at.len() <= failures as usize).then_some(delay)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_of_its_app() {
        let number = |text: &str| of_app("bank", || Ok(text.parse::<u8>().unwrap()));
        assert_eq!(number("7").unwrap(), 7);
        let error = number("seven").unwrap_err();
        assert!(matches!(error, SessionError::App { app: "bank", .. }), "{error}");
        assert!(error.to_string().contains("ParseIntError"), "{error}");
    }

    #[test]
    fn kafka_is_tried_for_ever() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let delays: Vec<_> = (0..200).map(|_| backoff.after(now)).collect();
        assert_eq!(delays[..2], [FIRST_DELAY, FIRST_DELAY * 2]);
        assert_eq!(delays[199], LARGEST_DELAY);
    }

    #[test]
    fn an_app_is_tried_as_its_strategy_says() {
        let delays = |text: &str| -> Vec<_> {
            let mut failures = Failures::new(text.parse().unwrap());
            (0..5).map(|_| failures.after(Instant::now()).map(|delay| delay.as_secs())).collect()
        };
        assert_eq!(delays("fixed-delay:3:10"), [Some(10), Some(10), Some(10), None, None]);
        assert_eq!(delays("exponential-delay:1:5"), [Some(1), Some(2), Some(4), Some(5), Some(5)]);
        assert_eq!(delays("failure-rate:2:300:1"), [Some(1), Some(1), None, None, None]);
        assert_eq!(delays("failure-rate:2:0:1"), [Some(1); 5], "each failure is out of the time again");
        assert_eq!("fixed-delay:3:10".parse(), Ok(Strategy::default()));
        for wrong in
            ["", "fixed-delay", "fixed-delay:3", "fixed-delay:3:10:1", "never:1:1", "exponential-delay:0:1"]
        {
            assert!(wrong.parse::<Strategy>().unwrap_err().contains("failure-rate"), "{wrong}");
        }
    }
}
