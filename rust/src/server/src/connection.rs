// SPDX-License-Identifier: Apache-2.0

//! Connections of one shard: serving them, counting them, ending them.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::Duration;

use slab::Slab;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::accept::{Arrival, Room};
use crate::app::App;
use crate::protocol;

/// Where room is scarce, nobody keeps a place by saying little.
const SCARCE_PATIENCE: Duration = Duration::from_secs(5);

/// What the connections of a shard are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Orders {
    /// Serve.
    Serve,
    /// Finish what runs, then close.
    Finish,
    /// Fail what runs with a reason, then close.
    Cut,
    /// Close now.
    Close,
}

/// The open connections of a shard.
pub struct Connections {
    orders: Cell<Orders>,
    wakers: RefCell<Slab<Waker>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            orders: Cell::new(Orders::Serve),
            wakers: RefCell::default(),
        }
    }
}

impl Connections {
    /// Tells every connection, also those to come.
    pub fn order(&self, orders: Orders) {
        self.orders.set(orders);
        self.wakers
            .borrow()
            .iter()
            .for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// What they were told last.
    pub fn orders(&self) -> Orders {
        self.orders.get()
    }

    /// Whether running requests are to end with an error.
    pub fn cut(&self) -> bool {
        self.orders.get() >= Orders::Cut
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.wakers.borrow().len()
    }
}

/// Counts a connection for as long as it is open.
struct Open {
    app: Rc<App>,
    key: usize,
}

impl Open {
    fn new(app: Rc<App>, waker: Waker) -> Self {
        let key = app.connections.wakers.borrow_mut().insert(waker);
        Self { app, key }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.connections.wakers.borrow_mut().remove(self.key);
        self.app.shared.connections.fetch_sub(1, Relaxed);
        if self.app.shared.phase.is_draining() {
            self.app.shared.closed.notify_one();
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// What a connection is read from and written to.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The descriptor, when what is written goes there as it is.
    fn plain(&self) -> Option<RawFd>;
}

impl Socket for TcpStream {
    fn plain(&self) -> Option<RawFd> {
        Some(self.as_raw_fd())
    }
}

impl Socket for UnixStream {
    fn plain(&self) -> Option<RawFd> {
        Some(self.as_raw_fd())
    }
}

impl<S: Socket> Socket for TlsStream<S> {
    fn plain(&self) -> Option<RawFd> {
        None
    }
}

/// Serves a connection to its end. The caller counted it in `shared.connections`.
pub async fn serve(app: Rc<App>, Arrival { stream, room }: Arrival) {
    let open = Open::new(
        app.clone(),
        poll_fn(|cx| Poll::Ready(cx.waker().clone())).await,
    );
    match stream {
        Stream::Tcp(stream) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            if speaks(&app, room, stream.peek(&mut [0])).await {
                secure(&app, room, stream).await;
            }
        }
        Stream::Unix(stream) => {
            if speaks(&app, room, peek(&stream)).await {
                secure(&app, room, stream).await;
            }
        }
    }
    drop(open);
}

/// Whether a first byte comes in time.
async fn speaks(app: &App, room: Room, first: impl Future<Output = io::Result<usize>>) -> bool {
    tokio::select! {
        first = tokio::time::timeout(patience(app, room), first) => matches!(first, Ok(Ok(1..))),
        () = app.shared.phase.draining() => false,
    }
}

/// Time for the first byte, and from then on for the first head.
fn patience(app: &App, room: Room) -> Duration {
    let limit = app.shared.config.read_timeout;
    match room {
        Room::Plenty => limit,
        Room::Scarce => limit.min(SCARCE_PATIENCE),
    }
}

/// Waits for the first byte and leaves it there. That a socket is said to be readable is not enough: a new one may
/// be said to be so when nothing came.
async fn peek(stream: &UnixStream) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        let peek = || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        match stream.try_io(Interest::READABLE, peek) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

/// With certificates, nothing is said before the handshake, which has a time limit.
async fn secure(app: &Rc<App>, room: Room, stream: impl Socket) {
    if app.shared.config.tls.is_some() {
        // In a box of its own: what a handshake needs would be in every plain connection's memory.
        return Box::pin(shake(app, room, stream)).await;
    }
    protocol::serve(app, patience(app, room), room, stream).await;
}

async fn shake(app: &Rc<App>, room: Room, stream: impl Socket) {
    let Some(tls) = &app.shared.config.tls else {
        return;
    };
    let handshake = tls.acceptor().accept(stream);
    let limit = app.shared.config.handshake_timeout;
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limit, handshake) => shaken,
        () = app.shared.phase.draining() => return,
    };
    match shaken {
        Ok(Ok(stream)) => protocol::serve(app, patience(app, room), room, stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}
