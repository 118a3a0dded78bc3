//! The clients of the load: as much of HTTP/1.1 and of WebSockets as it takes to notice everything that is wrong.
//!
//! Runs inside the generator. Nothing here waits with a limit, repeats or forgives: the caller does, where it may.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest answer, head or body, that is taken.
const ANSWER_LIMIT: usize = 8 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// No connection.
    Connect(io::Error),
    /// The connection ended before the first byte of an answer.
    NothingCame(String),
    /// It ended later.
    Cut(String),
    /// Something came that is no answer.
    Nonsense(String),
    Timeout,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Connect(error) => write!(f, "no connection: {error}"),
            Broken::NothingCame(how) => write!(f, "{how} before an answer"),
            Broken::Cut(how) => write!(f, "cut: {how}"),
            Broken::Nonsense(what) => f.write_str(what),
            Broken::Timeout => f.write_str("no answer in time"),
        }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Whether it is the lab's application that answered.
    pub(super) ours: bool,
    pub(super) version: String,
    /// Whether the connection can have another request.
    pub(super) keeps: bool,
    pub(super) body: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    addr: SocketAddr,
    /// What has come and was not used yet.
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) async fn open(addr: SocketAddr) -> Result<Wire, Broken> {
        let stream = TcpStream::connect(addr).await.map_err(Broken::Connect)?;
        stream.set_nodelay(true).map_err(Broken::Connect)?;
        Ok(Wire {
            stream,
            addr,
            buffer: Vec::new(),
        })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, Broken> {
        self.request(path, "Connection: close").await
    }

    pub(super) async fn get_and_keep(&mut self, path: &str) -> Result<Answer, Broken> {
        self.request(path, "Connection: keep-alive").await
    }

    /// Whether nothing came that nobody asked for.
    pub(super) fn is_clean(&self) -> bool {
        self.buffer.is_empty()
    }

    async fn request(&mut self, path: &str, headers: &str) -> Result<Answer, Broken> {
        let head = self.ask(path, headers).await?;
        let length: usize = head
            .get("content-length")
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Broken::Nonsense(format!("status {} without a length", head.status)))?;
        if length > ANSWER_LIMIT {
            return Err(Broken::Nonsense(format!("a body of {length} bytes")));
        }
        let body = self.take(length).await?;
        Ok(Answer {
            status: head.status,
            ours: head.get("x-belay-lab") == Some("1"),
            version: head.get("x-app-version").unwrap_or_default().to_owned(),
            keeps: !head
                .get("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close")),
            body,
        })
    }

    async fn ask(&mut self, path: &str, headers: &str) -> Result<Head, Broken> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n\r\n",
            self.addr
        );
        // Also when it cannot be sent any more: what the server said before it closed is what counts.
        let sent = self.stream.write_all(request.as_bytes()).await;
        let end = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                break at + 4;
            }
            self.more()
                .await
                .map_err(|how| match (self.buffer.is_empty(), &sent) {
                    (true, Err(error)) => Broken::NothingCame(format!("{:?}", error.kind())),
                    (true, Ok(())) => Broken::NothingCame(how),
                    (false, _) => Broken::Cut(format!("{how} in the head")),
                })?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        Head::parse(&String::from_utf8_lossy(&head))
            .ok_or_else(|| Broken::Nonsense("an answer that is not HTTP/1.1".into()))
    }

    /// The next bytes, exactly so many.
    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        while self.buffer.len() < length {
            let have = self.buffer.len();
            self.more()
                .await
                .map_err(|how| Broken::Cut(format!("{how} after {have} of {length} bytes")))?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Waits for more; an error says in words how the connection ended.
    async fn more(&mut self) -> Result<(), String> {
        if self.buffer.len() > ANSWER_LIMIT {
            return Err("too much".into());
        }
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err("closed".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{:?}", error.kind())),
        }
    }
}

struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Option<Head> {
        let mut lines = text.trim_end().lines();
        let status = lines
            .next()?
            .strip_prefix("HTTP/1.1 ")?
            .get(..3)?
            .parse()
            .ok()?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect::<Option<_>>()?;
        Some(Head { status, headers })
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const NORMAL: u16 = 1000;

/// A WebSocket (RFC 6455), as a client.
#[derive(Debug)]
pub(super) struct Socket(Wire);

impl Socket {
    pub(super) async fn open(addr: SocketAddr) -> Result<Socket, Broken> {
        // Any 16 bytes do; that they are fresh protects only against caches, of which there are none here.
        let key = BASE64.encode(b"load of the lab!");
        let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let mut wire = Wire::open(addr).await?;
        let headers = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}"
        );
        let head = wire.ask("/ws", &headers).await?;
        if head.status != 101 {
            return Err(Broken::Nonsense(format!(
                "no WebSocket, but status {}",
                head.status
            )));
        }
        if head.get("sec-websocket-accept") != Some(BASE64.encode(accept).as_str()) {
            return Err(Broken::Nonsense("a WebSocket that was not accepted".into()));
        }
        Ok(Socket(wire))
    }

    /// Sends a text and waits until it comes back.
    pub(super) async fn echo(&mut self, text: &str) -> Result<(), Broken> {
        self.send(TEXT, text.as_bytes()).await?;
        match self.receive().await? {
            (TEXT, back) if back == text.as_bytes() => Ok(()),
            (CLOSE, reason) => Err(closed(&reason)),
            (opcode, _) => Err(Broken::Nonsense(format!(
                "a frame {opcode} that is no echo"
            ))),
        }
    }

    pub(super) async fn close(mut self) -> Result<(), Broken> {
        self.send(CLOSE, &NORMAL.to_be_bytes()).await?;
        match self.receive().await? {
            (CLOSE, reason) if reason == NORMAL.to_be_bytes() => Ok(()),
            (CLOSE, reason) => Err(closed(&reason)),
            (opcode, _) => Err(Broken::Nonsense(format!(
                "a frame {opcode} instead of the close"
            ))),
        }
    }

    /// What is sent is always shorter than 126 bytes.
    async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Broken> {
        const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
        let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8];
        frame.extend(MASK);
        frame.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        let sent = self.0.stream.write_all(&frame).await;
        sent.map_err(|error| Broken::Cut(format!("{:?}", error.kind())))
    }

    /// The next frame as (opcode, payload).
    async fn receive(&mut self) -> Result<(u8, Vec<u8>), Broken> {
        let head = self.0.take(2).await?;
        let (opcode, length) = (head[0] & 0x0f, head[1]);
        if head[0] & 0xf0 != 0x80 || length > 125 {
            return Err(Broken::Nonsense(format!(
                "a frame that begins with {head:?}"
            )));
        }
        Ok((opcode, self.0.take(length.into()).await?))
    }
}

fn closed(reason: &[u8]) -> Broken {
    let code = reason
        .get(..2)
        .map_or(1005, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    Broken::Cut(format!("the server closed the WebSocket with {code}"))
}
