use serde::{Deserialize, Serialize};

use super::Combined;
use crate::time::Watermark;

/// What a channel says of its progress, between its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Marker {
    /// No record with `time <= watermark` follows.
    Watermark(Watermark),
    /// Nothing may come for a while: do not wait for this channel.
    Idle,
    /// Records follow again.
    Active,
}

/// Merges the channels of a repartitioned stream by the [`Marker`]s in them. Flink's `StatusWatermarkValve`.
///
/// Unlike a [`Multiplexer`](super::Multiplexer), a channel that was idle and is behind when it comes back does not hold
/// the others up: it counts again once it has caught up, is *aligned*.
///
/// ```
/// use millrace_core::Watermark;
/// use millrace_core::watermark::{Marker, Valve};
/// let mut valve = Valve::new(2);
/// assert_eq!(valve.marker(0, Marker::Watermark(Watermark(15))).advanced, None);
/// assert_eq!(valve.marker(1, Marker::Watermark(Watermark(10))).advanced, Some(Watermark(10)));
/// assert_eq!(valve.marker(1, Marker::Idle).advanced, Some(Watermark(15)));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Valve {
    channels: Vec<Channel>,
    last: Watermark,
    idle: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Channel {
    watermark: Watermark,
    idle: bool,
    aligned: bool,
}

impl Valve {
    /// With `channels` active channels, numbered from 0.
    pub fn new(channels: usize) -> Self {
        let channel = Channel { watermark: Watermark::NONE, idle: false, aligned: true };
        Self { channels: vec![channel; channels], last: Watermark::NONE, idle: false }
    }

    /// A marker of a channel. What it changes is told in this order: watermark, status.
    pub fn marker(&mut self, channel: usize, marker: Marker) -> Combined {
        let Some(input) = self.channels.get_mut(channel) else { return Combined::default() };
        let last = self.last;
        let mut changed = Combined::default();
        match marker {
            Marker::Watermark(watermark) => {
                if input.idle || watermark <= input.watermark {
                    return changed;
                }
                input.watermark = watermark;
                input.aligned |= watermark >= last;
                changed.advanced = self.advance(self.slowest());
            }
            Marker::Idle => {
                if input.idle {
                    return changed;
                }
                (input.idle, input.aligned) = (true, false);
                // Only the channel that the others waited for lets them go on.
                let held = input.watermark == last;
                let all = self.channels.iter().all(|channel| channel.idle);
                if held {
                    let to =
                        if all { self.channels.iter().map(|c| c.watermark).max() } else { self.slowest() };
                    changed.advanced = self.advance(to);
                }
                if all {
                    self.idle = true;
                    changed.status = Some(true);
                }
            }
            Marker::Active => {
                if !input.idle {
                    return changed;
                }
                (input.idle, input.aligned) = (false, input.watermark >= last);
                if std::mem::take(&mut self.idle) {
                    changed.status = Some(false);
                }
            }
        }
        changed
    }

    fn slowest(&self) -> Option<Watermark> {
        self.channels.iter().filter(|channel| !channel.idle && channel.aligned).map(|c| c.watermark).min()
    }

    fn advance(&mut self, to: Option<Watermark>) -> Option<Watermark> {
        let to = to.filter(|&to| to > self.last)?;
        self.last = to;
        Some(to)
    }

    /// The merged watermark.
    pub fn watermark(&self) -> Watermark {
        self.last
    }

    /// Whether all channels are idle.
    pub fn is_idle(&self) -> bool {
        self.idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wm(valve: &mut Valve, channel: usize, at: i64) -> Option<i64> {
        valve.marker(channel, Marker::Watermark(Watermark(at))).advanced.map(|w| w.0)
    }

    #[test]
    fn a_channel_that_is_behind_counts_again_when_it_has_caught_up() {
        let mut valve = Valve::new(2);
        assert_eq!(valve.marker(1, Marker::Idle), Combined::default());
        assert_eq!(wm(&mut valve, 0, 20), Some(20));
        assert_eq!(wm(&mut valve, 1, 30), None, "an idle channel is not listened to");
        valve.marker(1, Marker::Active);
        assert_eq!(wm(&mut valve, 1, 10), None);
        assert_eq!(wm(&mut valve, 0, 25), Some(25), "not held up by the one that is behind");
        assert_eq!(wm(&mut valve, 1, 26), None);
        assert_eq!(wm(&mut valve, 0, 40), Some(26), "now it counts");
    }

    #[test]
    fn the_last_channel_to_become_idle_flushes_what_the_others_have_said() {
        let mut valve = Valve::new(2);
        wm(&mut valve, 0, 50);
        wm(&mut valve, 1, 10);
        assert_eq!(valve.marker(0, Marker::Idle), Combined::default(), "it was not the one waited for");
        let all = Combined { advanced: Some(Watermark(50)), status: Some(true) };
        assert_eq!(valve.marker(1, Marker::Idle), all);
        assert!(valve.is_idle());
        assert_eq!(valve.marker(9, Marker::Active), Combined::default(), "there is no such channel");
        let back = Combined { advanced: None, status: Some(false) };
        assert_eq!(valve.marker(0, Marker::Active), back);
        assert_eq!(valve.watermark(), Watermark(50));
    }
}
