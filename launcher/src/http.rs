//! The few HTTP requests that the launcher makes: health of its own processes, on 127.0.0.1.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::base64;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body, as text.
    pub body: String,
}

/// Value of an `Authorization` header.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::standard(format!("{user}:{password}").as_bytes()))
}

/// `GET http://127.0.0.1:<port><path>`; HTTP/1.0, so that the body ends with the connection.
pub async fn get(port: u16, path: &str, authorization: Option<&str>) -> Result<Answer> {
    tokio::time::timeout(Duration::from_secs(3), request(port, path, authorization))
        .await
        .with_context(|| format!("127.0.0.1:{port} did not answer within 3 s"))?
}

async fn request(port: u16, path: &str, authorization: Option<&str>) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .with_context(|| format!("nothing listens on 127.0.0.1:{port}"))?;
    let authorization = authorization.map(|a| format!("Authorization: {a}\r\n")).unwrap_or_default();
    let head = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{authorization}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&bytes).with_context(|| format!("127.0.0.1:{port} does not speak HTTP"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (String::from_utf8_lossy(bytes.get(..end)?), bytes.get(end + 4..)?);
    let status = head.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
    // Elasticsearch sends large answers in chunks, also to those who speak HTTP/1.0.
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    let body = if chunked { joined(body)? } else { body.to_vec() };
    Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The chunks of a body: each is its length in hexadecimal, a line end, and so many bytes with a line end.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|two| two == b"\r\n")?;
        let length = std::str::from_utf8(chunks.get(..line)?).ok()?.split(';').next()?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        let from = line + 2;
        body.extend_from_slice(chunks.get(from..from + length)?);
        chunks = chunks.get(from + length + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_and_body() {
        let answer = parse(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "no"));
        assert!(parse(b"220 smtp ready\r\n").is_none());
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\nA;x=y\r\n: 12345678\r\n1\r\n}\r\n0\r\n\r\n";
        assert_eq!(parse(chunks).unwrap().body, r#"{"a": 12345678}"#);
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nshort\r\n").is_none());
    }

    #[test]
    fn basic_authentication() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
