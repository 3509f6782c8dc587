// SPDX-License-Identifier: Apache-2.0

//! Why a connection is closed, and why a message is not taken.

use std::time::Duration;

/// What a peer did wrong, or what happened to its connection.
#[derive(Debug, thiserror::Error)]
pub enum ZmtpError {
    /// Not a ZMTP greeting.
    #[error("the peer does not greet in ZMTP")]
    Signature,
    /// ZMTP 1 or 2.
    #[error("the peer speaks ZMTP {0}; at least 3 is needed")]
    Version(u8),
    /// CURVE, PLAIN, GSSAPI.
    #[error("the peer asks for mechanism {0:?}; only NULL is served")]
    Mechanism(String),
    /// A socket that doesn't fit to ours.
    #[error("a {theirs} socket can't talk to {ours}")]
    SocketType {
        /// Ours.
        ours: &'static str,
        /// What the peer says it is.
        theirs: String,
    },
    /// Reserved bits, or a command in several parts.
    #[error("flags {0:#04x} of a frame mean nothing")]
    Flags(u8),
    /// Too large, by its header.
    #[error("a {what} of {size} bytes is announced (limit {limit})")]
    TooLarge {
        /// Frame, message or command.
        what: &'static str,
        /// Bytes announced.
        size: u64,
        /// The limit.
        limit: usize,
    },
    /// Too many frames.
    #[error("a message of more than {0} frames")]
    TooManyFrames(usize),
    /// A command that breaks its own format.
    #[error("a {0} command is malformed")]
    Command(&'static str),
    /// Something else than READY at the start.
    #[error("{0} instead of READY")]
    NotReady(&'static str),
    /// The peer refuses us.
    #[error("the peer refused the connection: {0:?}")]
    Refused(String),
    /// Another connection has the identity and answers.
    #[error("identity {0:?} is already connected")]
    IdentityInUse(Vec<u8>),
    /// READY did not come in time.
    #[error("no READY within {} s", .0.as_secs_f64())]
    HandshakeTimeout(Duration),
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection with that identity.
    #[error("the peer is not connected")]
    Gone,
    /// The peer does not read.
    #[error("the peer's queue is full")]
    Full,
}
