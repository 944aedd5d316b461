//! What the page knows, as a pure reducer: messages in, state and "what changed" out. No browser in here.

use std::collections::VecDeque;

use millrace_wire::live::{AlertNote, Delta, Hello, Overview, Sample, ServerMessage};
use millrace_wire::result::SensorAverage;
use millrace_wire::telemetry::{Checkpoint, Recovery};

/// Seconds of history that the charts show.
pub const HISTORY_SECONDS: usize = 300;
/// Rows kept of averages and alerts.
pub const ROWS: usize = 50;
/// Checkpoints kept.
pub const CHECKPOINTS: usize = 60;
/// Recoveries kept.
pub const RECOVERIES: usize = 20;
/// Older than this is shown as stale, ms.
pub const STALE_MS: f64 = 3_000.0;

/// Parts of [`State`] that a message changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Gauges.
    pub overview: bool,
    /// Chart samples.
    pub history: bool,
    /// Alerts, or how many were skipped.
    pub alerts: bool,
    /// Averages, or how many were skipped.
    pub averages: bool,
    /// Checkpoints.
    pub checkpoints: bool,
    /// Recoveries.
    pub recoveries: bool,
    /// The server ended the session.
    pub signed_out: bool,
}

impl Changed {
    /// All parts.
    pub const ALL: Self = Self {
        overview: true,
        history: true,
        alerts: true,
        averages: true,
        checkpoints: true,
        recoveries: true,
        signed_out: false,
    };

    /// Both.
    pub fn merge(&mut self, other: Self) {
        self.overview |= other.overview;
        self.history |= other.history;
        self.alerts |= other.alerts;
        self.averages |= other.averages;
        self.checkpoints |= other.checkpoints;
        self.recoveries |= other.recoveries;
        self.signed_out |= other.signed_out;
    }
}

/// Everything that came over the live connection. Bounded: a tab in the background may run for days.
#[derive(Debug, Default)]
pub struct State {
    /// The last `seq` seen; `None` before the first `Hello`.
    pub seq: Option<u64>,
    /// Gauges.
    pub overview: Option<Overview>,
    /// One sample a second, oldest first.
    pub history: VecDeque<Sample>,
    /// Newest first.
    pub alerts: VecDeque<AlertNote>,
    /// Alerts that the server did not send, in total.
    pub alerts_skipped: u64,
    /// Newest first.
    pub averages: VecDeque<SensorAverage>,
    /// Averages that the server did not send, in total.
    pub averages_skipped: u64,
    /// Newest first.
    pub checkpoints: VecDeque<Checkpoint>,
    /// Newest first.
    pub recoveries: VecDeque<Recovery>,
}

impl State {
    /// Takes a message in. A delta that was seen already changes nothing.
    pub fn apply(&mut self, message: ServerMessage) -> Changed {
        match message {
            ServerMessage::Hello(hello) => self.hello(*hello),
            ServerMessage::Delta(delta) => self.delta(*delta),
            ServerMessage::Pong { .. } => Changed::default(),
            ServerMessage::SignedOut => Changed { signed_out: true, ..Changed::default() },
        }
    }

    fn hello(&mut self, hello: Hello) -> Changed {
        *self = Self { seq: Some(hello.seq), overview: Some(hello.overview), ..Self::default() };
        for sample in hello.history {
            push_sample(&mut self.history, sample);
        }
        push_front(&mut self.alerts, hello.alerts, ROWS);
        push_front(&mut self.averages, hello.averages, ROWS);
        push_front(&mut self.checkpoints, hello.checkpoints, CHECKPOINTS);
        push_front(&mut self.recoveries, hello.recoveries, RECOVERIES);
        Changed::ALL
    }

    fn delta(&mut self, delta: Delta) -> Changed {
        if self.seq.is_some_and(|seen| delta.seq <= seen) {
            return Changed::default();
        }
        let changed = Changed {
            overview: true,
            history: delta.sample.is_some(),
            alerts: !delta.alerts.is_empty() || delta.alerts_skipped > 0,
            averages: !delta.averages.is_empty() || delta.averages_skipped > 0,
            checkpoints: !delta.checkpoints.is_empty(),
            recoveries: !delta.recoveries.is_empty(),
            signed_out: false,
        };
        self.seq = Some(delta.seq);
        self.overview = Some(delta.overview);
        if let Some(sample) = delta.sample {
            push_sample(&mut self.history, sample);
        }
        push_front(&mut self.alerts, delta.alerts, ROWS);
        self.alerts_skipped = self.alerts_skipped.saturating_add(delta.alerts_skipped);
        push_front(&mut self.averages, delta.averages, ROWS);
        self.averages_skipped = self.averages_skipped.saturating_add(delta.averages_skipped);
        push_front(&mut self.checkpoints, delta.checkpoints, CHECKPOINTS);
        push_front(&mut self.recoveries, delta.recoveries, RECOVERIES);
        changed
    }
}

