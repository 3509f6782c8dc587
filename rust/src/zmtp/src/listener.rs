// SPDX-License-Identifier: Apache-2.0

//! Sockets to listen on: inherited from a supervisor or bound here.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use socket2::{Domain, SockRef};

use crate::link::Socket;

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix domain.
    Unix(UnixListener),
}

impl Listener {
    /// Adopts an inherited descriptor; its address family is read from the bound address.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let domain = SockRef::from(&fd).local_addr()?.domain();
        SockRef::from(&fd).set_cloexec(true)?;
        match domain {
            Domain::UNIX => Ok(Self::Unix(fd.into())),
            Domain::IPV4 | Domain::IPV6 => Ok(Self::Tcp(fd.into())),
            other => Err(io::Error::other(format!(
                "descriptor {} has address family {other:?}; a TCP or Unix socket is needed",
                fd.as_raw_fd()
            ))),
        }
    }

    /// Adopts an inherited descriptor by number, as it comes on a command line.
    ///
    /// # Safety
    ///
    /// The descriptor must be open and owned by nobody else.
    pub unsafe fn from_raw_fd(fd: i32) -> io::Result<Self> {
        // SAFETY: the caller hands over an open descriptor.
        Self::from_fd(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Binds `tcp://HOST:PORT` (port 0 picks one) or `ipc://PATH`.
    pub fn bind(address: &str) -> io::Result<Self> {
        if let Some(path) = address.strip_prefix("ipc://") {
            return UnixListener::bind(path).map(Self::Unix);
        }
        match address.strip_prefix("tcp://") {
            Some(host_port) => TcpListener::bind(host_port).map(Self::Tcp),
            None => Err(io::Error::other(format!(
                "address {address:?}: expected tcp://HOST:PORT or ipc://PATH"
            ))),
        }
    }

    /// The address that engines connect to.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map(|address| format!("tcp://{address}")),
            Self::Unix(_) => {
                let path = self
                    .path()
                    .ok_or_else(|| io::Error::other("unnamed Unix socket"))?;
                Ok(format!("ipc://{}", path.display()))
            }
        }
    }

    /// File of a Unix socket; whoever bound it removes it.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(listener) => listener
                .local_addr()
                .ok()?
                .as_pathname()
                .map(|path| path.to_path_buf()),
        }
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Tcp(listener) => listener.into(),
            Listener::Unix(listener) => listener.into(),
        }
    }
}

/// A listener on a runtime.
#[derive(Debug)]
pub(crate) enum TokioListener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl TokioListener {
    pub(crate) fn new(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener).map(Self::Tcp)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Box<dyn Socket>> {
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                socket.set_nodelay(true)?;
                Ok(Box::new(socket))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

impl IntoRawFd for Listener {
    fn into_raw_fd(self) -> i32 {
        OwnedFd::from(self).into_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_tells_its_family() {
        let tcp = Listener::bind("tcp://127.0.0.1:0").expect("a loopback port is free");
        let address = tcp.address().expect("bound");
        let adopted = Listener::from_fd(tcp.into()).expect("a TCP listener");
        assert_eq!(adopted.address().expect("bound"), address);
        let path = std::env::temp_dir().join(format!("vllm-listener-{}", std::process::id()));
        let unix = Listener::bind(&format!("ipc://{}", path.display())).expect("path is free");
        let adopted = Listener::from_fd(unix.into()).expect("a Unix listener");
        assert_eq!(adopted.path().as_deref(), Some(path.as_path()));
        std::fs::remove_file(path).expect("the socket file exists");
        assert!(Listener::bind("http://x").is_err());
    }
}
