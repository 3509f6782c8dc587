// SPDX-License-Identifier: Apache-2.0

//! Stopping: from running to draining, and from draining to the end.

use tokio::sync::watch;

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Running,
    /// Serving on, but `/ready` says no.
    Leaving,
    /// No new connections, no new requests; running ones go on.
    Draining,
    /// Requests that still run are ended with an error.
    Cutting,
    /// Connections that are still open are closed.
    Over,
}

/// The server's life, seen by every shard.
#[derive(Debug)]
pub struct Phase(watch::Sender<Step>);

impl Default for Phase {
    fn default() -> Self {
        Self(watch::Sender::new(Step::Running))
    }
}

impl Phase {
    /// Not ready any more, and nothing else changes.
    pub fn leave(&self) {
        self.advance(Step::Leaving);
    }

    /// No new work from now on.
    pub fn drain(&self) {
        self.advance(Step::Draining);
    }

    /// Running requests end now, with a reason.
    pub fn cut(&self) {
        self.advance(Step::Cutting);
    }

    /// Everything ends now.
    pub fn end(&self) {
        self.advance(Step::Over);
    }

    /// Whether the end was asked for.
    pub fn is_leaving(&self) -> bool {
        *self.0.borrow() != Step::Running
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Step::Draining
    }

    /// Waits for the drain to begin.
    pub async fn draining(&self) {
        self.reach(|step| step >= Step::Draining).await;
    }

    /// Waits for the cut or the end.
    pub async fn cutting(&self) {
        self.reach(|step| step >= Step::Cutting).await;
    }

    /// Waits for the end.
    pub async fn over(&self) {
        self.reach(|step| step == Step::Over).await;
    }

    fn advance(&self, to: Step) {
        self.0.send_modify(|step| *step = to);
    }

    async fn reach(&self, reached: impl Fn(Step) -> bool) {
        // The sender is `self`: waiting cannot fail while it lives.
        let _ = self.0.subscribe().wait_for(|step| reached(*step)).await;
    }
}
