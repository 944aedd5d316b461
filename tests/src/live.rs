use std::net::TcpStream;
use std::time::{Duration, Instant};

use millrace_wire::live::{self, ClientMessage, ServerMessage};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::HandshakeError;
use tungstenite::{Message, WebSocket};

use crate::Api;

/// A client of the WebSocket, speaking JSON.
pub struct Live(WebSocket<TcpStream>);

impl Live {
    /// Connects from a page of `origin`.
    ///
    /// # Errors
    /// The HTTP status of a refusal.
    pub fn connect(api: &Api, origin: &str) -> Result<Self, u16> {
        let address = api.url.trim_start_matches("http://").trim_end_matches('/');
        let mut request = format!("ws://{address}/api/v1/live").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("origin", origin.parse().unwrap());
        headers.insert("sec-websocket-protocol", live::JSON.parse().unwrap());
        if let Some(cookie) = &api.cookie {
            headers.insert("cookie", cookie.parse().unwrap());
        }
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, answer)) => {
                assert_eq!(answer.headers()["sec-websocket-protocol"], live::JSON);
                Ok(Self(socket))
            }
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message.
    pub fn hear(&mut self) -> ServerMessage {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < Duration::from_secs(10), "the server says nothing");
            if let Message::Text(text) = self.0.read().unwrap() {
                return serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"));
            }
        }
    }

    /// Says something.
    pub fn say(&mut self, message: &ClientMessage) {
        self.0.send(Message::text(serde_json::to_string(message).unwrap())).unwrap();
    }
}
