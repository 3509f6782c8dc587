// SPDX-License-Identifier: Apache-2.0

//! SIGTERM and SIGINT: the first one asks for the end, the second one is the end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::fault::{Code, Fault};

/// The two signals that ask for the end.
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Listens from now on; call on the runtime, before anything slow.
    pub fn install() -> Result<Self, Fault> {
        let listen = |kind| {
            signal(kind).map_err(|error| Fault::new(Code::Internal, format!("signals: {error}")))
        };
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            int: listen(SignalKind::interrupt())?,
        })
    }

    /// The next signal's number.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.term.recv() => libc::SIGTERM,
            _ = self.int.recv() => libc::SIGINT,
        }
    }

    /// The name of a signal that [`Signals::next`] gave.
    pub fn name(number: i32) -> &'static str {
        if number == libc::SIGTERM {
            "SIGTERM"
        } else {
            "SIGINT"
        }
    }

    /// Ends the process at the next signal.
    pub async fn exit_at_next(&mut self) -> std::convert::Infallible {
        let number = self.next().await;
        tracing::warn!("a second signal, {}: ending at once", Self::name(number));
        crate::logging::flush();
        std::process::exit(128 + number)
    }
}
