// SPDX-License-Identifier: Apache-2.0

//! The HTTP socket: bound here or adopted from a supervisor.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, SockRef, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 2048;

/// A bound TCP socket; it starts to listen when the server starts.
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

    /// Adopts a descriptor of a bound TCP socket, listening or not.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let domain = SockRef::from(&fd).local_addr()?.domain();
        if domain != Domain::IPV4 && domain != Domain::IPV6 {
            return Err(io::Error::other("a TCP socket is needed to serve HTTP"));
        }
        let socket = Socket::from(fd);
        socket.set_cloexec(true)?;
        Ok(Self(socket))
    }

    /// Where it is bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("not a TCP address"))
    }

    pub(crate) fn listen(self) -> io::Result<tokio::net::TcpListener> {
        self.0.listen(BACKLOG)?;
        self.0.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(TcpListener::from(self.0))
    }
}
