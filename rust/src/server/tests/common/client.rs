// SPDX-License-Identifier: Apache-2.0

//! HTTP/1.1 over a blocking socket: what was received is what is seen.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// What the kernel keeps for a client that does not read; far below its megabytes by default, so that
/// filling it takes a moment and not as long as a debug build needs to write ten megabytes.
const SMALL_WINDOW: usize = 16 << 10;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The events of a stream; the last one must be `[DONE]` or an error.
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text());
        let text = self.text();
        let mut data: Vec<_> = text
            .split("\n\n")
            .filter(|event| !event.is_empty())
            .collect();
        let last = data.pop().expect("a stream is never silent");
        assert!(
            last == "data: [DONE]" || last.starts_with("data: {\"error\":"),
            "{last}"
        );
        if last != "data: [DONE]" {
            data.push(last);
        }
        let parse = |event: &str| {
            let data = event
                .strip_prefix("data: ")
                .unwrap_or_else(|| panic!("not an event: {event:?}"));
            serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
        };
        data.into_iter().map(parse).collect()
    }
}

/// A connection.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the server accepts"))
    }

    /// Connects; the kernel holds little that was not read.
    pub fn with_small_window(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket
            .set_recv_buffer_size(SMALL_WINDOW)
            .expect("a socket option");
        socket.connect(&address.into()).expect("the server accepts");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        Self(BufReader::new(stream))
    }

    /// Sends a request with these extra header lines, in one piece: a second one would wait for the
    /// acknowledgement of the first, which the kernel delays by 40 ms.
    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.write(&[head.as_bytes(), body].concat());
    }

    /// Sends bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the server reads");
    }

    /// One line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0
            .read_line(&mut line)
            .expect("the server answers in time");
        line.truncate(line.trim_end().len());
        line
    }

    /// Status and headers of an answer.
    pub fn head(&mut self) -> (u16, HashMap<String, String>) {
        let line = self.line();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {line:?}"));
        let mut headers = HashMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else {
                return (status, headers);
            };
            let earlier = headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            assert_eq!(earlier, None, "{name} is there twice");
        }
    }

    /// One chunk of a chunked body; `None` at its end or when the connection broke.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk).ok()?;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// A whole answer.
    pub fn reply(&mut self) -> Reply {
        let (status, headers) = self.head();
        let mut body = Vec::new();
        if headers
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        } else if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().expect("a number"), 0);
            self.0.read_exact(&mut body).expect("the whole body");
        }
        Reply {
            status,
            headers,
            body,
        }
    }

    /// Whether the server closed the connection.
    pub fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(read) => read == 0,
            // The time to wait is over: it is still open.
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// One request on a connection of its own.
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(method, path, headers, body);
    connection.reply()
}

/// `GET`.
pub fn get(address: SocketAddr, path: &str) -> Reply {
    request(address, "GET", path, "", b"")
}

/// `POST` of JSON.
pub fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    request(address, "POST", path, "", body.to_string().as_bytes())
}
