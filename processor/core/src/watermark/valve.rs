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
    /// Was idle when last heard of, and may no longer be.
    #[serde(skip)]
    unheard: bool,
}

impl Valve {
    /// With `channels` active channels, numbered from 0.
    pub fn new(channels: usize) -> Self {
        let channel = Channel { watermark: Watermark::NONE, idle: false, aligned: true, unheard: false };
        Self { channels: vec![channel; channels], last: Watermark::NONE, idle: false }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// There are `channels` now, a multiple of those so far: each goes on as one of those with the same remainder.
    pub fn divide(&mut self, channels: usize) {
        self.channels = self.channels.iter().copied().cycle().take(channels).collect();
    }

    /// Time has passed unseen: channels that were idle hold event time up until they say how far they are, or that they
    /// still are.
    pub fn resume(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.unheard = channel.idle);
    }

    /// A marker of a channel. What it changes is told in this order: watermark, status.
    pub fn marker(&mut self, channel: usize, marker: Marker) -> Combined {
        // That it is active says not yet how far it is.
        let heard = marker != Marker::Active
            && self.channels.get_mut(channel).is_some_and(|channel| std::mem::take(&mut channel.unheard));
        let mut changed = self.mark(channel, marker);
        if heard && changed.advanced.is_none() {
            changed.advanced = self.advance(self.slowest_or_all());
        }
        changed
    }

    fn mark(&mut self, channel: usize, marker: Marker) -> Combined {
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
                    changed.advanced = self.advance(self.slowest_or_all());
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

    /// If all are idle, the furthest: nobody is waited for.
    fn slowest_or_all(&self) -> Option<Watermark> {
        let all = self.channels.iter().all(|channel| channel.idle);
        if all { self.channels.iter().map(|channel| channel.watermark).max() } else { self.slowest() }
    }

    fn advance(&mut self, to: Option<Watermark>) -> Option<Watermark> {
        let unheard = self.channels.iter().any(|channel| channel.unheard);
        let to = to.filter(|&to| to > self.last && !unheard)?;
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
    fn a_channel_that_was_idle_before_a_break_is_waited_for_until_it_speaks() {
        let mut valve = Valve::new(3);
        for channel in 0..3 {
            wm(&mut valve, channel, 10);
        }
        valve.marker(1, Marker::Idle);
        valve.marker(2, Marker::Idle);
        valve.resume();
        assert_eq!(wm(&mut valve, 0, 30), None);
        assert_eq!(valve.marker(2, Marker::Idle).advanced, None, "so does the other");
        assert_eq!(valve.marker(1, Marker::Active).advanced, None, "how far is it?");
        assert_eq!(wm(&mut valve, 1, 20), Some(20));
        assert_eq!(wm(&mut valve, 1, 40), Some(30));

        valve.marker(0, Marker::Idle);
        valve.resume();
        assert_eq!(valve.marker(1, Marker::Idle).advanced, None);
        valve.marker(2, Marker::Idle);
        assert_eq!(valve.marker(0, Marker::Idle).advanced, None, "they were not behind");
        assert_eq!(valve.watermark(), Watermark(40));
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
