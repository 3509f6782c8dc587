// SPDX-License-Identifier: Apache-2.0

//! PULL: messages of many peers in one queue.

use std::sync::Arc;

use crate::Message;
use crate::accept::Acceptor;
use crate::command::SocketType;
use crate::error::ZmtpError;
use crate::limits::Limits;
use crate::link::{Incoming, Outgoing, Socket};
use crate::listener::Listener;
use crate::queue::{Queue, weight};

/// The socket. Dropping it closes its connections.
#[derive(Debug)]
pub struct Pull {
    queue: Arc<Queue<Message>>,
    _acceptor: Acceptor,
}

impl Pull {
    /// Serves a listener on the current runtime.
    pub fn bind(listener: Listener, limits: Limits) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::new(&limits));
        let own = queue.clone();
        let acceptor = Acceptor::start(listener, limits.connections, move |socket| {
            serve(own.clone(), limits.clone(), socket)
        })?;
        Ok(Self {
            queue,
            _acceptor: acceptor,
        })
    }

    /// Waits for messages and appends up to `most` to `out`. May be cancelled: nothing gets lost.
    pub async fn recv_batch(&mut self, out: &mut Vec<Message>, most: usize) {
        self.queue.take(out, most).await;
    }

    /// Appends what has arrived; false when there is nothing.
    pub fn try_batch(&mut self, out: &mut Vec<Message>, most: usize) -> bool {
        self.queue.try_take(out, most)
    }
}

async fn serve(queue: Arc<Queue<Message>>, limits: Limits, socket: Box<dyn Socket>) {
    match connection(&queue, &limits, socket).await {
        ZmtpError::Closed => tracing::debug!("an engine closed its output connection"),
        error => tracing::warn!(%error, "a connection to the output plane is closed"),
    }
}

async fn connection(
    queue: &Queue<Message>,
    limits: &Limits,
    mut socket: Box<dyn Socket>,
) -> ZmtpError {
    let greeted = Incoming::handshake(&mut *socket, SocketType::Pull, b"", limits);
    let (incoming, peer) = match greeted.await {
        Ok(greeted) => greeted,
        Err(error) => return error,
    };
    let deliver = |message: Message| {
        let size = weight(&message);
        queue.push(message, size)
    };
    // Nothing is ever sent but answers to PINGs.
    let out = Outgoing::new(limits, &peer);
    incoming.run(socket, &out, deliver).await
}
