// SPDX-License-Identifier: Apache-2.0

//! What a peer may make this side hold.

use std::time::Duration;

/// Bytes of one message. The largest honest one brings the log probabilities of a long prompt:
/// 131,072 positions x 21 candidates x 12 bytes = 33 MB; this is eight times that.
pub const MAX_MESSAGE: usize = 256 << 20;
/// Frames of one message; each costs memory even when it is empty.
pub const MAX_FRAMES: usize = 4096;
/// Bytes of one command; READY with an identity needs 300.
pub const MAX_COMMAND: usize = 4096;

/// Limits of a socket and of each of its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one frame at most; announcing more closes the connection.
    pub frame: usize,
    /// Bytes of all frames of one message at most.
    pub message: usize,
    /// Frames of one message at most.
    pub frames: usize,
    /// Messages that may wait on one queue.
    pub queue: usize,
    /// Bytes that may wait on one queue; the message that crosses it still enters.
    pub queue_bytes: usize,
    /// Connections of one listener at most; others are closed at once.
    pub connections: usize,
    /// Time from the connection to its READY.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: MAX_MESSAGE,
            message: MAX_MESSAGE,
            frames: MAX_FRAMES,
            queue: 64 << 10,
            queue_bytes: MAX_MESSAGE,
            connections: 4096,
            handshake: Duration::from_secs(10),
        }
    }
}
