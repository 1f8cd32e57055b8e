//! Just enough HTTP/1.1 to drive and to answer, and no more than that costs.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What of a head matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status of a response; 0 for a request.
    pub(crate) status: u16,
    pub(crate) length: Option<usize>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    /// The first word of `x-chimera-cache`.
    pub(crate) cache: Option<String>,
}

/// A connection and what has been read of it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8 * 1024), start: 0 })
    }

    pub(crate) async fn connect(target: &str) -> io::Result<Self> {
        Self::new(TcpStream::connect(target).await?)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads one head; `None` when the peer has closed before it.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(length) = find(self.unread(), b"\r\n\r\n") {
                let head = parse(self.unread().get(..length).unwrap_or_default());
                self.start += length + 4;
                return Ok(Some(head));
            }
            if !self.fill().await? {
                return match self.unread() {
                    [] => Ok(None),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Reads the body that belongs to `head`, showing each piece to `sink` as it comes.
    pub(crate) async fn body(&mut self, head: &Head, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
        if !head.chunked {
            return self.pass(head.length.unwrap_or(0), &mut sink).await;
        }
        loop {
            let line = self.line().await?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(size).ok().map(str::trim);
            let size = size
                .and_then(|size| usize::from_str_radix(size, 16).ok())
                .ok_or(io::ErrorKind::InvalidData)?;
            if size == 0 {
                break;
            }
            self.pass(size, &mut sink).await?;
            if !self.line().await?.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        while !self.line().await?.is_empty() {}
        Ok(())
    }

    async fn pass(&mut self, mut left: usize, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            if self.unread().is_empty() {
                self.need().await?;
            }
            let unread = self.unread();
            let piece = unread.get(..left.min(unread.len())).unwrap_or_default();
            sink(piece);
            let length = piece.len();
            self.start += length;
            left -= length;
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(length) = find(self.unread(), b"\r\n") {
                let line = self.unread().get(..length).unwrap_or_default().to_vec();
                self.start += length + 2;
                return Ok(line);
            }
            self.need().await?;
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    async fn need(&mut self) -> io::Result<()> {
        if self.fill().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start.min(self.buffer.len()));
        self.start = 0;
        self.buffer.reserve(4 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn parse(bytes: &[u8]) -> Head {
    let mut head = Head::default();
    let text = String::from_utf8_lossy(bytes);
    for (index, line) in text.split("\r\n").enumerate() {
        if index == 0 {
            let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
            head.status = status.and_then(|code| code.parse().ok()).unwrap_or(0);
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length = value.parse().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            head.close = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("x-chimera-cache") {
            head.cache = value.split([';', ' ', ',']).next().map(str::to_owned);
        }
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nx-chimera-cache: miss; reason=cold");
        let expected = Head { status: 200, length: Some(12), cache: Some("miss".into()), ..Head::default() };
        assert_eq!(head, expected);
    }

    #[tokio::test]
    async fn chunked_bodies_are_joined_at_any_cut() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = async {
            let mut peer = Wire::new(listener.accept().await.unwrap().0).unwrap();
            let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n";
            for byte in text.as_bytes() {
                peer.write(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let client = async {
            let mut wire = Wire::connect(&address).await.unwrap();
            let head = wire.head().await.unwrap().unwrap();
            let mut all = Vec::new();
            wire.body(&head, |piece| all.extend_from_slice(piece)).await.unwrap();
            assert_eq!(all, b"abc0123456789");
            assert_eq!(wire.head().await.unwrap(), None);
        };
        tokio::join!(server, client);
    }
}
