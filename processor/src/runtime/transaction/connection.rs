//! A connection to a broker: requests out, answers in, in the same order.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::{
    RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use millrace_service::KafkaArgs;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::sasl::Credentials;

/// How long an address may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a broker may take to take a request, or to answer one that needs no other broker.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an answer that has begun to arrive may take.
const ARRIVING: Duration = Duration::from_secs(10);
/// No answer to what is asked here is longer.
const LONGEST_ANSWER: usize = 64 << 20;

/// How to reach and convince a broker.
pub struct Access {
    /// Addresses to start from.
    pub bootstrap: Vec<String>,
    client: StrBytes,
    tls: Option<Arc<ClientConfig>>,
    credentials: Option<Credentials>,
}

impl Access {
    /// With the settings of the other clients.
    ///
    /// # Errors
    /// A setting is not supported, or the certificates can't be read.
    pub fn new(kafka: &KafkaArgs, client: &str) -> anyhow::Result<Self> {
        let protocol = kafka.protocol();
        let credentials = protocol.starts_with("SASL").then(|| {
            let (name, password) = (kafka.sasl_username.as_deref(), kafka.sasl_password.as_deref());
            Credentials::new(&kafka.sasl_mechanism, name.unwrap_or_default(), password.unwrap_or_default())
        });
        let mut bootstrap: Vec<String> =
            kafka.bootstrap_servers.split(',').map(|address| address.trim().to_owned()).collect();
        // So that not everybody begins with the same broker.
        let first = client.bytes().map(usize::from).sum::<usize>() % bootstrap.len().max(1);
        bootstrap.rotate_left(first);
        let tls = protocol.ends_with("SSL").then(|| tls(kafka.ssl_ca_location.as_deref()));
        Ok(Self {
            bootstrap,
            client: StrBytes::from_string(client.to_owned()),
            tls: tls.transpose()?,
            credentials: credentials.transpose().map_err(anyhow::Error::msg)?,
        })
    }
}

fn tls(authorities: Option<&str>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let trusted = match authorities {
        Some(file) => CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>()?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(trusted);
    anyhow::ensure!(added > 0, "there is no certificate of an authority to trust: set SSL_CA_LOCATION");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

trait Duplex: Read + Write + Send {
    /// Whether there are bytes to read that the socket does not have any more.
    fn holds(&mut self) -> bool;
}

impl Duplex for TcpStream {
    fn holds(&mut self) -> bool {
        false
    }
}

impl Duplex for StreamOwned<ClientConnection, TcpStream> {
    fn holds(&mut self) -> bool {
        self.conn.process_new_packets().is_ok_and(|state| state.plaintext_bytes_to_read() > 0)
    }
}

/// A connection. After an error of any of its methods, nothing else is to be done with it.
pub struct Connection {
    stream: Box<dyn Duplex>,
    socket: TcpStream,
    client: StrBytes,
    sent: i32,
    answered: i32,
    buffer: BytesMut,
}

impl Connection {
    /// Connects and authenticates.
    ///
    /// # Errors
    /// Nobody answers there, or the broker refuses (`PermissionDenied`).
    pub fn open(address: &str, access: &Access) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut connected = None;
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(socket) => {
                    connected = Some(socket);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let socket = connected.ok_or(last)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream = socket.try_clone()?;
        let stream: Box<dyn Duplex> = match &access.tls {
            None => Box::new(stream),
            Some(config) => {
                let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host).map_err(io::Error::other)?;
                let tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(tls, stream))
            }
        };
        let client = access.client.clone();
        let mut connection = Self { stream, socket, client, sent: 0, answered: 0, buffer: BytesMut::new() };
        if let Some(credentials) = &access.credentials {
            connection.authenticate(credentials)?;
        }
        Ok(connection)
    }

    fn authenticate(&mut self, credentials: &Credentials) -> io::Result<()> {
        let denied = |text: String| io::Error::new(io::ErrorKind::PermissionDenied, text);
        let mechanism = StrBytes::from_static_str(credentials.mechanism());
        let offered = self.call(&SaslHandshakeRequest::default().with_mechanism(mechanism), 1)?;
        if offered.error_code.is_err() {
            let names: Vec<&str> = offered.mechanisms.iter().map(StrBytes::as_str).collect();
            return Err(denied(format!("the broker wants another SASL mechanism: {}", names.join(", "))));
        }
        let mut nonce = [0; 18];
        SystemRandom::new().fill(&mut nonce).map_err(|_| io::Error::other("no random numbers"))?;
        let nonce = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, nonce);
        let proved: Result<(), Denied> = credentials.prove(&nonce, |bytes| {
            let answer = self.call(&SaslAuthenticateRequest::default().with_auth_bytes(bytes.into()), 2)?;
            match answer.error_code.err() {
                None => Ok(answer.auth_bytes.to_vec()),
                Some(error) => {
                    let text = answer.error_message.as_deref().map_or(error.to_string(), str::to_owned);
                    Err(Denied(denied(text)))
                }
            }
        });
        proved.map_err(|Denied(error)| error)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        self.sent = self.sent.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.sent)
            .with_client_id(Some(self.client.clone()));
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 4]);
        header.encode(&mut self.buffer, R::header_version(version)).map_err(io::Error::other)?;
        request.encode(&mut self.buffer, version).map_err(io::Error::other)?;
        let length = u32::try_from(self.buffer.len() - 4).map_err(io::Error::other)?;
        if let Some(front) = self.buffer.first_chunk_mut() {
            *front = length.to_be_bytes();
        }
        self.stream.write_all(&self.buffer)?;
        self.stream.flush()
    }

    /// Whether the answer begins to arrive within a time.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn ready(&mut self, within: Duration) -> io::Result<bool> {
        if self.stream.holds() {
            self.socket.set_read_timeout(Some(ARRIVING))?;
            return Ok(true);
        }
        self.socket.set_read_timeout(Some(within))?;
        let peeked = self.socket.peek(&mut [0]);
        self.socket.set_read_timeout(Some(ARRIVING))?;
        match peeked {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The answer to the oldest request that has none yet.
    ///
    /// # Errors
    /// The connection is gone, or the answer makes no sense.
    pub fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        if length > LONGEST_ANSWER {
            return Err(io::Error::other(format!("an answer of {length} bytes: is this a Kafka broker?")));
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version));
        self.answered = self.answered.wrapping_add(1);
        if header.map_err(io::Error::other)?.correlation_id != self.answered {
            return Err(io::Error::other("an answer to something else"));
        }
        R::Response::decode(&mut answer, version).map_err(io::Error::other)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// As of [`send`](Self::send) and [`receive`](Self::receive).
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.socket.set_read_timeout(Some(PATIENCE))?;
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    /// Whether a request has no answer yet. Whoever asks something else then would take that answer for its own.
    pub fn owes(&self) -> bool {
        self.sent != self.answered
    }
}

/// Why authentication failed.
struct Denied(io::Error);

impl From<io::Error> for Denied {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}

impl From<String> for Denied {
    fn from(text: String) -> Self {
        Self(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}
