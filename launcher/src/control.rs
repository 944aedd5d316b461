//! The supervisor's control socket: JSON lines, one request per connection.
//!
//! `{"do":"status"}` is answered by `{"snapshot":{..}}`; `{"do":"component","name":"kafka-1","action":"kill"}` by
//! `{"done":".."}` or `{"error":".."}`; `{"do":"down"}` by `{"note":".."}` lines until the connection ends.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::board::Snapshot;
use crate::layout::Layout;

/// What can be done to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start it, and keep it running.
    Start,
    /// SIGKILL; it stays down until it is started.
    Kill,
    /// Stop it cleanly; it stays down until it is started.
    Stop,
}

/// What can be asked of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Request {
    /// How everything is.
    Status,
    /// Stop everything.
    Down,
    /// Start or end one component.
    Component {
        /// Its name.
        name: String,
        /// What to do.
        action: Action,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Everything at one moment.
    Snapshot(Snapshot),
    /// Something is happening.
    Note(String),
    /// It is done.
    Done(String),
    /// It cannot be done.
    Error(String),
}

/// Unix sockets have short names (108 bytes): a long path is reached through its opened folder.
fn with_short_path<T>(path: &Path, use_path: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    if path.as_os_str().len() < 100 {
        return use_path(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return use_path(path) };
    let dir = File::open(dir)?;
    use_path(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

/// Binds the socket; a stale one is replaced. Only the holder of the folder's lock may call it.
pub fn bind(layout: &Layout) -> Result<UnixListener> {
    let path = layout.socket();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let bound = with_short_path(&path, |path| std::os::unix::net::UnixListener::bind(path));
    let listener = bound.with_context(|| format!("cannot listen on {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

/// A connection to the supervisor.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// The server's side.
    pub fn accepted(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The supervisor of a data folder; `None` if there is none.
    pub fn open(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.socket();
        let stream = match with_short_path(&path, |path| std::os::unix::net::UnixStream::connect(path)) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("cannot reach {}", path.display())),
        };
        stream.set_nonblocking(true)?;
        Ok(Some(Self::accepted(UnixStream::from_std(stream)?)))
    }

    /// The next message; `None` at the end of the connection.
    pub async fn receive<T: for<'a> Deserialize<'a>>(&mut self) -> Result<Option<T>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&line).map(Some).context("not a message of the control protocol")
    }

    /// Sends one message.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        Ok(self.stream.get_mut().write_all(&line).await?)
    }
}

/// How everything is; `None` if no supervisor runs.
pub async fn status(layout: &Layout) -> Result<Option<Snapshot>> {
    let Some(mut connection) = Connection::open(layout)? else { return Ok(None) };
    connection.send(&Request::Status).await?;
    match connection.receive().await? {
        Some(Reply::Snapshot(snapshot)) => Ok(Some(snapshot)),
        Some(Reply::Error(error)) => bail!(error),
        Some(_) | None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_what_the_module_says() {
        let request: Request =
            serde_json::from_str(r#"{"do":"component","name":"kafka-1","action":"kill"}"#).unwrap();
        assert_eq!(request, Request::Component { name: "kafka-1".to_owned(), action: Action::Kill });
        assert_eq!(serde_json::to_string(&Request::Down).unwrap(), r#"{"do":"down"}"#);
        assert_eq!(serde_json::to_string(&Reply::Done("x".to_owned())).unwrap(), r#"{"done":"x"}"#);
    }

    #[tokio::test]
    async fn a_long_path_works() {
        let dir = std::env::temp_dir().join("x".repeat(120)).join(std::process::id().to_string());
        let layout = Layout::new(&dir).unwrap();
        layout.create().unwrap();
        assert!(Connection::open(&layout).unwrap().is_none());
        let listener = bind(&layout).unwrap();
        let mut client = Connection::open(&layout).unwrap().unwrap();
        client.send(&Request::Status).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = Connection::accepted(stream);
        assert_eq!(server.receive::<Request>().await.unwrap(), Some(Request::Status));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
