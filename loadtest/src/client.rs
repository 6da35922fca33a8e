//! A lean HTTP/1.1 client: one connection, one request at a time.
//!
//! It says exactly how far a request came: never sent, answered, or sent without
//! an answer. Retrying is somebody else's decision (`buyer.rs`).
//!
//! Bodies with Content-Length or chunked coding are read; anything else (bodies
//! that end with the connection, upgrades) is refused by name. No TLS.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub addr: SocketAddr,
    /// What goes into the Host header.
    pub authority: String,
    /// Path and query of the given URL; `/` when it had none.
    pub path: String,
}

#[derive(Debug, Error)]
pub enum TargetError {
    #[error("{url}: only http:// addresses are supported")]
    Scheme { url: String },
    #[error("{url}: cannot be resolved: {source}")]
    Resolve { url: String, source: std::io::Error },
    #[error("{url}: no address found")]
    Nowhere { url: String },
    #[error("{url}: is not on this machine; say --allow-remote if you own that server")]
    Remote { url: String },
}

impl Target {
    pub fn parse(url: &str, allow_remote: bool) -> Result<Self, TargetError> {
        let own = || url.to_owned();
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| TargetError::Scheme { url: own() })?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let with_port = if authority
            .rsplit(']')
            .next()
            .is_some_and(|tail| tail.contains(':'))
        {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let found = std::net::ToSocketAddrs::to_socket_addrs(&with_port)
            .map_err(|source| TargetError::Resolve { url: own(), source })?
            .next();
        let addr = found.ok_or_else(|| TargetError::Nowhere { url: own() })?;
        if !addr.ip().is_loopback() && !allow_remote {
            return Err(TargetError::Remote { url: own() });
        }
        Ok(Self {
            addr,
            authority: authority.to_owned(),
            path: path.to_owned(),
        })
    }
}

#[derive(Debug, Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error("connect: {0}")]
    Connect(std::io::Error),
    /// Sent, perhaps in part; the server may have acted on it.
    #[error("connection lost before the answer: {0}")]
    Cut(String),
    #[error("no answer within {ms} ms")]
    TimedOut { ms: u64 },
    #[error("answer cannot be read: {0}")]
    Protocol(#[from] ProtocolError),
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    #[error("malformed head: {0}")]
    Head(String),
    #[error("a body without Content-Length or chunked coding is not supported")]
    NoLength,
    #[error("transfer coding {0:?} is not supported, only chunked")]
    Coding(String),
    #[error("malformed chunk")]
    Chunk,
    #[error("answer exceeds {0} bytes")]
    TooLong(usize),
    #[error("{0} bytes more than announced")]
    Extra(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
}

/// What a client needs from a response head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// Seconds, from Retry-After.
    pub retry_after_s: Option<u32>,
    close: bool,
    body_at: usize,
    length: Length,
}

/// No answer of this API comes near; a page of 10,000 orders has about 4 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const FIRST_BUFFER_BYTES: usize = 8 << 10;

/// Bytes of one response as they arrive.
pub struct Incoming {
    buf: Vec<u8>,
    filled: usize,
    head: Option<Head>,
    chunk_at: usize,
    chunked: Vec<u8>,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            buf: vec![0; FIRST_BUFFER_BYTES],
            filled: 0,
            head: None,
            chunk_at: 0,
            chunked: Vec::new(),
        }
    }
}

impl Incoming {
    pub fn clear(&mut self) {
        self.filled = 0;
        self.head = None;
        self.chunk_at = 0;
        self.chunked.clear();
    }

    /// Where the next bytes belong; `advance` must be told how many came.
    pub fn room(&mut self) -> &mut [u8] {
        if self.filled == self.buf.len() {
            self.buf.resize(self.buf.len() * 2, 0);
        }
        &mut self.buf[self.filled..]
    }

    /// True once the whole response is here.
    pub fn advance(&mut self, n_bytes: usize) -> Result<bool, ProtocolError> {
        self.filled += n_bytes;
        if self.filled > ANSWER_BYTES_MAX {
            return Err(ProtocolError::TooLong(ANSWER_BYTES_MAX));
        }
        if self.head.is_none() {
            self.head = parse_head(&self.buf[..self.filled])?;
            self.chunk_at = self.head.map_or(0, |head| head.body_at);
        }
        let Some(head) = self.head else {
            return Ok(false);
        };
        let end = match head.length {
            Length::Known(n) => head.body_at + n,
            Length::Chunked => match self.unchunk()? {
                Some(end) => end,
                None => return Ok(false),
            },
        };
        if self.filled > end {
            return Err(ProtocolError::Extra(self.filled - end));
        }
        Ok(self.filled == end)
    }

