// SPDX-License-Identifier: Apache-2.0

//! The frontend's end of the handshake plane, for `vllm-rs serve`: it tells every engine where to
//! connect and learns when its model is loaded.
//!
//! It goes on answering after start-up, so that a restarted engine finds its way back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use vllm_zmtp::{Limits, Listener, Router, RouterEvent};

use crate::protocol::{EngineAddresses, EngineStatus, HandshakeMessage, InitMessage, engine_index};

/// What engines are told, and which ones are expected.
#[derive(Debug)]
pub struct HandshakeConfig {
    /// Socket that engines greet on.
    pub listener: Listener,
    /// First engine index.
    pub engine_start_index: u32,
    /// Number of engines.
    pub engine_count: u32,
    /// Address of the input plane.
    pub input: String,
    /// Address of the output plane.
    pub output: String,
}

/// Why the handshake did not complete.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The listener can't be used.
    #[error("the handshake listener can't be used: {0}")]
    Listener(String),
    /// Engines that did not greet or did not get ready.
    #[error("engines {missing:?} did not get ready within {}s", .timeout.as_secs())]
    Timeout {
        /// Their indices.
        missing: Vec<u32>,
        /// The limit.
        timeout: Duration,
    },
    /// The task that answers engines ended.
    #[error("the handshake ended early")]
    Closed,
}

/// Which engines have done what.
#[derive(Debug, Clone, Default)]
struct Progress {
    greeted: BTreeSet<u32>,
    ready: BTreeSet<u32>,
}

/// Answers engines until it is dropped.
pub struct HandshakeOwner {
    address: String,
    expected: std::ops::Range<u32>,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

impl Drop for HandshakeOwner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HandshakeOwner {
    /// Starts answering on the current runtime.
    pub async fn start(config: HandshakeConfig) -> Result<Self, HandshakeError> {
        let listener_error =
            |error: &dyn std::fmt::Display| HandshakeError::Listener(error.to_string());
        let address = config
            .listener
            .address()
            .map_err(|error| listener_error(&error))?;
        let socket = Router::bind(config.listener, Limits::default());
        let socket = socket.map_err(|error| listener_error(&error))?;
        let expected = config.engine_start_index..config.engine_start_index + config.engine_count;
        let (sender, progress) = watch::channel(Progress::default());
        let init = init_message(config.input, config.output);
        let task = tokio::spawn(serve(socket, expected.clone(), init, sender));
        Ok(Self {
            address,
            expected,
            progress,
            task,
        })
    }

    /// Where engines greet.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until every expected engine said READY; the limit restarts with every step forward.
    pub async fn wait_ready(&mut self, timeout: Duration) -> Result<(), HandshakeError> {
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return Ok(());
            }
            match tokio::time::timeout(timeout, self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(HandshakeError::Closed),
                Err(_) => return Err(HandshakeError::Timeout { missing, timeout }),
            }
        }
    }

    fn missing(&self) -> Vec<u32> {
        let progress = self.progress.borrow();
        self.expected
            .clone()
            .filter(|index| !progress.ready.contains(index))
            .collect()
    }
}

fn init_message(input: String, output: String) -> Vec<u8> {
    let addresses = EngineAddresses {
        inputs: vec![input],
        outputs: vec![output],
        ..EngineAddresses::default()
    };
    InitMessage {
        addresses,
        parallel_config: Vec::new(),
    }
    .encode()
}

async fn serve(
    mut socket: Router,
    expected: std::ops::Range<u32>,
    init: Vec<u8>,
    progress: watch::Sender<Progress>,
) {
    let sender = socket.sender();
    loop {
        let RouterEvent::Message(identity, message) = socket.recv().await else {
            continue;
        };
        let Some((index, greeting)) = parse(&identity, &message, &expected) else {
            continue;
        };
        match greeting.status {
            EngineStatus::Hello => {
                if let Err(error) = sender.send(&identity, vec![init.clone().into()]) {
                    tracing::warn!(index, %error, "the engine left during the handshake");
                }
                progress.send_modify(|progress| {
                    progress.greeted.insert(index);
                    progress.ready.remove(&index);
                });
            }
            EngineStatus::Ready => progress.send_modify(|progress| {
                progress.ready.insert(index);
            }),
        }
    }
}

fn parse(
    identity: &[u8],
    message: &[Bytes],
    expected: &std::ops::Range<u32>,
) -> Option<(u32, HandshakeMessage)> {
    let index = engine_index(identity)
        .map(u32::from)
        .filter(|index| expected.contains(index));
    let Some(index) = index else {
        tracing::warn!(
            ?expected,
            "an engine with an unexpected index wants to join: ignored"
        );
        return None;
    };
    // A DEALER may put an empty delimiter before its payload.
    let payload = message.iter().find(|frame| !frame.is_empty())?;
    match HandshakeMessage::decode(payload) {
        Ok(greeting) => Some((index, greeting)),
        Err(error) => {
            tracing::warn!(index, %error, "ignoring a handshake message");
            None
        }
    }
}
