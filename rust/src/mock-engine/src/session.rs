// SPDX-License-Identifier: Apache-2.0

//! Greeting, connecting and registering, as an engine does before its first step.

use std::sync::Arc;

use vllm_engine_client::protocol::{
    DecodeError, EngineStatus, HandshakeMessage, InitMessage, engine_identity,
};
use vllm_zmtp::{Dealer, Message, Push, ZmtpError};

use crate::Counters;
use crate::engine::{Ended, Engine};
use crate::options::MockOptions;

/// Why an engine could not go on.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    /// A socket operation failed.
    #[error("engine {index}: {step}: {source}")]
    Socket {
        /// Engine index.
        index: u32,
        /// What was being done.
        step: &'static str,
        /// Cause.
        source: ZmtpError,
    },
    /// The launcher's answer could not be read.
    #[error("engine {index}: the answer to HELLO: {source}")]
    Init {
        /// Engine index.
        index: u32,
        /// Cause.
        source: DecodeError,
    },
    /// The launcher names other than one frontend.
    #[error("engine {index}: {count} frontends in INIT; the mock serves exactly one")]
    Frontends {
        /// Engine index.
        index: u32,
        /// Frontends named.
        count: usize,
    },
    /// A task ended in a panic.
    #[error("an engine task failed: {0}")]
    Task(String),
}

/// The sockets of an engine that a frontend knows.
pub(crate) struct Connection {
    pub(crate) dealer: Dealer,
    pub(crate) push: Push,
}

/// Runs one engine until its frontend leaves or a fault ends it.
pub(crate) async fn run(
    index: u32,
    mut options: Arc<MockOptions>,
    counters: Arc<Counters>,
) -> Result<(), MockError> {
    loop {
        let (connection, handshake) = connect(index, &options).await?;
        let mut engine = Engine::new(index, options.clone(), counters.clone(), connection);
        let ended = engine.run().await;
        // Kept until here: a launcher takes its end for the engine's.
        drop(handshake);
        match ended {
            Ended::Reconnect => Arc::make_mut(&mut options).fault.clear(),
            Ended::Left | Ended::Died => return Ok(()),
        }
    }
}

async fn dealer(index: u32, address: &str) -> Result<Dealer, ZmtpError> {
    Dealer::connect(address, &engine_identity(index as u16)).await
}

fn at(index: u32, step: &'static str) -> impl Fn(ZmtpError) -> MockError {
    move |source| MockError::Socket {
        index,
        step,
        source,
    }
}

async fn connect(
    index: u32,
    options: &MockOptions,
) -> Result<(Connection, Option<Dealer>), MockError> {
    let (input, output, handshake) = addresses(index, options).await?;
    let dealer = dealer(index, &input)
        .await
        .map_err(at(index, "connecting to the input plane"))?;
    let push = Push::connect(&output)
        .await
        .map_err(at(index, "connecting to the output plane"))?;
    let registration = vec![options.registration(index).encode().into()];
    send(&dealer, registration)
        .await
        .map_err(at(index, "registering"))?;
    if let Some(handshake) = &handshake {
        let ready = greeting(EngineStatus::Ready, options);
        send(handshake, ready)
            .await
            .map_err(at(index, "sending READY"))?;
    }
    Ok((Connection { dealer, push }, handshake))
}

async fn send(dealer: &Dealer, message: Message) -> Result<(), ZmtpError> {
    let sent = dealer.send(message).await;
    sent.map_err(|_| ZmtpError::Closed)
}

fn greeting(status: EngineStatus, options: &MockOptions) -> Message {
    let message = HandshakeMessage {
        status,
        local: options.local,
        headless: !options.local,
        parallel_config_hash: None,
    };
    vec![message.encode().into()]
}

/// Input and output address, from the options or from the launcher.
async fn addresses(
    index: u32,
    options: &MockOptions,
) -> Result<(String, String, Option<Dealer>), MockError> {
    if let (Some(input), Some(output)) = (&options.input, &options.output) {
        return Ok((input.clone(), output.clone(), None));
    }
    let address = options.handshake.as_deref().unwrap_or_default();
    let mut socket = dealer(index, address)
        .await
        .map_err(at(index, "connecting to the handshake"))?;
    let hello = greeting(EngineStatus::Hello, options);
    send(&socket, hello)
        .await
        .map_err(at(index, "sending HELLO"))?;
    let reply = socket.recv().await.ok_or(ZmtpError::Closed);
    let reply = reply.map_err(at(index, "waiting for INIT"))?;
    let payload = reply
        .iter()
        .find(|frame| !frame.is_empty())
        .map_or(&[][..], |frame| frame);
    let init = InitMessage::decode(payload).map_err(|source| MockError::Init { index, source })?;
    match (&init.addresses.inputs[..], &init.addresses.outputs[..]) {
        ([input], [output]) => Ok((input.clone(), output.clone(), Some(socket))),
        (inputs, _) => Err(MockError::Frontends {
            index,
            count: inputs.len(),
        }),
    }
}
