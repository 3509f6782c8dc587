// SPDX-License-Identifier: Apache-2.0

//! Comments in a stream that has nothing to say, for proxies that close idle connections.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A comment of server-sent events, which clients skip.
pub const COMMENT: &[u8] = b": keep-alive\n\n";

/// Counts the time since a stream said something. Most servers have none.
pub struct KeepAlive {
    period: Duration,
    /// When the next comment is due; set anew when the stream falls silent, not with each token.
    due: Pin<Box<Sleep>>,
    spoke: bool,
}

impl KeepAlive {
    /// One that is due after each period of silence.
    pub fn every(period: Duration) -> Self {
        Self {
            period,
            due: Box::pin(tokio::time::sleep(period)),
            spoke: true,
        }
    }

    /// The stream said something.
    pub fn spoke(&mut self) {
        self.spoke = true;
    }

    /// Ready when a comment is due. Call when the stream has nothing to say.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.spoke) {
            self.due.as_mut().reset(Instant::now() + self.period);
        }
        let due = self.due.as_mut().poll(cx);
        self.spoke = due.is_ready();
        due
    }
}
