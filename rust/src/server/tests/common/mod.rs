// SPDX-License-Identifier: Apache-2.0

//! A server with a tiny model in front of the engine double, and a plain HTTP client that hides nothing.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod answers;
pub mod client;
pub mod model;

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use vllm_engine_client::{EngineClient, Listener as EngineListener, TransportConfig};
use vllm_mock_engine::{Counters, MockEngine, MockOptions};
use vllm_server::{ApiKeys, Listener, Model, Server, ServerConfig, Stopped};

/// How long a test waits for a state before it fails; five times what a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a test wants different from the defaults.
pub struct Setup {
    /// The engine double.
    pub engine: MockOptions,
    /// The server.
    pub config: ServerConfig,
    /// Bytes of outputs that may wait for a reader.
    pub stream_limit: usize,
}

impl Setup {
    /// An engine that says `text` over and over, one byte per token.
    pub fn saying(text: &str) -> Self {
        let engine = MockOptions {
            tokens: text.bytes().map(u32::from).collect(),
            ..MockOptions::default()
        };
        Self {
            engine,
            config: ServerConfig::default(),
            stream_limit: 8 << 20,
        }
    }

    /// Engine steps take this long.
    pub fn step_ms(mut self, step_ms: f64) -> Self {
        self.engine.step_ms = step_ms;
        self
    }

    /// Requests end by themselves after so many tokens, with reason `stop`.
    pub fn output_len(mut self, tokens: u64) -> Self {
        self.engine.output_len = Some(tokens);
        self
    }

    /// The engine misbehaves.
    pub fn fault(mut self, fault: &str) -> Self {
        self.engine = self.engine.with_fault(fault);
        self
    }

    /// Starts everything.
    pub fn start(self) -> Fixture {
        Fixture::start(self)
    }
}

/// A running server and its engine.
pub struct Fixture {
    /// Where it listens.
    pub address: SocketAddr,
    /// The engine double.
    pub engine: MockEngine,
    leave: Option<oneshot::Sender<()>>,
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<JoinHandle<Stopped>>,
}

impl Fixture {
    fn start(setup: Setup) -> Self {
        let bind = || EngineListener::bind("tcp://127.0.0.1:0").expect("a loopback port");
        let (input, output) = (bind(), bind());
        let address = |listener: &EngineListener| listener.address().expect("bound");
        let engine = MockEngine::spawn(MockOptions {
            input: Some(address(&input)),
            output: Some(address(&output)),
            ..setup.engine
        });
        let (ready, started) = std::sync::mpsc::channel();
        let (stop, stopping) = oneshot::channel();
        let (leave, leaving) = oneshot::channel();
        let transport = TransportConfig {
            stream_limit: setup.stream_limit,
            ready_timeout: PATIENCE,
            ..TransportConfig::new(input, output)
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            LocalSet::new().block_on(
                &runtime,
                serve(setup.config, transport, ready, leaving, stopping),
            )
        });
        let address = started.recv_timeout(PATIENCE).expect("the server starts");
        Self {
            address,
            engine,
            leave: Some(leave),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A counter of the engine.
    pub fn counter(&self, pick: impl Fn(&Counters) -> &std::sync::atomic::AtomicU64) -> u64 {
        Counters::get(pick(self.engine.counters()))
    }

    /// Asks the server to say that it is not ready, for its grace or until [`Fixture::stop`].
    pub fn leave(&mut self) {
        if let Some(leave) = self.leave.take() {
            let _ = leave.send(());
        }
    }

    /// Asks the server to stop; requests get so long to finish.
    pub fn stop(&mut self, grace: Duration) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(grace);
        }
    }

    /// How the server ended.
    pub fn join(&mut self) -> Stopped {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("the server's thread does not panic")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    config: ServerConfig,
    transport: TransportConfig,
    ready: std::sync::mpsc::Sender<SocketAddr>,
    leaving: oneshot::Receiver<()>,
    mut stopping: oneshot::Receiver<Duration>,
) -> Stopped {
    let engine = EngineClient::connect(transport)
        .await
        .expect("the double registers");
    let listener =
        Listener::bind("127.0.0.1:0".parse().expect("an address")).expect("a loopback port");
    let address = listener.address().expect("bound");
    let model = Model::load(
        &model::files(),
        "tiny".to_owned(),
        vec!["tiny".to_owned(), "org/tiny".to_owned()],
    );
    let server =
        Server::start(config, model.expect("a sound model"), engine, listener).expect("it listens");
    ready
        .send(address.trim_start_matches("http://").parse().expect("TCP"))
        .expect("the test waits");
    let left = async {
        match leaving.await {
            Ok(()) => server.leave().await,
            Err(_) => std::future::pending().await,
        }
    };
    let grace = tokio::select! {
        () = left => Duration::ZERO,
        grace = &mut stopping => grace.unwrap_or(Duration::ZERO),
    };
    server.stop(tokio::time::sleep(grace)).await
}

/// Accepted keys.
pub fn keys(keys: &[&str]) -> ApiKeys {
    let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    ApiKeys::new(&keys).expect("sound keys")
}

/// Polls until something is true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
