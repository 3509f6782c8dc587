// SPDX-License-Identifier: Apache-2.0

//! ROUTER: many peers, each addressed by its identity.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::Message;
use crate::accept::Acceptor;
use crate::command::SocketType;
use crate::error::{SendError, ZmtpError};
use crate::limits::Limits;
use crate::link::{Incoming, Outgoing, Socket};
use crate::listener::Listener;
use crate::queue::{Queue, weight};
use crate::session::PeerInfo;

/// PINGs after which a peer that answered none of them loses its identity to a newcomer.
const ABSENT_AFTER: u32 = 2;

/// What happens on a ROUTER. For one identity: connected, messages, disconnected, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// A peer is there.
    Connected(Bytes),
    /// It says something.
    Message(Bytes, Message),
    /// It is gone.
    Disconnected(Bytes),
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    peers: Mutex<HashMap<Bytes, Arc<Outgoing>>>,
    events: Queue<RouterEvent>,
    nameless: AtomicU32,
}

/// The socket. Dropping it closes its connections.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    batch: std::collections::VecDeque<RouterEvent>,
    _acceptor: Acceptor,
}

impl Router {
    /// Serves a listener on the current runtime.
    pub fn bind(listener: Listener, limits: Limits) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            events: Queue::new(&limits),
            peers: Mutex::default(),
            nameless: AtomicU32::new(0),
            limits,
        });
        let (most, own) = (shared.limits.connections, shared.clone());
        let acceptor = Acceptor::start(listener, most, move |socket| serve(own.clone(), socket))?;
        Ok(Self {
            shared,
            batch: std::collections::VecDeque::new(),
            _acceptor: acceptor,
        })
    }

    /// A handle to send with, from any thread.
    pub fn sender(&self) -> RouterSender {
        RouterSender(self.shared.clone())
    }

    /// Waits for the next event. May be cancelled: nothing gets lost.
    pub async fn recv(&mut self) -> RouterEvent {
        loop {
            if let Some(event) = self.batch.pop_front() {
                return event;
            }
            let mut taken = Vec::new();
            self.shared.events.take(&mut taken, 256).await;
            self.batch.extend(taken);
        }
    }
}

/// Sends to the peers of a ROUTER.
#[derive(Debug, Clone)]
pub struct RouterSender(Arc<Shared>);

impl RouterSender {
    fn peer(&self, identity: &[u8]) -> Option<Arc<Outgoing>> {
        self.0.peers().get(identity).cloned()
    }

    /// Queues a message; never waits.
    pub fn send(&self, identity: &[u8], message: Message) -> Result<(), SendError> {
        let peer = self.peer(identity).ok_or(SendError::Gone)?;
        peer.try_send(message)
    }

    /// Asks a peer's socket for a sign of life; false when it would give none.
    ///
    /// With libzmq its I/O thread answers, however busy the program is.
    pub fn ping(&self, identity: &[u8]) -> bool {
        self.peer(identity).is_some_and(|peer| peer.ping())
    }

    /// How often a peer's socket was heard; grows with each sign of life.
    pub fn heard(&self, identity: &[u8]) -> Option<u64> {
        self.peer(identity).map(|peer| peer.reads())
    }
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, HashMap<Bytes, Arc<Outgoing>>> {
        self.peers
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// As libzmq does: a zero byte, which no chosen identity starts with, and a number.
    fn name(&self, given: Bytes) -> Bytes {
        if !given.is_empty() {
            return given;
        }
        let number = self.nameless.fetch_add(1, Ordering::Relaxed);
        let number = number.to_be_bytes();
        Bytes::copy_from_slice(&[&[0][..], &number].concat())
    }

    /// A peer that answers keeps its identity; one that doesn't makes room for its successor.
    fn enter(&self, peer: &PeerInfo) -> Result<(Bytes, Arc<Outgoing>), ZmtpError> {
        let identity = self.name(peer.identity.clone());
        let mut peers = self.peers();
        if let Some(old) = peers.get(&identity) {
            if old.unanswered() < ABSENT_AFTER {
                return Err(ZmtpError::IdentityInUse(identity.to_vec()));
            }
            old.close();
            self.events
                .push_always(RouterEvent::Disconnected(identity.clone()));
        }
        let out = Arc::new(Outgoing::new(&self.limits, peer));
        peers.insert(identity.clone(), out.clone());
        self.events
            .push_always(RouterEvent::Connected(identity.clone()));
        Ok((identity, out))
    }

    fn leave(&self, identity: &Bytes, out: &Arc<Outgoing>) {
        let mut peers = self.peers();
        if peers.get(identity).is_some_and(|own| Arc::ptr_eq(own, out)) {
            peers.remove(identity);
            self.events
                .push_always(RouterEvent::Disconnected(identity.clone()));
        }
        out.close();
    }
}

async fn serve(shared: Arc<Shared>, socket: Box<dyn Socket>) {
    match connection(&shared, socket).await {
        ZmtpError::Closed => tracing::debug!("an engine closed its input connection"),
        error => tracing::warn!(%error, "a connection to the input plane is closed"),
    }
}

async fn connection(shared: &Arc<Shared>, mut socket: Box<dyn Socket>) -> ZmtpError {
    let greeted = Incoming::handshake(&mut *socket, SocketType::Router, b"", &shared.limits);
    let entered = greeted
        .await
        .and_then(|(incoming, peer)| Ok((incoming, shared.enter(&peer)?)));
    let (incoming, (identity, out)) = match entered {
        Ok(entered) => entered,
        Err(error) => return error,
    };
    let deliver = |message: Message| {
        let size = weight(&message);
        let event = RouterEvent::Message(identity.clone(), message);
        shared.events.push(event, size)
    };
    let error = incoming.run(socket, &out, deliver).await;
    shared.leave(&identity, &out);
    error
}
