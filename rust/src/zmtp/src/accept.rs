// SPDX-License-Identifier: Apache-2.0

//! Accepting connections, each a task of its own that ends with its socket.

use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

use crate::link::Socket;
use crate::listener::{Listener, TokioListener};

/// Pause after a failed accept (no descriptors left): trying again at once would spin.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Accepts until it is dropped, which closes listener and connections.
#[derive(Debug)]
pub(crate) struct Acceptor(JoinHandle<()>);

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Acceptor {
    /// Runs `connection` for every accepted socket, on the current runtime.
    pub(crate) fn start<F>(
        listener: Listener,
        most: usize,
        connection: impl Fn(Box<dyn Socket>) -> F + Send + 'static,
    ) -> std::io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TokioListener::new(listener)?;
        Ok(Self(tokio::spawn(serve(listener, most, connection))))
    }
}

async fn serve<F>(listener: TokioListener, most: usize, connection: impl Fn(Box<dyn Socket>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= most => {
                    tracing::warn!("an engine connection is closed: {most} are open (limit)");
                }
                Ok(socket) => drop(connections.spawn(connection(socket))),
                Err(error) => {
                    tracing::warn!(%error, "an engine connection could not be accepted");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
