// SPDX-License-Identifier: Apache-2.0

//! What the streams of a shard have to send after an engine step, in one system call where the kernel has io_uring.
//!
//! One `send` a stream costs 2.3 us of kernel time on loopback, one of a batch of 64 costs 1.5. Owns: the ring, the
//! batch, and what a socket did not take. Must not know: events, chunks, when a stream is over.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::RawFd;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use io_uring::{IoUring, opcode, types};

use crate::emit::pooled::Chunk;

/// Sends per system call: about 0.1 ms of work, which the first of them waits.
const BATCH: usize = 64;
/// Fewer than these are sent one by one.
const LEAST: usize = 3;
/// A socket that is full says so at once, and one whose peer is gone kills nobody.
const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What one connection has to send.
pub struct Outbox {
    /// The socket; none once the connection is gone, and for one whose bytes are encrypted first.
    socket: Option<RawFd>,
    chunk: Chunk,
    queued: bool,
    error: Option<io::Error>,
    /// Woken when the socket did not take everything, or when somebody waits for the end.
    waker: Option<Waker>,
    awaited: bool,
}

impl Outbox {
    /// An empty one.
    pub fn new(socket: Option<RawFd>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            socket,
            chunk: Chunk::default(),
            queued: false,
            error: None,
            waker: None,
            awaited: false,
        }))
    }

    /// Whether it is in a batch.
    pub fn is_queued(&self) -> bool {
        self.queued
    }

    /// What is left for its connection to send; pending while it is in a batch.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Chunk>> {
        if self.queued {
            self.await_end(cx);
            return Poll::Pending;
        }
        match self.error.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(&mut self.chunk)),
        }
    }

    /// The connection is gone: nothing is sent any more to what may soon be another's descriptor.
    pub fn close(&mut self) {
        self.socket = None;
    }

    fn await_end(&mut self, cx: &mut Context<'_>) {
        self.awaited = true;
        self.remember(cx.waker());
    }

    fn remember(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Takes the result of a send, a negative one being the error's number.
    fn settle(&mut self, result: i32) {
        self.queued = false;
        match usize::try_from(result) {
            Ok(sent) => self.chunk.advance(sent),
            Err(_) if -result == libc::EAGAIN => {}
            Err(_) => self.error = Some(io::Error::from_raw_os_error(-result)),
        }
        let done = self.error.is_none() && !self.chunk.has_remaining();
        if done {
            self.chunk = Chunk::default();
        }
        if let Some(waker) = self.waker.as_ref().filter(|_| self.awaited || !done) {
            waker.wake_by_ref();
        }
        self.awaited = false;
    }
}

/// The batch of a shard.
pub struct Sends {
    ring: Option<IoUring>,
    queued: Vec<Rc<RefCell<Outbox>>>,
    /// Sends what was queued, behind everything that runs in this turn.
    flusher: Option<Waker>,
}

impl Sends {
    /// A batch whose ring belongs to this thread; call inside its `LocalSet`. Without a ring nothing is ever queued.
    pub fn start() -> Rc<RefCell<Self>> {
        let ring = ring()
            .inspect_err(
                |error| tracing::debug!(%error, "no io_uring: streams are sent one by one"),
            )
            .ok();
        let sends = Rc::new(RefCell::new(Self {
            ring,
            queued: Vec::with_capacity(BATCH),
            flusher: None,
        }));
        tokio::task::spawn_local(flush(Rc::downgrade(&sends)));
        sends
    }

