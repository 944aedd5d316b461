//! One client's socket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{SinkExt, StreamExt};
use millrace_wire::live::{ClientMessage, ServerMessage};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::hub::{BEHIND, Encoding};
use crate::gateway::Gateway;

/// How long a client has to say that it resumes, before it is greeted as new.
const FIRST_WORD: Duration = Duration::from_millis(200);
/// A client that takes no frame for so long is gone.
const SEND: Duration = Duration::from_secs(10);
/// How often the session is looked at again, and a ping is sent.
const RECHECK: Duration = Duration::from_secs(30);
/// Messages a client may send per [`RECHECK`].
const MESSAGES: u32 = 120;

/// Why a socket ends.
enum End {
    Gone,
    SignedOut,
    Stopping,
    Refused(&'static str),
}

/// Serves a client until it leaves, its session ends, or the gateway stops.
pub async fn run(socket: WebSocket, gateway: Arc<Gateway>, encoding: Encoding, token: String) {
    let _client = gateway.hub.client();
    let (mut sink, mut stream) = socket.split();
    let end = serve(&mut sink, &mut stream, &gateway, encoding, &token).await;
    let close = |code, reason: &'static str| Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    let last = match end {
        End::Gone => return,
        End::SignedOut => {
            if let Some(frame) = encoding.frame(&ServerMessage::SignedOut) {
                let _ = timeout(SEND, sink.send(frame)).await;
            }
            close(close_code::POLICY, "signed out")
        }
        End::Stopping => close(close_code::AWAY, "the gateway stops"),
        End::Refused(why) => close(close_code::POLICY, why),
    };
    let _ = timeout(Duration::from_secs(1), sink.send(last)).await;
}

type Sink = futures_util::stream::SplitSink<WebSocket, Message>;
type Stream = futures_util::stream::SplitStream<WebSocket>;

async fn serve(
    sink: &mut Sink,
    stream: &mut Stream,
    gateway: &Gateway,
    encoding: Encoding,
    token: &str,
) -> End {
    let hub = &gateway.hub;
    let mut signed_out = gateway.signed_out.subscribe();
    let mut pending_pong = None;
    let seen = match timeout(FIRST_WORD, stream.next()).await {
        Err(_) => None,
        Ok(None | Some(Err(_))) => return End::Gone,
        Ok(Some(Ok(message))) => match read(&message, encoding) {
            Ok(Some(ClientMessage::Resume { seq })) => Some(seq),
            Ok(Some(ClientMessage::Ping { nonce })) => {
                pending_pong = encoding.frame(&ServerMessage::Pong { nonce });
                None
            }
            Ok(None) => None,
            Err(end) => return end,
        },
    };
    let (first, mut ticks) = hub.join(encoding, seen);
    for frame in first.into_iter().chain(pending_pong) {
        if !send(sink, frame).await {
            return End::Gone;
        }
    }
    let mut recheck = interval_at(Instant::now() + RECHECK, RECHECK);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = MESSAGES;
    loop {
        tokio::select! {
            () = gateway.shutdown.wait() => return End::Stopping,
            _ = recheck.tick() => {
                left = MESSAGES;
                // A database that does not answer ends nobody's session.
                if let Ok(None) = gateway.database.session(token).await {
                    return End::SignedOut;
                }
                if !send(sink, Message::Ping(axum::body::Bytes::new())).await {
                    return End::Gone;
                }
            }
            ended = signed_out.recv() => match ended {
                Ok(ended) if *ended != *token => {}
                Err(RecvError::Lagged(_)) => recheck.reset_immediately(),
                Ok(_) | Err(RecvError::Closed) => return End::SignedOut,
            },
            tick = ticks.recv() => {
                let behind = ticks.len() > BEHIND;
                let frames = match tick {
                    Ok(tick) if !tick.fresh && !behind => tick.frame(encoding).into_iter().collect(),
                    // Too slow, or history is new: start afresh, with the newest.
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        let (hello, fresh) = hub.join(encoding, None);
                        ticks = fresh;
                        hello
                    }
                    Err(RecvError::Closed) => return End::Stopping,
                };
                for frame in frames {
                    if !send(sink, frame).await {
                        return End::Gone;
                    }
                }
            }
            message = stream.next() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    None | Some(Err(_)) => return End::Gone,
                };
                if let Message::Close(_) = message {
                    return End::Gone;
                }
                left = left.saturating_sub(1);
                if left == 0 {
                    return End::Refused("too many messages");
                }
                let answers = match read(&message, encoding) {
                    Ok(Some(ClientMessage::Ping { nonce })) => {
                        encoding.frame(&ServerMessage::Pong { nonce }).into_iter().collect()
                    }
                    // Deltas have been sent since: a fresh start is what brings it up to date.
                    Ok(Some(ClientMessage::Resume { .. })) => {
                        let (hello, fresh) = hub.join(encoding, None);
                        ticks = fresh;
                        hello
                    }
                    Ok(None) => Vec::new(),
                    Err(end) => return end,
                };
                for frame in answers {
                    if !send(sink, frame).await {
                        return End::Gone;
                    }
                }
            }
        }
    }
}

async fn send(sink: &mut Sink, frame: Message) -> bool {
    matches!(timeout(SEND, sink.send(frame)).await, Ok(Ok(())))
}

fn read(message: &Message, encoding: Encoding) -> Result<Option<ClientMessage>, End> {
    match (message, encoding) {
        (Message::Binary(bytes), Encoding::Postcard) => {
            postcard::from_bytes(bytes).map(Some).map_err(|_| End::Refused("a message can't be read"))
        }
        (Message::Text(text), Encoding::Json) => {
            serde_json::from_str(text).map(Some).map_err(|_| End::Refused("a message can't be read"))
        }
        (Message::Ping(_) | Message::Pong(_), _) => Ok(None),
        (Message::Close(_), _) => Err(End::Gone),
        _ => Err(End::Refused("frames must be binary for postcard and text for JSON")),
    }
}