    /// Moves whole chunks into `chunked`; the end of the message once it is known.
    fn unchunk(&mut self) -> Result<Option<usize>, ProtocolError> {
        loop {
            let rest = &self.buf[self.chunk_at..self.filled];
            let (line, size) = match httparse::parse_chunk_size(rest) {
                Ok(httparse::Status::Complete(found)) => found,
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(_) => return Err(ProtocolError::Chunk),
            };
            let size = usize::try_from(size).map_err(|_| ProtocolError::Chunk)?;
            if size > ANSWER_BYTES_MAX {
                return Err(ProtocolError::TooLong(ANSWER_BYTES_MAX));
            }
            if rest.len() < line + size + 2 {
                return Ok(None);
            }
            if &rest[line + size..line + size + 2] != b"\r\n" {
                return Err(ProtocolError::Chunk); // Trailers are not spoken here.
            }
            self.chunked.extend_from_slice(&rest[line..line + size]);
            self.chunk_at += line + size + 2;
            if size == 0 {
                return Ok(Some(self.chunk_at));
            }
        }
    }

    pub fn head(&self) -> Option<Head> {
        self.head
    }

    pub fn body(&self) -> &[u8] {
        match self.head {
            Some(Head {
                length: Length::Known(n),
                body_at,
                ..
            }) => &self.buf[body_at..body_at + n],
            Some(Head {
                length: Length::Chunked,
                ..
            }) => &self.chunked,
            None => &[],
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, ProtocolError> {
    let mut fields = [httparse::EMPTY_HEADER; 48];
    let mut response = httparse::Response::new(&mut fields);
    let body_at = match response.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(ProtocolError::Head(error.to_string())),
    };
    let status = response.code.unwrap_or(0);
    let mut length = None;
    let mut close = response.version == Some(0);
    let mut retry_after_s = None;
    for field in response.headers.iter() {
        // Compare by length first: most fields are none of our business.
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let n = ascii_number(field.value)
                    .ok_or_else(|| ProtocolError::Head("Content-Length is not a number".into()))?;
                if n > ANSWER_BYTES_MAX {
                    return Err(ProtocolError::TooLong(ANSWER_BYTES_MAX));
                }
                length = Some(Length::Known(n));
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if !field.value.eq_ignore_ascii_case(b"chunked") {
                    let coding = String::from_utf8_lossy(field.value).into_owned();
                    return Err(ProtocolError::Coding(coding));
                }
                length = Some(Length::Chunked);
            }
            10 if field.name.eq_ignore_ascii_case("connection") => {
                close |= field.value.eq_ignore_ascii_case(b"close");
            }
            11 if field.name.eq_ignore_ascii_case("retry-after") => {
                retry_after_s = ascii_number(field.value).and_then(|n| u32::try_from(n).ok());
            }
            _ => {}
        }
    }
    if status < 200 {
        return Err(ProtocolError::Head(format!(
            "status {status} was not asked for"
        )));
    }
    if status == 204 || status == 304 {
        length = Some(Length::Known(0));
    }
    let length = length.ok_or(ProtocolError::NoLength)?;
    Ok(Some(Head {
        status,
        retry_after_s,
        close,
        body_at,
        length,
    }))
}

fn ascii_number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// A keep-alive connection that reconnects when it has to.
pub struct Connection {
    addr: SocketAddr,
    answer_timeout: Duration,
    stream: Option<TcpStream>,
    incoming: Incoming,
}

impl Connection {
    pub fn new(addr: SocketAddr, answer_timeout: Duration) -> Self {
        Self {
            addr,
            answer_timeout,
            stream: None,
            incoming: Incoming::default(),
        }
    }

