//! Five times a second the hub builds one overview and one delta. Each is encoded at most once per encoding, whatever
//! the number of clients; clients share the bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes};
use millrace_wire::live::{Delta, Hello, Overview, ServerMessage};
use tokio::sync::broadcast;

use crate::clock::locked;

/// Deltas kept for clients that come back: 20 s.
const HISTORY: usize = 100;
/// Ticks that a client may be behind before it gets a fresh start: 2 s.
pub const BEHIND: usize = 10;

/// How messages are encoded on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Binary frames.
    Postcard,
    /// Text frames.
    Json,
}

impl Encoding {
    /// A message as a frame.
    pub fn frame(self, message: &ServerMessage) -> Option<Message> {
        match self {
            Self::Postcard => postcard::to_stdvec(message).map(|v| Message::Binary(Bytes::from(v))).ok(),
            Self::Json => serde_json::to_string(message).map(|v| Message::Text(Utf8Bytes::from(v))).ok(),
        }
    }
}

/// A message that is encoded when somebody wants it, once.
struct Shared {
    message: ServerMessage,
    postcard: OnceLock<Option<Message>>,
    json: OnceLock<Option<Message>>,
}

impl Shared {
    fn new(message: ServerMessage) -> Self {
        Self { message, postcard: OnceLock::new(), json: OnceLock::new() }
    }

    /// The frame; clones share the bytes.
    fn frame(&self, encoding: Encoding) -> Option<Message> {
        let cell = match encoding {
            Encoding::Postcard => &self.postcard,
            Encoding::Json => &self.json,
        };
        cell.get_or_init(|| encoding.frame(&self.message)).clone()
    }
}

/// One tick.
pub struct Tick {
    /// Its number.
    pub seq: u64,
    /// History was read anew: everyone starts afresh.
    pub fresh: bool,
    delta: Shared,
}

impl Tick {
    /// The delta as a frame.
    pub fn frame(&self, encoding: Encoding) -> Option<Message> {
        self.delta.frame(encoding)
    }
}

struct State {
    /// The newest `Hello`, made when somebody wants it.
    hello: Arc<Shared>,
    overview: Arc<Overview>,
    history: VecDeque<Arc<Tick>>,
    seq: u64,
}

/// The feed.
pub struct Hub {
    state: Mutex<State>,
    ticks: broadcast::Sender<Arc<Tick>>,
    clients: AtomicUsize,
}

impl Hub {
    /// `start` is larger than any number of an earlier process: the time in ms is, as there are five ticks a second.
    pub fn new(start: u64) -> Self {
        let (ticks, _) = broadcast::channel(BEHIND * 2);
        let hello = Hello {
            seq: start,
            overview: Overview::default(),
            history: Vec::new(),
            alerts: Vec::new(),
            averages: Vec::new(),
            checkpoints: Vec::new(),
            recoveries: Vec::new(),
        };
        let hello = Arc::new(Shared::new(ServerMessage::Hello(Box::new(hello))));
        let overview = Arc::default();
        let state = State { hello, overview, history: VecDeque::new(), seq: start };
        Self { state: Mutex::new(state), ticks, clients: AtomicUsize::new(0) }
    }

    /// The number of the next tick.
    pub fn next_seq(&self) -> u64 {
        locked(&self.state).seq + 1
    }

    /// Takes in a tick: its delta, and what a client that comes now starts from.
    pub fn publish(&self, delta: Delta, hello: Hello, fresh: bool) {
        let seq = delta.seq;
        let overview = Arc::new(delta.overview.clone());
        let tick = Arc::new(Tick { seq, fresh, delta: Shared::new(ServerMessage::Delta(Box::new(delta))) });
        let mut state = locked(&self.state);
        state.seq = seq;
        state.overview = overview;
        state.hello = Arc::new(Shared::new(ServerMessage::Hello(Box::new(hello))));
        if fresh {
            state.history.clear();
        } else {
            state.history.push_back(tick.clone());
        }
        if state.history.len() > HISTORY {
            state.history.pop_front();
        }
        // Under the lock, so that a client that joins misses nothing and gets nothing twice. Nobody may be listening.
        let _ = self.ticks.send(tick);
    }

