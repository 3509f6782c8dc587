// SPDX-License-Identifier: Apache-2.0

//! Greeting, connecting and registering, as an engine does before its first step.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use vllm_engine_client::protocol::{
    DecodeError, EngineStatus, HandshakeMessage, InitMessage, engine_identity,
};
use zeromq::util::PeerIdentity;
use zeromq::{
    DealerSocket, PushSocket, Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend, ZmqError,
    ZmqMessage,
};

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
        source: ZmqError,
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
    pub(crate) dealer: DealerSocket,
    pub(crate) push: PushSocket,
    pub(crate) monitor: BoxStream<'static, SocketEvent>,
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

fn dealer(index: u32) -> DealerSocket {
    let mut socket_options = SocketOptions::default();
    let identity = engine_identity(index as u16).to_vec();
    let identity = PeerIdentity::try_from(identity).expect("two bytes are a valid identity");
    socket_options.peer_identity(identity);
    DealerSocket::with_options(socket_options)
}

fn at(index: u32, step: &'static str) -> impl Fn(ZmqError) -> MockError {
    move |source| MockError::Socket {
        index,
        step,
        source,
    }
}

async fn connect(
    index: u32,
    options: &MockOptions,
) -> Result<(Connection, Option<DealerSocket>), MockError> {
    let (input, output, mut handshake) = addresses(index, options).await?;
    let mut dealer = dealer(index);
    let monitor = dealer.monitor().boxed();
    dealer
        .connect(&input)
        .await
        .map_err(at(index, "connecting to the input plane"))?;
    let mut push = PushSocket::new();
    push.connect(&output)
        .await
        .map_err(at(index, "connecting to the output plane"))?;
    let registration = ZmqMessage::from(options.registration(index).encode());
    dealer
        .send(registration)
        .await
        .map_err(at(index, "registering"))?;
    if let Some(handshake) = &mut handshake {
        let ready = greeting(EngineStatus::Ready, options);
        handshake
            .send(ready)
            .await
            .map_err(at(index, "sending READY"))?;
    }
    Ok((
        Connection {
            dealer,
            push,
            monitor,
        },
        handshake,
    ))
}

fn greeting(status: EngineStatus, options: &MockOptions) -> ZmqMessage {
    let message = HandshakeMessage {
        status,
        local: options.local,
        headless: !options.local,
        parallel_config_hash: None,
    };
    ZmqMessage::from(message.encode())
}

/// Input and output address, from the options or from the launcher.
async fn addresses(
    index: u32,
    options: &MockOptions,
) -> Result<(String, String, Option<DealerSocket>), MockError> {
    if let (Some(input), Some(output)) = (&options.input, &options.output) {
        return Ok((input.clone(), output.clone(), None));
    }
    let address = options.handshake.as_deref().unwrap_or_default();
    let mut socket = dealer(index);
    socket
        .connect(address)
        .await
        .map_err(at(index, "connecting to the handshake"))?;
    let hello = greeting(EngineStatus::Hello, options);
    socket
        .send(hello)
        .await
        .map_err(at(index, "sending HELLO"))?;
    let reply = socket.recv().await.map_err(at(index, "waiting for INIT"))?;
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