fn push_sample(history: &mut VecDeque<Sample>, sample: Sample) {
    if history.back().is_some_and(|last| sample.at_ms <= last.at_ms) {
        return;
    }
    history.push_back(sample);
    let span = HISTORY_SECONDS as i64 * 1_000;
    let newest = history.back().map_or(0, |s| s.at_ms);
    while history.front().is_some_and(|first| newest - first.at_ms > span) {
        history.pop_front();
    }
}

fn push_front<T>(rows: &mut VecDeque<T>, oldest_first: Vec<T>, keep: usize) {
    for row in oldest_first {
        rows.push_front(row);
    }
    rows.truncate(keep);
}

/// How the live connection is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Connection {
    /// The first attempt is under way.
    #[default]
    Connecting,
    /// Messages come.
    Live,
    /// The next attempt is at this time, epoch ms.
    Reconnecting {
        /// Epoch ms.
        at_ms: f64,
    },
    /// There is no session.
    SignedOut,
}

/// Milliseconds to wait before the n-th attempt (from 0): 250 doubling to 8,000, of which `jitter` (0 to 1) takes away
/// up to a half, so that a thousand pages don't come back in the same instant.
pub fn backoff_ms(attempt: u32, jitter: f64) -> f64 {
    let full = 250.0 * f64::from(2_u32.saturating_pow(attempt.min(5)));
    full * (1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: i64) -> Sample {
        Sample { at_ms: at_s * 1_000, ..Sample::default() }
    }

    fn average(count: u64) -> SensorAverage {
        SensorAverage {
            sensor_id: "s-1".into(),
            location: "hall".into(),
            window_start: 0,
            window_end: 10_000,
            average: 50.0,
            min: 40.0,
            max: 60.0,
            count,
        }
    }

    fn delta(seq: u64) -> Delta {
        Delta {
            seq,
            overview: Overview { produced_total: seq, ..Overview::default() },
            sample: None,
            alerts: vec![],
            alerts_skipped: 0,
            averages: vec![],
            averages_skipped: 0,
            checkpoints: vec![],
            recoveries: vec![],
        }
    }

    fn hello(seq: u64) -> ServerMessage {
        ServerMessage::Hello(Box::new(Hello {
            seq,
            overview: Overview::default(),
            history: (0..600).map(sample).collect(),
            alerts: vec![],
            averages: vec![average(1), average(2)],
            checkpoints: vec![],
            recoveries: vec![],
        }))
    }

    #[test]
    fn hello_replaces_everything_and_keeps_what_is_shown() {
        let mut state = State { averages_skipped: 9, ..State::default() };
        assert_eq!(state.apply(hello(7)), Changed::ALL);
        assert_eq!(state.seq, Some(7));
        assert_eq!(state.averages_skipped, 0);
        assert_eq!(state.averages[0].count, 2, "newest first");
        assert_eq!(state.history.len(), HISTORY_SECONDS + 1);
        assert_eq!(state.history.back().unwrap().at_ms, 599_000);
    }

    #[test]
    fn a_delta_seen_before_changes_nothing() {
        let mut state = State::default();
        state.apply(hello(7));
        assert_eq!(state.apply(ServerMessage::Delta(Box::new(delta(7)))), Changed::default());
        let changed = state.apply(ServerMessage::Delta(Box::new(delta(8))));
        assert!(changed.overview && !changed.history && !changed.averages);
        assert_eq!(state.overview.unwrap().produced_total, 8);
    }

    #[test]
    fn rows_are_bounded_and_skipped_ones_are_counted() {
        let mut state = State::default();
        state.apply(hello(0));
        for seq in 1..=30 {
            let mut d = delta(seq);
            d.averages = (0..20).map(|i| average(seq * 100 + i)).collect();
            d.averages_skipped = 3;
            assert!(state.apply(ServerMessage::Delta(Box::new(d))).averages);
        }
        assert_eq!(state.averages.len(), ROWS);
        assert_eq!(state.averages[0].count, 3_019);
        assert_eq!(state.averages_skipped, 90);
    }

    #[test]
    fn a_gap_in_the_history_stays_a_gap() {
        let mut state = State::default();
        for at in [1, 2, 60, 59] {
            let mut d = delta(state.seq.unwrap_or(0) + 1);
            d.sample = Some(sample(at));
            state.apply(ServerMessage::Delta(Box::new(d)));
        }
        let times: Vec<_> = state.history.iter().map(|s| s.at_ms / 1_000).collect();
        assert_eq!(times, [1, 2, 60]);
    }

    #[test]
    fn backoff_grows_to_eight_seconds_with_jitter() {
        assert_eq!(backoff_ms(0, 0.0), 250.0);
        assert_eq!(backoff_ms(3, 0.0), 2_000.0);
        assert_eq!(backoff_ms(40, 0.0), 8_000.0);
        assert_eq!(backoff_ms(40, 1.0), 4_000.0);
    }

    #[test]
    fn what_the_server_writes_is_what_we_read() {
        let message = ServerMessage::Delta(Box::new(delta(3)));
        let bytes = postcard::to_stdvec(&message).unwrap();
        assert_eq!(postcard::from_bytes::<ServerMessage>(&bytes).unwrap(), message);
    }
}