    /// Opens the connection if it is not open; nothing is sent.
    pub async fn connect(&mut self) -> Result<(), CallError> {
        if self.stream.is_none() {
            let stream = match timeout(self.answer_timeout, TcpStream::connect(self.addr)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Err(CallError::Connect(error)),
                Err(_) => return Err(CallError::Connect(std::io::ErrorKind::TimedOut.into())),
            };
            stream.set_nodelay(true).map_err(CallError::Connect)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Sends the request and reads the whole answer; then `body()` holds it.
    pub async fn call(&mut self, request: &[u8]) -> Result<Head, CallError> {
        self.connect().await?;
        let Some(stream) = self.stream.as_mut() else {
            return Err(CallError::Cut("connection is gone".into()));
        };
        self.incoming.clear();
        let result = match timeout(
            self.answer_timeout,
            exchange(stream, request, &mut self.incoming),
        )
        .await
        {
            Ok(result) => result,
            Err(_) => Err(CallError::TimedOut {
                ms: self.answer_timeout.as_millis() as u64,
            }),
        };
        if !matches!(&result, Ok(head) if !head.close) {
            self.stream = None;
        }
        result
    }

    /// Sends the request and walks away without reading: a buyer whose train
    /// entered a tunnel.
    pub async fn send_and_cut(&mut self, request: &[u8], wait: Duration) -> Result<(), CallError> {
        self.connect().await?;
        if let Some(mut stream) = self.stream.take() {
            stream
                .write_all(request)
                .await
                .map_err(|error| CallError::Cut(error.to_string()))?;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }

    pub fn body(&self) -> &[u8] {
        self.incoming.body()
    }
}

async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    incoming: &mut Incoming,
) -> Result<Head, CallError> {
    let cut = |error: std::io::Error| CallError::Cut(error.to_string());
    stream.write_all(request).await.map_err(cut)?;
    loop {
        let n_bytes = stream.read(incoming.room()).await.map_err(cut)?;
        if n_bytes == 0 {
            return Err(CallError::Cut("closed by the server".into()));
        }
        if incoming.advance(n_bytes)?
            && let Some(head) = incoming.head()
        {
            return Ok(head);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn feed(bytes: &[u8], cut_at: usize) -> Result<Option<(Head, Vec<u8>)>, ProtocolError> {
        let mut incoming = Incoming::default();
        for part in [&bytes[..cut_at], &bytes[cut_at..]] {
            if part.is_empty() {
                continue;
            }
            incoming.room()[..part.len()].copy_from_slice(part);
            if incoming.advance(part.len())? {
                return Ok(incoming.head().map(|head| (head, incoming.body().to_vec())));
            }
        }
        Ok(None)
    }

    /// Any split of the bytes gives the same answer; no prefix gives one.
    fn check(bytes: &[u8], status: u16, body: &[u8]) {
        for cut_at in 0..=bytes.len() {
            let (head, got) = feed(bytes, cut_at).unwrap().expect("complete");
            assert_eq!(
                (head.status, got.as_slice()),
                (status, body),
                "cut at {cut_at}"
            );
            if cut_at < bytes.len() {
                assert_eq!(
                    feed(&bytes[..cut_at], 0).unwrap(),
                    None,
                    "prefix of {cut_at}"
                );
            }
        }
    }

    #[test]
    fn an_answer_split_at_every_byte_reads_the_same() {
        check(
            b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nx-request-id: 9\r\n\r\nhello",
            201,
            b"hello",
        );
        check(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"");
        check(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\n, w\r\n0\r\n\r\n",
            200,
            b"hello, w",
        );
    }

    #[test]
    fn close_and_retry_after_are_seen() {
        let bytes =
            b"HTTP/1.1 503 No\r\nRetry-After: 2\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (head, _) = feed(bytes, 10).unwrap().unwrap();
        assert_eq!((head.retry_after_s, head.close), (Some(2), true));
    }

    #[test]
    fn what_is_not_spoken_is_refused_by_name() {
        assert_eq!(
            feed(b"HTTP/1.1 200 OK\r\n\r\nx", 0).unwrap_err(),
            ProtocolError::NoLength
        );
        let gzip = b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n";
        assert_eq!(
            feed(gzip, 0).unwrap_err(),
            ProtocolError::Coding("gzip".into())
        );
        let extra = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nabc";
        assert_eq!(feed(extra, 0).unwrap_err(), ProtocolError::Extra(2));
        let chunk = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n";
        assert_eq!(feed(chunk, 0).unwrap_err(), ProtocolError::Chunk);
        assert!(matches!(
            feed(b"SMTP ready\r\n\r\n", 0).unwrap_err(),
            ProtocolError::Head(_)
        ));
    }

    #[test]
    fn only_this_machine_unless_told_otherwise() {
        assert!(Target::parse("http://127.0.0.1:8080", false).is_ok());
        assert_eq!(
            Target::parse("http://127.0.0.1:8080/v1/x?y", false)
                .unwrap()
                .path,
            "/v1/x?y"
        );
        assert!(matches!(
            Target::parse("http://10.0.0.1:80/", false),
            Err(TargetError::Remote { .. })
        ));
        assert!(Target::parse("http://10.0.0.1:80/", true).is_ok());
        assert!(matches!(
            Target::parse("https://127.0.0.1/", false),
            Err(TargetError::Scheme { .. })
        ));
    }
}
