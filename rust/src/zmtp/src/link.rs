// SPDX-License-Identifier: Apache-2.0

//! A connection's traffic: a session on a socket, and the queue that leaves through it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Message;
use crate::command::{SocketType, opening, ping, pong};
use crate::error::{SendError, ZmtpError};
use crate::frame::message_header;
use crate::limits::Limits;
use crate::queue::{Queue, weight};
use crate::session::{Event, PeerInfo, Session};

/// Anything with two directions.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Room for one read. Larger frames get more as their bytes arrive, never by what is announced.
const READ: usize = 64 << 10;
/// Room while nobody is known yet.
const FIRST_READ: usize = 1 << 10;
/// Frames from here on are written from where they lie.
const LARGE: usize = 16 << 10;
/// A write at about this size; several steps or requests share one.
const WRITE: usize = 64 << 10;
/// Answers to PINGs that may wait; a peer that asks more often gets fewer answers.
const PONGS: usize = 16;

/// The end of a connection that others hold: what leaves through it, and whether it lives.
#[derive(Debug)]
pub(crate) struct Outgoing {
    queue: Queue<Message>,
    control: Mutex<VecDeque<Vec<u8>>>,
    answers_pings: bool,
    /// Reads that brought something.
    reads: AtomicU64,
    /// PINGs since the last of them.
    unanswered: AtomicU32,
}

impl Outgoing {
    pub(crate) fn new(limits: &Limits, peer: &PeerInfo) -> Self {
        Self {
            queue: Queue::new(limits),
            control: Mutex::default(),
            answers_pings: peer.answers_pings,
            reads: AtomicU64::new(0),
            unanswered: AtomicU32::new(0),
        }
    }

    pub(crate) fn try_send(&self, message: Message) -> Result<(), SendError> {
        let size = weight(&message);
        self.queue
            .try_push(message, size)
            .map_err(|(error, _)| error)
    }

    pub(crate) async fn send(&self, message: Message) -> Result<(), SendError> {
        let size = weight(&message);
        match self.queue.push(message, size).await {
            true => Ok(()),
            false => Err(SendError::Gone),
        }
    }

    pub(crate) fn close(&self) {
        self.queue.close();
    }

    /// Asks for a sign of life; false when this peer would not understand.
    pub(crate) fn ping(&self) -> bool {
        if self.answers_pings {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            self.control(ping());
        }
        self.answers_pings
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered.load(Ordering::Relaxed)
    }

    fn heard(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.unanswered.store(0, Ordering::Relaxed);
    }

    fn control(&self, command: Vec<u8>) {
        let mut waiting = self.controls();
        if waiting.len() < PONGS {
            waiting.push_back(command);
            drop(waiting);
            // An empty message wakes the writer and sends nothing.
            self.queue.push_always(Message::new());
        }
    }

    fn controls(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.control
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The receiving half: bytes that arrived and what they mean.
pub(crate) struct Incoming {
    session: Session,
    buf: BytesMut,
    room: usize,
}

impl Incoming {
    /// Greets and waits for READY, within the limit.
    pub(crate) async fn handshake(
        socket: &mut (impl Socket + ?Sized),
        ours: SocketType,
        identity: &[u8],
        limits: &Limits,
    ) -> Result<(Self, PeerInfo), ZmtpError> {
        let mut incoming = Self {
            session: Session::new(ours, limits.clone()),
            buf: BytesMut::new(),
            room: FIRST_READ,
        };
        let greeted = async {
            socket.write_all(&opening(ours, identity)).await?;
            match incoming.next(socket, || {}).await? {
                Event::Ready(peer) => Ok::<_, ZmtpError>(peer),
                _ => unreachable!("a session is silent until it is ready"),
            }
        };
        let peer = tokio::time::timeout(limits.handshake, greeted)
            .await
            .map_err(|_| ZmtpError::HandshakeTimeout(limits.handshake))??;
        incoming.room = READ;
        Ok((incoming, peer))
    }

    async fn next(
        &mut self,
        socket: &mut (impl AsyncRead + Unpin + ?Sized),
        heard: impl Fn(),
    ) -> Result<Event, ZmtpError> {
        loop {
            if let Some(event) = self.session.next(&mut self.buf)? {
                return Ok(event);
            }
            self.reserve();
            if socket.read_buf(&mut self.buf).await? == 0 {
                return Err(ZmtpError::Closed);
            }
            heard();
        }
    }

    /// At most doubles what has arrived: an announced length alone buys no memory.
    fn reserve(&mut self) {
        let missing = self.session.missing(&self.buf);
        let room = missing.min(self.buf.len()).max(self.room);
        if self.buf.capacity() - self.buf.len() < room.min(missing.max(self.room / 4)) {
            self.buf.reserve(room);
        }
    }

    /// Runs a connection until either side ends it. `deliver` gets every message; false ends it.
    pub(crate) async fn run<F: Future<Output = bool>>(
        mut self,
        socket: Box<dyn Socket>,
        out: &Outgoing,
        deliver: impl Fn(Message) -> F,
    ) -> ZmtpError {
        let (mut reader, writer) = tokio::io::split(socket);
        let reading = async {
            loop {
                match self.next(&mut reader, || out.heard()).await {
                    Ok(Event::Message(message)) => {
                        if !deliver(message).await {
                            return ZmtpError::Closed;
                        }
                    }
                    Ok(Event::Ping(context)) => out.control(pong(&context)),
                    Ok(Event::Alive | Event::Ready(_)) => {}
                    Err(error) => return error,
                }
            }
        };
        tokio::select! {
            error = reading => error,
            result = write(writer, out) => result.err().map_or(ZmtpError::Closed, Into::into),
        }
    }
}

/// Writes what is queued, as much as there is at once, until the queue is closed.
async fn write(mut socket: impl AsyncWrite + Unpin, out: &Outgoing) -> Result<(), std::io::Error> {
    let (mut batch, mut buf) = (Vec::new(), Vec::new());
    while out.queue.take(&mut batch, 1024).await {
        let controls: Vec<_> = out.controls().drain(..).collect();
        controls
            .iter()
            .for_each(|command| buf.extend_from_slice(command));
        for message in batch.drain(..) {
            write_message(&mut socket, &mut buf, message).await?;
        }
        socket.write_all(&buf).await?;
        buf.clear();
        buf.shrink_to(2 * WRITE);
    }
    socket.shutdown().await
}

async fn write_message(
    socket: &mut (impl AsyncWrite + Unpin),
    buf: &mut Vec<u8>,
    message: Message,
) -> Result<(), std::io::Error> {
    let last = message.len().saturating_sub(1);
    for (at, frame) in message.iter().enumerate() {
        message_header(buf, frame.len(), at < last);
        if frame.len() < LARGE {
            buf.extend_from_slice(frame);
        } else {
            flush(socket, buf, frame).await?;
        }
    }
    if buf.len() >= WRITE {
        flush(socket, buf, &Bytes::new()).await?;
    }
    Ok(())
}

async fn flush(
    socket: &mut (impl AsyncWrite + Unpin),
    buf: &mut Vec<u8>,
    frame: &[u8],
) -> Result<(), std::io::Error> {
    socket.write_all(buf).await?;
    buf.clear();
    socket.write_all(frame).await
}
