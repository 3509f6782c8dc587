// SPDX-License-Identifier: Apache-2.0

//! Notices that a client left although bytes of it are still unread.
//!
//! hyper looks for the end of a connection while a request is being answered, but only as long as nothing follows
//! that request: with a line break or a second request behind it, it stops reading until the answer is written, and
//! who left is not missed. Owns: reading a little further in that case, and keeping what was read for later. Must
//! not know what the bytes mean.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes kept at most; behind more than these nobody's end is seen.
const MOST: usize = 16 << 10;

/// What every connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose end is seen early.
pub struct ReadAhead<S> {
    stream: S,
    /// Read, and not yet asked for, from `at` on.
    kept: Vec<u8>,
    at: usize,
    /// The reader waits for more, so it sees the end itself.
    waits: bool,
    /// The socket took everything that was to be written.
    written: Rc<Cell<bool>>,
}

impl<S> ReadAhead<S> {
    /// Nothing is read before somebody asks or writes.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            kept: Vec::new(),
            at: 0,
            waits: false,
            written: Rc::default(),
        }
    }

    /// What is read and written here.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Tells whether the socket took everything that was to be written, also while somebody else has the connection.
    pub fn written(&self) -> Rc<Cell<bool>> {
        self.written.clone()
    }

    /// Takes back what a reader did not use; it is read again before anything else.
    pub fn put_back(&mut self, unused: &[u8]) {
        self.kept.splice(..self.at, unused.iter().copied());
        self.at = 0;
        self.waits = false;
    }

    /// Moves what is kept to its reader; whether there was anything.
    fn take(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let left = &self.kept[self.at..];
        let count = left.len().min(into.remaining());
        into.put_slice(&left[..count]);
        self.at += count;
        if self.at == self.kept.len() {
            self.kept = Vec::new();
            self.at = 0;
        }
        count > 0
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    /// Which HTTP the first bytes belong to; they stay to be read.
    pub fn poll_version(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Version>> {
        loop {
            let seen = &self.kept[..self.kept.len().min(PREFACE.len())];
            if !PREFACE.starts_with(seen) {
                return Poll::Ready(Ok(Version::HTTP_11));
            }
            if seen.len() == PREFACE.len() {
                return Poll::Ready(Ok(Version::HTTP_2));
            }
            ready!(self.read_on(cx))?;
        }
    }

    /// Reads what has come; an error where nothing more will.
    pub fn look(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.waits && self.kept.len() < MOST {
            match self.read_on(cx) {
                Poll::Pending => break,
                Poll::Ready(read) => read?,
            }
        }
        Ok(())
    }

    /// Reads a little more; an error at the end.
    fn read_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        let mut into = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut into))?;
        if into.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.kept.extend_from_slice(into.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.take(into) {
            self.waits = false;
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        self.waits = read.is_pending();
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.set(false);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Whoever serves the connection comes by here at each turn, also with nothing to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.written.set(true);
        Poll::Ready(self.look(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
