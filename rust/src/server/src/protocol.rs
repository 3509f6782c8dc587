// SPDX-License-Identifier: Apache-2.0

//! Which HTTP a connection speaks, and serving it by hyper.
//!
//! Owns: limits of heads and of HTTP/2, and what an open connection waits for. A streamed answer over HTTP/1.1 leaves
//! hyper once its head is written: `streaming` has the connection until the answer is over.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use crate::accept::Room;
use crate::app::App;
use crate::body::Body;
use crate::connection::{Orders, Socket};
use crate::emit::sse::SseBody;
use crate::read_ahead::ReadAhead;
use crate::{errors, routes, streaming};

/// Headers of a request at most, and the bytes they may take.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Requests on one HTTP/2 connection at once.
const MAX_H2_STREAMS: u32 = 256;
/// An HTTP/2 peer that does not answer a ping for this long is gone.
const H2_PING: Duration = Duration::from_secs(20);

/// Serves a connection to its end. Its first head must come within `patience`.
pub async fn serve<S>(app: &Rc<App>, patience: Duration, room: Room, stream: S)
where
    S: Socket,
{
    let mut stream = ReadAhead::new(stream);
    let mut course = Course {
        app,
        room,
        patience: Some(Box::pin(tokio::time::sleep(patience))),
        asked: Rc::default(),
    };
    match poll_fn(|cx| course.poll_version(cx, &mut stream)).await {
        Some(Version::HTTP_2) => serve_http2(&mut course, stream).await,
        Some(_) => serve_http1(&mut course, stream).await,
        None => {}
    }
}

/// What an open connection waits for besides its client's bytes.
struct Course<'a> {
    app: &'a Rc<App>,
    room: Room,
    /// Until a head says which HTTP it is, nothing else limits the wait.
    patience: Option<Pin<Box<Sleep>>>,
    /// A head came.
    asked: Rc<Cell<bool>>,
}

