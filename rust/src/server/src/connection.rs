// SPDX-License-Identifier: Apache-2.0

//! Connections of one shard: serving them, counting them, ending them.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use slab::Slab;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::accept::{Arrival, Room};
use crate::app::App;
use crate::body::Body;
use crate::read_ahead::ReadAhead;
use crate::{errors, routes};

/// Headers of a request at most, and the bytes they may take.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Requests on one HTTP/2 connection at once.
const MAX_H2_STREAMS: u32 = 256;
/// An HTTP/2 peer that does not answer a ping for this long is gone.
const H2_PING: Duration = Duration::from_secs(20);

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

/// Runs futures of HTTP/2 streams on the shard.
#[derive(Clone)]
struct OnShard;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnShard {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
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
async fn secure(app: &Rc<App>, room: Room, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let Some(tls) = &app.shared.config.tls else {
        return run(app, room, stream).await;
    };
    let handshake = tls.acceptor().accept(stream);
    let limit = app.shared.config.handshake_timeout;
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(limit, handshake) => shaken,
        () = app.shared.phase.draining() => return,
    };
    match shaken {
        Ok(Ok(stream)) => run(app, room, stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn run(app: &Rc<App>, room: Room, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let asked = Rc::new(Cell::new(false));
    let service = {
        let (app, asked) = (app.clone(), asked.clone());
        service_fn(move |request| {
            asked.set(true);
            answer(app.clone(), room, request)
        })
    };
    let mut patience = pin!(tokio::time::sleep(patience(app, room)));
    let builder = builder(app.shared.config.idle_timeout);
    let stream = TokioIo::new(ReadAhead::new(stream));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut finishing = false;
    poll_fn(|cx| {
        let orders = app.connections.orders.get();
        if orders == Orders::Close {
            return Poll::Ready(());
        }
        // Until a head says which HTTP it is, nothing else limits the wait.
        if !asked.get() && patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if orders >= Orders::Finish && !finishing {
            finishing = true;
            connection.as_mut().graceful_shutdown();
        }
        let mut end = connection.as_mut().poll(cx);
        if room == Room::Scarce && asked.get() && !finishing && end.is_pending() {
            finishing = true;
            connection.as_mut().graceful_shutdown();
            end = connection.as_mut().poll(cx);
        }
        end.map(|end| {
            if let Err(error) = end {
                tracing::debug!(%error, "a connection ended");
            }
        })
    })
    .await;
}

fn builder(patience: Duration) -> auto::Builder<OnShard> {
    let mut builder = auto::Builder::new(OnShard);
    builder
        .http1()
        .timer(TokioTimer::new())
        // One buffer and a plain send: a chunk of a stream is shorter than what three vectors cost.
        .writev(false)
        .header_read_timeout(patience)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING);
    builder
}

async fn answer(
    app: Rc<App>,
    room: Room,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if room == Room::Plenty || routes::is_about_health(&request) {
        return Ok(routes::dispatch(app, request).await);
    }
    let refused = &app.shared.config.counters.connections_refused;
    refused.fetch_add(1, Relaxed);
    Ok(routes::error_response(&errors::crowded()))
}
