// SPDX-License-Identifier: Apache-2.0

//! Log lines on their way out, written by a thread of their own.
//!
//! Owns: the queue, its limits, and the count of lines that found no room. A reader that stalls holds that thread
//! and nothing else. Must not know: who writes lines, or their form.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait. Lines that find no room are dropped, counted, and told of later.
const MAX_BYTES: usize = 1 << 20;

/// Says, as a whole line, how many lines were dropped.
pub type Confess = fn(u64) -> String;

/// Lines that wait for their writer. Clones are the same queue.
#[derive(Clone)]
pub struct LogQueue(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    emptied: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines were taken and are being written.
    writing: bool,
}

impl LogQueue {
    /// A queue before `out`. `dropped` counts the lines that found no room.
    pub fn before(
        out: impl Write + Send + 'static,
        dropped: Arc<AtomicU64>,
        confess: Confess,
    ) -> io::Result<Self> {
        let queue = Self(Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            dropped,
        }));
        let writer = queue.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || writer.write_all_to(out, confess))?;
        Ok(queue)
    }

    /// Takes a line if there is room; never waits for the reader.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.0.lock();
        if waiting.bytes + line.len() > MAX_BYTES {
            self.0.dropped.fetch_add(1, Relaxed);
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_vec());
        self.0.filled.notify_one();
    }

    /// Waits until every line is written, no longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut waiting = self.0.lock();
        while waiting.writing || !waiting.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.0.emptied.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_all_to(&self, mut out: impl Write, confess: Confess) {
        let mut told = 0;
        loop {
            let lines = self.0.take();
            let lost = lines
                .iter()
                .filter(|line| out.write_all(line).is_err())
                .count();
            self.0.dropped.fetch_add(lost as u64, Relaxed);
            let dropped = self.0.dropped.load(Relaxed);
            if dropped > told && out.write_all(confess(dropped - told).as_bytes()).is_ok() {
                told = dropped;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines that wait; blocks until there is one.
    fn take(&self) -> VecDeque<Vec<u8>> {
        let mut waiting = self.lock();
        waiting.writing = false;
        self.emptied.notify_all();
        while waiting.lines.is_empty() {
            let woken = self.filled.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
        waiting.writing = true;
        waiting.bytes = 0;
        std::mem::take(&mut waiting.lines)
    }
}

/// One write is one line.
impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Each write waits for a permission.
    struct Gate(mpsc::Receiver<()>, mpsc::Sender<String>);

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let closed = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.0.recv().map_err(closed)?;
            let text = String::from_utf8_lossy(line).into_owned();
            self.1.send(text).map_err(|_| closed(mpsc::RecvError))?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LINE: usize = 1 << 10;

    fn confess(count: u64) -> String {
        count.to_string()
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_and_no_time_and_is_told_how_many() {
        let (permit, permits) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = LogQueue::before(Gate(permits, written), dropped.clone(), confess);
        let queue = queue.expect("a thread");
        let line = "x".repeat(LINE);
        // Whatever the writer has taken meanwhile, two queues full are more than it can hold.
        let pushed = 2 * MAX_BYTES / LINE + 10;
        for _ in 0..pushed {
            queue.push(line.as_bytes());
        }
        let lost = dropped.load(Relaxed);
        assert!(lost >= 10, "{lost}");
        queue.flush(Duration::from_millis(1));
        for _ in 0..=pushed {
            permit.send(()).expect("the writer waits");
        }
        let patience = Duration::from_secs(20);
        let next = || lines.recv_timeout(patience).expect("a line");
        let mut confessed = 0;
        for _ in 0..pushed as u64 - lost {
            let line = next();
            confessed += line.parse::<u64>().unwrap_or(0);
        }
        while confessed < lost {
            confessed += next().parse::<u64>().unwrap_or(0);
        }
        assert_eq!(confessed, lost);
        queue.flush(patience);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (permit, permits) = mpsc::channel();
        let (written, _) = mpsc::channel();
        drop(permit);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = LogQueue::before(Gate(permits, written), dropped.clone(), confess);
        let queue = queue.expect("a thread");
        queue.push(b"x");
        queue.flush(Duration::from_secs(20));
        assert_eq!(dropped.load(Relaxed), 1);
    }
}
