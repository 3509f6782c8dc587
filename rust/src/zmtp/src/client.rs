// SPDX-License-Identifier: Apache-2.0

//! DEALER and PUSH: the engine's ends, for the engine double and for tests.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::Message;
use crate::command::SocketType;
use crate::error::{SendError, ZmtpError};
use crate::limits::Limits;
use crate::link::{Incoming, Outgoing, Socket};
use crate::queue::{Queue, weight};

/// Between two attempts while nobody listens yet.
const RETRY: Duration = Duration::from_millis(20);

async fn dial(address: &str) -> io::Result<Box<dyn Socket>> {
    if let Some(path) = address.strip_prefix("ipc://") {
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    let Some(host_port) = address.strip_prefix("tcp://") else {
        let text = format!("address {address:?}: expected tcp://HOST:PORT or ipc://PATH");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    let socket = TcpStream::connect(host_port).await?;
    socket.set_nodelay(true)?;
    Ok(Box::new(socket))
}

/// Tries until somebody listens; other errors end it.
async fn dial_patiently(address: &str) -> io::Result<Box<dyn Socket>> {
    loop {
        match dial(address).await {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
                ) =>
            {
                tokio::time::sleep(RETRY).await;
            }
            other => return other,
        }
    }
}

/// One connection; it ends with its handle or with the other side.
#[derive(Debug)]
struct Connection {
    out: Arc<Outgoing>,
    incoming: Arc<Queue<Message>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    async fn open(address: &str, ours: SocketType, identity: &[u8]) -> Result<Self, ZmtpError> {
        let limits = Limits::default();
        let mut socket = dial_patiently(address).await?;
        let (incoming, peer) = Incoming::handshake(&mut *socket, ours, identity, &limits).await?;
        let out = Arc::new(Outgoing::new(&limits, &peer));
        let queue = Arc::new(Queue::new(&limits));
        let task = tokio::spawn(run(incoming, socket, out.clone(), queue.clone()));
        Ok(Self {
            out,
            incoming: queue,
            task,
        })
    }
}

async fn run(
    incoming: Incoming,
    socket: Box<dyn Socket>,
    out: Arc<Outgoing>,
    queue: Arc<Queue<Message>>,
) {
    let deliver = |message: Message| {
        let size = weight(&message);
        queue.push(message, size)
    };
    let error = incoming.run(socket, &out, deliver).await;
    tracing::debug!(%error, "a connection ended");
    out.close();
    queue.close();
}

/// Talks to one ROUTER under an identity.
#[derive(Debug)]
pub struct Dealer {
    connection: Connection,
    batch: std::collections::VecDeque<Message>,
}

impl Dealer {
    /// Connects and waits for the handshake; retries while nobody listens.
    pub async fn connect(address: &str, identity: &[u8]) -> Result<Self, ZmtpError> {
        let connection = Connection::open(address, SocketType::Dealer, identity).await?;
        Ok(Self {
            connection,
            batch: std::collections::VecDeque::new(),
        })
    }

    /// Queues a message, waiting for room.
    pub async fn send(&self, message: Message) -> Result<(), SendError> {
        self.connection.out.send(message).await
    }

    /// A message that is already here.
    pub fn try_recv(&mut self) -> Option<Message> {
        if self.batch.is_empty() {
            let mut taken = Vec::new();
            self.connection.incoming.try_take(&mut taken, 256);
            self.batch.extend(taken);
        }
        self.batch.pop_front()
    }

    /// The next message; `None` when the other side has left. May be cancelled.
    pub async fn recv(&mut self) -> Option<Message> {
        if self.batch.is_empty() {
            let mut taken = Vec::new();
            self.connection.incoming.take(&mut taken, 256).await;
            self.batch.extend(taken);
        }
        self.batch.pop_front()
    }
}

/// Sends to one PULL.
#[derive(Debug)]
pub struct Push(Connection);

impl Push {
    /// Connects and waits for the handshake; retries while nobody listens.
    pub async fn connect(address: &str) -> Result<Self, ZmtpError> {
        Connection::open(address, SocketType::Push, b"")
            .await
            .map(Self)
    }

    /// Queues a message, waiting for room.
    pub async fn send(&self, message: Message) -> Result<(), SendError> {
        self.0.out.send(message).await
    }
}