impl Course<'_> {
    /// Ready when the connection has to be closed as it is.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.app.connections.orders() == Orders::Close {
            return Poll::Ready(());
        }
        if self.asked.get() {
            self.patience = None;
        }
        match &mut self.patience {
            Some(patience) => patience.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// What runs is the last that is answered.
    fn finishes(&self) -> bool {
        let answered = self.room == Room::Scarce && self.asked.get();
        answered || self.app.connections.orders() >= Orders::Finish
    }

    /// Which HTTP it is; none when it is to be closed before that is known.
    fn poll_version<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut ReadAhead<S>,
    ) -> Poll<Option<Version>> {
        if self.finishes() || self.poll_close(cx).is_ready() {
            return Poll::Ready(None);
        }
        stream.poll_version(cx).map(Result::ok)
    }

    /// Serves; ready when the connection is over.
    fn poll<C: Hyper>(&mut self, cx: &mut Context<'_>, connection: &mut Finishing<C>) -> Poll<()> {
        if self.poll_close(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            if self.finishes() {
                connection.finish();
            }
            let end = connection.hyper.as_mut().poll(cx);
            if end.is_ready() || self.finishes() == connection.finishing {
                return end.map(|end| {
                    if let Err(error) = end {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
        }
    }
}

/// A connection in hyper's hands.
trait Hyper: Future<Output = hyper::Result<()>> {
    /// Takes no further request.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<S, V> Hyper for http1::Connection<TokioIo<S>, V>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, V> Hyper for http2::Connection<TokioIo<S>, V, OnShard>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: HttpService<Incoming, ResBody = Body, Error = Infallible>,
    V::Future: 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Remembers that hyper was told to finish: twice would be once too often.
struct Finishing<C> {
    hyper: Pin<Box<C>>,
    finishing: bool,
}

impl<C: Hyper> Finishing<C> {
    /// In a box, which is freed when a stream leaves hyper.
    fn new(hyper: C) -> Self {
        Self {
            hyper: Box::pin(hyper),
            finishing: false,
        }
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.finishing, true) {
            self.hyper.as_mut().graceful_shutdown();
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

async fn serve_http2<S>(course: &mut Course<'_>, stream: ReadAhead<S>)
where
    S: Socket,
{
    let (app, room, asked) = (course.app.clone(), course.room, course.asked.clone());
    let service = service_fn(move |request| {
        asked.set(true);
        answer(app.clone(), room, None, request)
    });
    let connection = http2_builder().serve_connection(TokioIo::new(stream), service);
    let mut connection = Finishing::new(connection);
    poll_fn(|cx| course.poll(cx, &mut connection)).await;
}

fn http2_builder() -> http2::Builder<OnShard> {
    let mut builder = http2::Builder::new(OnShard);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_H2_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PING);
    builder
}

/// By hyper until an answer is streamed, by `streaming` until that is over, and so on.
async fn serve_http1<S>(course: &mut Course<'_>, mut stream: ReadAhead<S>)
where
    S: Socket,
{
    while let Some((taken, events)) = until_streamed(course, stream).await {
        let socket = taken.get_ref().plain();
        let streaming = streaming::run(taken, socket, events, course.app.sends.clone());
        let mut streaming = pin!(streaming);
        let done = poll_fn(|cx| match course.poll_close(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => streaming.as_mut().poll(cx),
        });
        match done.await {
            Some(back) => stream = back,
            None => return,
        }
    }
}

/// Serves requests until the head of a streamed answer is written; none at the connection's end.
async fn until_streamed<S>(
    course: &mut Course<'_>,
    stream: ReadAhead<S>,
) -> Option<(ReadAhead<S>, Box<SseBody>)>
where
    S: Socket,
{
    let written = stream.written();
    let streamed = Rc::new(Streamed::default());
    let service = {
        let (app, room, asked) = (course.app.clone(), course.room, course.asked.clone());
        let streamed = streamed.clone();
        service_fn(move |request| {
            asked.set(true);
            answer(app.clone(), room, Some(streamed.clone()), request)
        })
    };
    let builder = http1_builder(course.app.shared.config.idle_timeout);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = Finishing::new(connection);
    let events = poll_fn(|cx| {
        if course.poll(cx, &mut connection).is_ready() {
            return Poll::Ready(None);
        }
        // A head that the socket did not take yet is hyper's: it is woken to write on.
        let events = written.get().then(|| streamed.take()).flatten();
        events.map_or(Poll::Pending, |events| Poll::Ready(Some(events)))
    })
    .await?;
    let parts = Pin::into_inner(connection.hyper).into_parts();
    let mut stream = parts.io.into_inner();
    stream.put_back(&parts.read_buf);
    Some((stream, events))
}

fn http1_builder(patience: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // One buffer and a plain send: a chunk of a stream is shorter than what three vectors cost.
        .writev(false)
        .header_read_timeout(patience)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
}

/// A streamed answer on its way out of hyper.
type Streamed = Cell<Option<Box<SseBody>>>;

async fn answer(
    app: Rc<App>,
    room: Room,
    streamed: Option<Rc<Streamed>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if room == Room::Plenty || routes::is_about_health(&request) {
        let streamed = streamed.filter(|_| stays_open(request.version(), request.headers()));
        let response = routes::dispatch(app, request).await;
        return Ok(match streamed {
            Some(streamed) => response.map(|body| leave(body, &streamed)),
            None => response,
        });
    }
    let refused = &app.shared.config.counters.connections_refused;
    refused.fetch_add(1, Relaxed);
    Ok(routes::error_response(&errors::crowded()))
}

/// An answer without known length comes in chunks, and others may follow on the same connection. A request in chunks
/// may have told a length as well: hyper hides that, and closes behind the answer, as it has to.
fn stays_open(version: Version, headers: &HeaderMap) -> bool {
    let closes = headers.get_all(CONNECTION).iter().any(|value| {
        let options = value.as_bytes().split(|&byte| byte == b',');
        options
            .map(<[u8]>::trim_ascii)
            .any(|option| option.eq_ignore_ascii_case(b"close"))
    });
    version == Version::HTTP_11 && !closes && !headers.contains_key(TRANSFER_ENCODING)
}

/// Leaves the head and the first event to hyper, for one write.
fn leave(body: Body, streamed: &Streamed) -> Body {
    match body {
        Body::Stream(mut events) if events.goes_on() => {
            let first = events.first();
            streamed.set(Some(events));
            Body::Begun(Some(first))
        }
        body => body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_will_be_closed_stays_with_hyper() {
        let stays = |version, option: &'static str| {
            let header = (CONNECTION, http::HeaderValue::from_static(option));
            stays_open(version, &HeaderMap::from_iter([header]))
        };
        assert!(stays_open(Version::HTTP_11, &HeaderMap::new()));
        assert!(stays(Version::HTTP_11, "keep-alive"));
        assert!(!stays(Version::HTTP_11, "TE, Close"));
        assert!(!stays(Version::HTTP_10, "keep-alive"));
    }
}
