// SPDX-License-Identifier: Apache-2.0

//! An engine double: speaks the engine's side of the wire natively and computes nothing.
//!
//! It replaces the model when a frontend is measured or tested, with a chosen step time, batch
//! size, output and log probabilities, and with faults on demand. It knows no server, no HTTP and no
//! text. It must cost much less than the frontends it drives: a token is one short copy.

mod engine;
mod fault;
mod options;
mod orders;
mod prefix;
mod requests;
mod session;
mod step;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::Notify;

pub use fault::{Fault, FaultKind};
pub use options::MockOptions;
pub use orders::{Order, Orders};
pub use session::MockError;

/// What the engines of a process have seen, for tests to wait on.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests added.
    pub added: AtomicU64,
    /// Requests aborted that were still there.
    pub aborted: AtomicU64,
    /// Requests refused because they could not be decoded.
    pub refused: AtomicU64,
    /// Requests that ended by themselves.
    pub finished: AtomicU64,
    /// Requests waiting or running now.
    pub open: AtomicU64,
    /// Steps made.
    pub steps: AtomicU64,
    /// Tokens sent.
    pub tokens: AtomicU64,
    /// Utility calls answered.
    pub calls: AtomicU64,
}

impl Counters {
    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// All of them as one JSON object.
    pub fn to_json(&self) -> String {
        let all = [
            ("added", &self.added),
            ("aborted", &self.aborted),
            ("refused", &self.refused),
            ("finished", &self.finished),
            ("open", &self.open),
            ("steps", &self.steps),
            ("tokens", &self.tokens),
            ("calls", &self.calls),
        ];
        let fields = all.map(|(name, counter)| format!("\"{name}\":{}", Self::get(counter)));
        format!("{{{}}}", fields.join(","))
    }

    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Runs the engines of `options` until their frontend leaves or a fault ends one.
pub async fn run(options: MockOptions, counters: Arc<Counters>) -> Result<(), MockError> {
    let options = Arc::new(options);
    let start = options.start_index;
    let engines = (start..start + options.engines)
        .map(|index| tokio::spawn(session::run(index, options.clone(), counters.clone())));
    for engine in engines.collect::<Vec<_>>() {
        engine
            .await
            .map_err(|error| MockError::Task(error.to_string()))??;
    }
    Ok(())
}

/// Engines on a thread of their own. Dropping it closes their sockets, as a killed process would.
pub struct MockEngine {
    counters: Arc<Counters>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl MockEngine {
    /// Starts the engines; they connect in the background and retry until the frontend listens.
    pub fn spawn(options: MockOptions) -> Self {
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(Notify::new());
        let (seen, stopped) = (counters.clone(), stop.clone());
        let thread = std::thread::spawn(move || serve(options, &seen, &stopped));
        Self {
            counters,
            stop,
            thread: Some(thread),
        }
    }

    /// What the engines have seen.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for MockEngine {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the double shows in the test's output; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

fn serve(options: MockOptions, counters: &Arc<Counters>, stop: &Notify) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll descriptor");
    runtime.block_on(async {
        tokio::select! {
            ended = run(options, counters.clone()) => {
                if let Err(error) = ended {
                    tracing::error!("mock engine: {error}");
                }
            }
            () = stop.notified() => {}
        }
    });
}