    /// Puts a chunk into an empty outbox, to be sent with others' soon; without a ring or a plain socket it stays for
    /// the connection to send.
    pub fn queue(&mut self, cx: &mut Context<'_>, outbox: &Rc<RefCell<Outbox>>, chunk: Chunk) {
        let mut waiting = outbox.borrow_mut();
        waiting.chunk = chunk;
        if self.ring.is_none() || waiting.socket.is_none() {
            return;
        }
        waiting.queued = true;
        waiting.remember(cx.waker());
        drop(waiting);
        self.queued.push(outbox.clone());
        if self.queued.len() == BATCH {
            self.send();
        } else if self.queued.len() == 1
            && let Some(flusher) = &self.flusher
        {
            flusher.wake_by_ref();
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) {
        self.send();
        match &mut self.flusher {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn send(&mut self) {
        let mut batch = std::mem::take(&mut self.queued);
        batch.retain(|outbox| outbox.borrow().socket.is_some());
        match &mut self.ring {
            Some(ring) if batch.len() >= LEAST => {
                if let Err(error) = send_together(ring, &batch) {
                    tracing::warn!(%error, "io_uring fails: streams are sent one by one from now on");
                    self.ring = None;
                    batch.iter().for_each(send_alone);
                }
            }
            _ => batch.iter().for_each(send_alone),
        }
        batch.clear();
        self.queued = batch;
    }
}

/// A ring that only this thread uses, and that does nothing by itself.
fn ring() -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    builder.build(BATCH as u32)
}

async fn flush(sends: Weak<RefCell<Sends>>) {
    poll_fn(|cx| match sends.upgrade() {
        Some(sends) => {
            sends.borrow_mut().poll_flush(cx);
            Poll::Pending
        }
        None => Poll::Ready(()),
    })
    .await
}

/// Sends at most `BATCH` outboxes and waits for all results, which are there at once. An error leaves those queued
/// whose result is not known.
fn send_together(ring: &mut IoUring, batch: &[Rc<RefCell<Outbox>>]) -> io::Result<()> {
    for (at, outbox) in batch.iter().enumerate() {
        let outbox = outbox.borrow();
        let (bytes, socket) = (outbox.chunk.chunk(), outbox.socket.unwrap_or(-1));
        let send = opcode::Send::new(types::Fd(socket), bytes.as_ptr(), bytes.len() as u32)
            .flags(FLAGS)
            .build()
            .user_data(at as u64);
        // SAFETY: the bytes stay where they are until the result is taken below: the batch holds the outbox, whose
        // chunk changes only when its result is settled.
        unsafe { ring.submission().push(&send) }.map_err(io::Error::other)?;
    }
    let mut left = batch.len();
    while left > 0 {
        let submitted = ring.submit_and_wait(left);
        for done in ring.completion() {
            let mut outbox = batch[done.user_data() as usize].borrow_mut();
            outbox.settle(done.result());
            left -= 1;
        }
        match submitted {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn send_alone(outbox: &Rc<RefCell<Outbox>>) {
    let mut outbox = outbox.borrow_mut();
    let Some(socket) = outbox.socket.filter(|_| outbox.queued) else {
        return;
    };
    let bytes = outbox.chunk.chunk();
    // SAFETY: the bytes are valid for their length; the descriptor is open as long as `socket` is told.
    let sent = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), FLAGS) };
    let result = match sent {
        0.. => sent as i32,
        _ => -io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EIO),
    };
    outbox.settle(result);
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn sends(ring: Option<IoUring>) -> Sends {
        Sends {
            ring,
            queued: Vec::new(),
            flusher: None,
        }
    }

    fn chunk(bytes: &[u8]) -> Chunk {
        Chunk::Whole(bytes.to_vec().into())
    }

    /// Each of so many peers gets its own bytes; one that is gone and one that is full are told apart.
    fn everybody_gets_their_own(mut sends: Sends, peers: usize) {
        let woken = Arc::new(Count::default());
        let waker = woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        let pairs: Vec<_> = (0..peers)
            .map(|_| UnixStream::pair().expect("a pair"))
            .collect();
        let boxes: Vec<_> = pairs
            .iter()
            .map(|(ours, _)| Outbox::new(Some(ours.as_raw_fd())))
            .collect();
        for (at, outbox) in boxes.iter().enumerate() {
            let bytes = format!("for {at}");
            sends.queue(&mut cx, outbox, chunk(bytes.as_bytes()));
        }
        boxes[0].borrow_mut().close();
        assert!(boxes[1].borrow_mut().poll_rest(&mut cx).is_pending());
        sends.send();
        assert_eq!(woken.0.load(Relaxed), 1, "who waited");
        for (at, (_, mut theirs)) in pairs.into_iter().enumerate().skip(1) {
            let mut bytes = [0; 16];
            let read = theirs.read(&mut bytes).expect("it was sent");
            assert_eq!(bytes[..read], *format!("for {at}").as_bytes());
        }
    }

    #[test]
    fn a_batch_reaches_everybody_but_who_left() {
        for peers in [2, 3, 40] {
            if let Ok(ring) = ring() {
                everybody_gets_their_own(sends(Some(ring)), peers);
            }
        }
    }

    /// What is left when a peer does not read, and the error when it is gone.
    fn nobody_reads(send: impl Fn(&[Rc<RefCell<Outbox>>])) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let outbox = Outbox::new(Some(ours.as_raw_fd()));
        let woken = Arc::new(Count::default());
        let waker = woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        let queue = |cx: &mut Context<'_>, bytes: &[u8]| {
            let mut waiting = outbox.borrow_mut();
            waiting.chunk = chunk(bytes);
            waiting.queued = true;
            waiting.remember(cx.waker());
        };
        queue(&mut cx, &vec![0; 16 << 20]);
        send(std::slice::from_ref(&outbox));
        assert_eq!(woken.0.load(Relaxed), 1, "to send the rest");
        let rest = |cx: &mut Context<'_>| match outbox.borrow_mut().poll_rest(cx) {
            Poll::Ready(rest) => rest.map(|chunk| chunk.remaining()),
            Poll::Pending => panic!("it is not queued"),
        };
        assert!((1..16 << 20).contains(&rest(&mut cx).expect("no error")));
        drop(theirs);
        queue(&mut cx, b"x");
        send(std::slice::from_ref(&outbox));
        assert_eq!(woken.0.load(Relaxed), 2, "to see the error");
        assert_eq!(
            rest(&mut cx).expect_err("gone").kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn a_full_or_lost_socket_is_its_connections_matter() {
        nobody_reads(|batch| batch.iter().for_each(send_alone));
        if let Ok(ring) = ring() {
            let ring = RefCell::new(ring);
            nobody_reads(|batch| {
                send_together(&mut ring.borrow_mut(), batch).expect("the ring works");
            });
        }
    }
}
