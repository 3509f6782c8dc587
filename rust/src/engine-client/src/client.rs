// SPDX-License-Identifier: Apache-2.0

//! The process-wide handle: connecting, health, statistics, utility calls.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use rmpv::Value;
use tokio::sync::Notify;
use vllm_zmtp::{Limits, Listener};

use crate::engine::EngineStats;
use crate::error::{ConnectError, UtilityError};
use crate::liveness::Patience;
use crate::protocol::{RequestType, UtilityRequest};
use crate::registration::Registration;
use crate::shard::ShardClient;
use crate::state::{Health, Shared};
use crate::transport;
use crate::utility::{PendingCall, name_in};

/// What a connection to engines needs to know.
#[derive(Debug)]
pub struct TransportConfig {
    /// Socket that engines get requests from.
    pub input: Listener,
    /// Socket that engines send outputs to.
    pub output: Listener,
    /// First engine index.
    pub engine_start_index: u32,
    /// Number of engines.
    pub engine_count: u32,
    /// Index of this frontend among the engines' frontends.
    pub client_index: u32,
    /// Wait for a registration at most; restarted by each one.
    pub ready_timeout: Duration,
    /// Bytes of outputs that may wait for one reader; beyond it the stream is stopped.
    pub stream_limit: usize,
    /// What an engine's connection may make this side hold.
    pub limits: Limits,
    /// How long an engine may be silent.
    pub patience: Patience,
    /// Prompts that begin alike go to one engine, as long as it isn't overloaded.
    pub prefix_affinity: bool,
}

impl TransportConfig {
    /// One engine with index 0, ten minutes to get ready.
    pub fn new(input: Listener, output: Listener) -> Self {
        Self {
            input,
            output,
            engine_start_index: 0,
            engine_count: 1,
            client_index: 0,
            ready_timeout: Duration::from_secs(600),
            stream_limit: 8 << 20,
            limits: Limits::default(),
            patience: Patience::default(),
            prefix_affinity: true,
        }
    }
}

/// The frontend's connection to its engines; cheap to clone. Its last clone closes the sockets.
#[derive(Clone)]
pub struct EngineClient(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    registration: Registration,
    stop: Arc<Notify>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

impl EngineClient {
    /// Opens both sockets and waits until every engine has registered.
    ///
    /// The transport then runs on the runtime that called this: call it on shard 0's.
    pub async fn connect(config: TransportConfig) -> Result<Self, ConnectError> {
        let connection = transport::open(config).await?;
        let registration = Registration::combine(connection.frames())?;
        let stop = Arc::new(Notify::new());
        let shared = connection.shared();
        tokio::spawn(connection.run(stop.clone()));
        Ok(Self(Arc::new(Handle {
            shared,
            registration,
            stop,
        })))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Sizes of the engines together, as registered at start-up.
    pub fn registration(&self) -> &Registration {
        &self.0.registration
    }

    /// Which engines take requests, and why the others don't.
    pub fn health(&self) -> Health {
        self.shared().health()
    }

    /// Gauges and counters of every engine.
    pub fn stats(&self) -> Vec<EngineStats> {
        self.shared().stats()
    }

    /// A shard's client. Call it on the shard's own thread, inside its `LocalSet`.
    pub fn shard(&self) -> ShardClient {
        ShardClient::start(self.clone())
    }

    /// Ends all streams and refuses new requests.
    pub fn shutdown(&self) {
        self.shared().close();
    }

    /// Calls a method on every engine that takes calls and waits for all replies.
    pub async fn utility(
        &self,
        method: &str,
        args: Vec<Value>,
        timeout: Duration,
    ) -> Result<Vec<Value>, UtilityError> {
        let shared = self.shared();
        let alive = (0..shared.engines.len()).filter(|at| shared.engines[*at].is_alive());
        let calls: Vec<_> = alive
            .map(|at| {
                let name = name_in(shared.engines[at].wire(), method);
                wait(shared, start_call(shared, at, name, &args), method, timeout)
            })
            .collect();
        if calls.is_empty() {
            return Err(UtilityError::NoEngine {
                method: method.to_owned(),
            });
        }
        try_join_all(calls).await
    }
}

/// Sends a call; a send that fails shows as an engine that is gone.
pub(crate) fn start_call<'a>(
    shared: &'a Shared,
    engine: usize,
    method: &str,
    args: &[Value],
) -> PendingCall<'a> {
    let call = shared.calls.begin(engine);
    if !send_call(shared, engine, call.call_id, method, args) {
        shared.calls.drop_call(call.call_id);
    }
    call
}

/// Queues a call's message; false when the engine is gone or doesn't read.
pub(crate) fn send_call(
    shared: &Shared,
    engine: usize,
    call_id: u64,
    method: &str,
    args: &[Value],
) -> bool {
    let request = UtilityRequest {
        client_index: shared.client_index,
        call_id: i128::from(call_id),
        method: method.to_owned(),
        args: args.to_vec(),
    };
    let message = vec![RequestType::Utility.frame(), request.encode().into()];
    let identity = &shared.engines[engine].identity;
    shared.router.send(identity, message).is_ok()
}

async fn wait(
    shared: &Shared,
    mut call: PendingCall<'_>,
    method: &str,
    timeout: Duration,
) -> Result<Value, UtilityError> {
    let index = shared.engines[call.engine].index;
    let method = || method.to_owned();
    match tokio::time::timeout(timeout, &mut call.reply).await {
        Err(_) => Err(UtilityError::Timeout {
            method: method(),
            index,
            timeout,
        }),
        Ok(Err(_)) => Err(UtilityError::EngineGone {
            method: method(),
            index,
        }),
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(message))) => Err(UtilityError::Failed {
            method: method(),
            index,
            message,
        }),
    }
}
