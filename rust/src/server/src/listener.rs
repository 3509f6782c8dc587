// SPDX-License-Identifier: Apache-2.0

//! The HTTP socket: bound here or adopted from a supervisor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::accept::{Arrival, Room};
use crate::connection::Stream;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 2048;

/// A bound socket, TCP or Unix; it starts to listen when the server starts.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Binds an address; port 0 picks one.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        Ok(Self(socket))
    }

    /// Adopts a descriptor of a bound socket, listening or not.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(fd);
        let domain = socket.local_addr()?.domain();
        if ![Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&domain) {
            return Err(io::Error::other(
                "a TCP or Unix socket is needed to serve HTTP",
            ));
        }
        socket.set_cloexec(true)?;
        Ok(Self(socket))
    }

    /// Where it is bound, for messages.
    pub fn address(&self) -> io::Result<String> {
        let address = self.0.local_addr()?;
        let path = || {
            address
                .as_pathname()
                .map(|path| format!("unix:{}", path.display()))
        };
        let tcp = address
            .as_socket()
            .map(|address| format!("http://{address}"));
        Ok(tcp
            .or_else(path)
            .unwrap_or_else(|| "an unnamed socket".to_owned()))
    }

    pub(crate) fn listen(self) -> io::Result<Listening> {
        let unix = self.0.local_addr()?.domain() == Domain::UNIX;
        self.0.listen(BACKLOG)?;
        self.0.set_nonblocking(true)?;
        if unix {
            return UnixListener::from_std(self.0.into()).map(Listening::Unix);
        }
        TcpListener::from_std(self.0.into()).map(Listening::Tcp)
    }
}

/// A socket that accepts connections.
pub(crate) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// A connection on its way to another shard's runtime.
#[derive(Debug)]
pub(crate) struct Parcel(Socketed, Room);

#[derive(Debug)]
enum Socketed {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Parcel {
    pub(crate) fn pack(arrival: Arrival) -> io::Result<Self> {
        let socket = match arrival.stream {
            Stream::Tcp(stream) => stream.into_std().map(Socketed::Tcp),
            Stream::Unix(stream) => stream.into_std().map(Socketed::Unix),
        };
        Ok(Self(socket?, arrival.room))
    }

    /// Call on the runtime that takes the connection over.
    pub(crate) fn open(self) -> io::Result<Arrival> {
        let stream = match self.0 {
            Socketed::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Socketed::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        };
        Ok(Arrival {
            stream: stream?,
            room: self.1,
        })
    }
}
