// SPDX-License-Identifier: Apache-2.0

//! As much of HTTP/1.1 as a load generator needs, on one kept-alive connection.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::BenchError;

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `HOST:PORT`
    pub(crate) address: String,
    api_key: Option<String>,
}

impl Target {
    pub(crate) fn parse(url: &str, api_key: Option<&str>) -> Result<Self, BenchError> {
        let bad = || BenchError::Url(url.to_owned());
        let host = url
            .strip_prefix("http://")
            .ok_or_else(bad)?
            .trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            return Err(bad());
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        Ok(Self {
            address,
            api_key: api_key.map(str::to_owned),
        })
    }

    pub(crate) async fn connect(&self) -> Result<Connection, BenchError> {
        let connected = TcpStream::connect(&self.address).await;
        let error = |source| BenchError::Connect {
            address: self.address.clone(),
            source,
        };
        let stream = connected.map_err(error)?;
        stream.set_nodelay(true).map_err(error)?;
        Ok(Connection {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Head and body of a request, to be sent in one write.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        if let Some(key) = &self.api_key {
            head.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        if !body.is_empty() {
            head.push_str("content-type: application/json\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        request
    }
}

/// A connection that is used for one request after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Status line and headers, as far as they matter.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: BodyLength,
    keep_alive: bool,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Chunked,
    Known(usize),
    UntilClose,
}

/// An answer whose body went to the caller piece by piece.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Another request may follow on the connection.
    pub(crate) keep_alive: bool,
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Connection {
    /// Sends a request and calls `body` with every piece of the answer, as soon as it arrives.
    pub(crate) async fn send(
        &mut self,
        request: &[u8],
        mut body: impl FnMut(&[u8]),
    ) -> io::Result<Response> {
        self.stream.write_all(request).await?;
        let head = self.read_head().await?;
        self.buffer.drain(..head.bytes);
        match head.length {
            BodyLength::Chunked => self.read_chunks(&mut body).await?,
            BodyLength::Known(length) => self.read_known(length, &mut body).await?,
            BodyLength::UntilClose => self.read_to_end(&mut body).await?,
        }
        Ok(Response {
            status: head.status,
            keep_alive: head.keep_alive,
        })
    }

    /// Reads once; false at the end of the stream.
    async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(16 * 1024);
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    async fn fill_or_fail(&mut self) -> io::Result<()> {
        match self.fill().await? {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the answer ends early",
            )),
        }
    }

    async fn read_head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                return Ok(head);
            }
            self.fill_or_fail().await?;
        }
    }

    async fn read_known(
        &mut self,
        mut length: usize,
        body: &mut impl FnMut(&[u8]),
    ) -> io::Result<()> {
        loop {
            let take = length.min(self.buffer.len());
            body(&self.buffer[..take]);
            self.buffer.drain(..take);
            length -= take;
            if length == 0 {
                return Ok(());
            }
            self.fill_or_fail().await?;
        }
    }

    async fn read_to_end(&mut self, body: &mut impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            body(&self.buffer);
            self.buffer.clear();
            if !self.fill().await? {
                return Ok(());
            }
        }
    }

    async fn read_chunks(&mut self, body: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut chunks = Chunks::default();
        loop {
            let used = chunks.push(&self.buffer, body)?;
            self.buffer.drain(..used);
            if chunks.done {
                return Ok(());
            }
            self.fill_or_fail().await?;
        }
    }
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = memmem::find(buffer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&buffer[..end]).map_err(|_| invalid("the head is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let status = status.and_then(|line| line.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| invalid("the answer is no HTTP/1.1"))?;
    let mut head = Head {
        status,
        length: BodyLength::UntilClose,
        keep_alive: true,
        bytes: end + 4,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                let length = value
                    .parse()
                    .map_err(|_| invalid("content-length is no number"))?;
                head.length = BodyLength::Known(length);
            }
            "transfer-encoding" => head.length = BodyLength::Chunked,
            "connection" => head.keep_alive = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    head.keep_alive &= head.length != BodyLength::UntilClose;
    Ok(Some(head))
}

/// Chunked transfer coding (RFC 9112, section 7.1), without trailers.
#[derive(Debug, Default)]
struct Chunks {
    /// Bytes of the current chunk still to come, its final CRLF included.
    left: usize,
    done: bool,
}

impl Chunks {
    /// Consumes what it can of `bytes`; returns how much.
    fn push(&mut self, bytes: &[u8], body: &mut impl FnMut(&[u8])) -> io::Result<usize> {
        let mut used = 0;
        while !self.done {
            if self.left == 0 {
                let Some(line) = memmem::find(&bytes[used..], b"\r\n") else {
                    break;
                };
                self.left = chunk_size(&bytes[used..used + line])? + 2;
                // A chunk of size 0 is the last: an empty line follows it.
                if self.left == 2 && bytes.len() < used + line + 4 {
                    self.left = 0;
                    break;
                }
                used += line + 2;
                self.done = self.left == 2;
            }
            let take = self.left.min(bytes.len() - used);
            let data = take.min(self.left.saturating_sub(2));
            if data > 0 {
                body(&bytes[used..used + data]);
            }
            used += take;
            self.left -= take;
            if take == 0 {
                break;
            }
        }
        Ok(used)
    }
}

fn chunk_size(line: &[u8]) -> io::Result<usize> {
    let text = std::str::from_utf8(line).unwrap_or("");
    let digits = text.split(';').next().unwrap_or("").trim();
    let size = usize::from_str_radix(digits, 16)
        .ok()
        .filter(|size| *size < 1 << 40);
    size.ok_or_else(|| invalid("a chunk's size is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNKED: &[u8] = b"5\r\nhello\r\n1;x=y\r\n,\r\n6\r\n world\r\n0\r\n\r\nrest";

    proptest! {
        #[test]
        fn any_cut_gives_the_same_body(cuts in proptest::collection::vec(0..CHUNKED.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.push(CHUNKED.len());
            cuts.sort_unstable();
            let (mut chunks, mut buffer, mut body) = (Chunks::default(), Vec::new(), Vec::new());
            let mut from = 0;
            for cut in cuts {
                buffer.extend_from_slice(&CHUNKED[from..cut]);
                from = cut;
                let mut sink = |data: &[u8]| body.extend_from_slice(data);
                let used = chunks.push(&buffer, &mut sink).expect("well formed");
                buffer.drain(..used);
            }
            prop_assert!(chunks.done);
            prop_assert_eq!(body, b"hello, world");
            prop_assert_eq!(buffer, b"rest");
        }
    }

    #[test]
    fn heads_and_addresses_are_read() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nconnection: close\r\n\r\nbody";
        let head = parse_head(head).expect("well formed").expect("complete");
        assert_eq!((head.status, head.length), (200, BodyLength::Known(7)));
        assert!(!head.keep_alive);
        assert!(parse_head(b"SSH-2.0\r\n\r\n").is_err());
        let address = |url| Target::parse(url, None).map(|target| target.address).ok();
        assert_eq!(address("http://a:81/").as_deref(), Some("a:81"));
        assert_eq!(address("http://a").as_deref(), Some("a:80"));
        assert_eq!(address("https://a"), None);
    }
}