    /// The newest overview.
    pub fn overview(&self) -> Arc<Overview> {
        locked(&self.state).overview.clone()
    }

    /// Starts listening: what to send first (a `Hello`, or the deltas after `seen` if they are all there), and the ticks
    /// that follow.
    pub fn join(
        &self,
        encoding: Encoding,
        seen: Option<u64>,
    ) -> (Vec<Message>, broadcast::Receiver<Arc<Tick>>) {
        let state = locked(&self.state);
        let receiver = self.ticks.subscribe();
        let oldest = state.history.front().map(|t| t.seq);
        let resumable = seen.filter(|&seen| {
            seen == state.seq
                || (seen < state.seq && oldest.is_some_and(|oldest| oldest <= seen.saturating_add(1)))
        });
        if let Some(seen) = resumable {
            let missed: Vec<Arc<Tick>> = state.history.iter().filter(|t| t.seq > seen).cloned().collect();
            drop(state);
            return (missed.iter().filter_map(|t| t.frame(encoding)).collect(), receiver);
        }
        let hello = state.hello.clone();
        drop(state);
        (hello.frame(encoding).into_iter().collect(), receiver)
    }

    /// Clients connected now.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts a client until it is dropped.
    pub fn client(self: &Arc<Self>) -> Client {
        self.clients.fetch_add(1, Ordering::Relaxed);
        Client(self.clone())
    }
}

/// A client that is counted.
pub struct Client(Arc<Hub>);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(hub: &Hub, fresh: bool) {
        let seq = hub.next_seq();
        let overview = Overview { at_ms: seq as i64, ..Overview::default() };
        let delta = Delta {
            seq,
            overview: overview.clone(),
            sample: None,
            alerts: vec![],
            alerts_skipped: 0,
            averages: vec![],
            averages_skipped: 0,
            checkpoints: vec![],
            recoveries: vec![],
        };
        let (history, alerts, averages) = (vec![], vec![], vec![]);
        let hello =
            Hello { seq, overview, history, alerts, averages, checkpoints: vec![], recoveries: vec![] };
        hub.publish(delta, hello, fresh);
    }

    fn read(frames: &[Message]) -> Vec<(bool, u64)> {
        let read = |frame: &Message| match frame {
            Message::Binary(bytes) => postcard::from_bytes(bytes).unwrap(),
            Message::Text(text) => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        };
        frames
            .iter()
            .map(|frame| match read(frame) {
                ServerMessage::Hello(hello) => (true, hello.seq),
                ServerMessage::Delta(delta) => (false, delta.seq),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_missed_or_a_fresh_start() {
        let hub = Hub::new(1_000);
        for _ in 0..150 {
            tick(&hub, false);
        }
        for encoding in [Encoding::Postcard, Encoding::Json] {
            let joined = |seen| read(&hub.join(encoding, seen).0);
            assert_eq!(joined(None), [(true, 1_150)]);
            assert_eq!(joined(Some(1_148)), [(false, 1_149), (false, 1_150)]);
            assert_eq!(joined(Some(1_150)), []);
            assert_eq!(joined(Some(1_050)).len(), 100);
            assert_eq!(joined(Some(1_049)), [(true, 1_150)], "too long ago");
            assert_eq!(joined(Some(9_999)), [(true, 1_150)], "of another server");
        }
        tick(&hub, true);
        assert_eq!(read(&hub.join(Encoding::Json, Some(1_150)).0), [(true, 1_151)], "history was read anew");
    }

    #[test]
    fn clients_share_one_encoding() {
        let hub = Hub::new(0);
        let (_, mut a) = hub.join(Encoding::Postcard, None);
        let (_, mut b) = hub.join(Encoding::Postcard, None);
        tick(&hub, false);
        let frame =
            |r: &mut broadcast::Receiver<Arc<Tick>>| match r.try_recv().unwrap().frame(Encoding::Postcard) {
                Some(Message::Binary(bytes)) => bytes.as_ptr(),
                other => panic!("{other:?}"),
            };
        assert_eq!(frame(&mut a), frame(&mut b));
    }
}
