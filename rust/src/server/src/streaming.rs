// SPDX-License-Identifier: Apache-2.0

//! A streamed answer over HTTP/1.1, from behind its head to its end: events in chunks, written without hyper.
//!
//! hyper keeps 24 KiB of buffers for each open answer and takes about 1,500 instructions for each chunk of it. Owns:
//! the chunks' framing; notices that the client left. Must not know: heads, engines.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::emit::pooled::{self, Chunk};
use crate::emit::sse::SseBody;
use crate::read_ahead::ReadAhead;
use crate::sends::{Outbox, Sends};

/// Behind the last chunk.
const END: &[u8] = b"0\r\n\r\n";

/// Writes a stream to its end and gives the connection back; none when the client left. `socket`: the connection's,
/// when what is written goes there as it is.
pub async fn run<S>(
    stream: ReadAhead<S>,
    socket: Option<RawFd>,
    events: Box<SseBody>,
    sends: Rc<RefCell<Sends>>,
) -> Option<ReadAhead<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut streaming = Streaming {
        stream,
        flushed: true,
        events,
        outbox: Occupied(Outbox::new(socket)),
        sends,
    };
    match poll_fn(|cx| streaming.poll(cx)).await {
        Ok(()) => Some(streaming.stream),
        Err(error) => {
            tracing::debug!(%error, "a stream ended");
            None
        }
    }
}

struct Streaming<S> {
    /// First, to be dropped before its socket is.
    outbox: Occupied,
    stream: ReadAhead<S>,
    /// See `write_out`.
    flushed: bool,
    events: Box<SseBody>,
    sends: Rc<RefCell<Sends>>,
}

/// An outbox whose connection is there.
struct Occupied(Rc<RefCell<Outbox>>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.borrow_mut().close();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Streaming<S> {
    /// Ready at the end of the stream; an error when nobody reads it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.look(cx)?;
        // While anything is unsent, nothing new is asked for: what the engine sends waits within the stream's limit.
        ready!(self.send_rest(cx))?;
        if !self.events.is_over() {
            self.gather(cx);
            if !self.events.is_over() && self.outbox.0.borrow().is_queued() {
                return Poll::Pending;
            }
            ready!(self.send_rest(cx))?;
        }
        match self.events.is_over() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Puts everything that is ready into one chunk.
    fn gather(&mut self, cx: &mut Context<'_>) {
        let events = self.events.gather(cx);
        if !events.is_empty() {
            let mut framed = pooled::take();
            frame(&events, self.events.is_over(), &mut framed);
            let chunk = Chunk::Pooled(framed, 0);
            self.sends.borrow_mut().queue(cx, &self.outbox.0, chunk);
        }
        pooled::give(events);
    }

    /// Sends what no batch did.
    fn send_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outbox = self.outbox.0.borrow_mut();
        let chunk = ready!(outbox.poll_rest(cx))?;
        write_out(&mut self.stream, chunk, &mut self.flushed, cx)
    }
}

/// Writes a chunk to its end. `flushed`: nothing that was written earlier waits to be encrypted and sent.
fn write_out<S: AsyncWrite + Unpin>(
    stream: &mut S,
    chunk: &mut Chunk,
    flushed: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut stream = Pin::new(stream);
    if chunk.has_remaining() {
        *flushed = false;
        while chunk.has_remaining() {
            match ready!(stream.as_mut().poll_write(cx, chunk.chunk()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => chunk.advance(sent),
            }
        }
        *chunk = Chunk::default();
    }
    if !*flushed {
        ready!(stream.poll_flush(cx))?;
        *flushed = true;
    }
    Poll::Ready(Ok(()))
}

/// One chunk of HTTP/1.1, and the end of the answer behind the last one.
fn frame(events: &[u8], last: bool, out: &mut Vec<u8>) {
    hexadecimal(events.len(), out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(events);
    out.extend_from_slice(b"\r\n");
    if last {
        out.extend_from_slice(END);
    }
}

/// A length in hexadecimal digits. `write!` would be 6 % of a streamed token's instructions.
fn hexadecimal(length: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    out.extend(
        (0..digits)
            .rev()
            .map(|at| b"0123456789abcdef"[length >> (4 * at) & 15]),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_standard_library_writes_them() {
        let lengths = (0..300).chain([4095, 4096, 65_535, 65_536, 0xdead_beef, usize::MAX]);
        for length in lengths {
            let mut out = Vec::new();
            hexadecimal(length, &mut out);
            assert_eq!(out, format!("{length:x}").as_bytes());
        }
    }

    #[test]
    fn chunks_carry_their_length_and_the_last_one_the_end() {
        let framed = |events: &[u8], last| {
            let mut out = Vec::new();
            frame(events, last, &mut out);
            out
        };
        assert_eq!(
            framed(&[b'x'; 26], false),
            b"1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n"
        );
        assert_eq!(framed(b"data", true), b"4\r\ndata\r\n0\r\n\r\n");
    }

    /// Takes everything, and holds it back for so many flushes, as TLS does over a full socket.
    struct Holding(usize);

    impl AsyncWrite for Holding {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Poll::Pending
                }
                None => Poll::Ready(Ok(())),
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_held_back_is_flushed_before_anything_else() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut chunk = Chunk::Whole(b"data"[..].into());
        let (mut stream, mut flushed) = (Holding(2), true);
        let mut write = || write_out(&mut stream, &mut chunk, &mut flushed, &mut cx).is_ready();
        assert_eq!([write(), write(), write()], [false, false, true]);
        assert!(write(), "nothing is left to do");
    }
}
