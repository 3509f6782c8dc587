// SPDX-License-Identifier: Apache-2.0

//! Looks at every engine in turn: asks those that show nothing, fails those that stay silent.

use std::time::Duration;

use crate::client::send_call;
use crate::engine::Engine;
use crate::error::EngineFailure;
use crate::liveness::{Patience, Pulse, Signs};
use crate::state::Shared;
use crate::utility::beat_id;

/// The question that every engine of this wire answers and that changes nothing.
const BEAT: &str = "is_sleeping";

/// A turn when nobody is to be asked: statistics grow old nevertheless.
const WITHOUT_LIMIT: Duration = Duration::from_millis(1500);

#[derive(Debug)]
struct Watched {
    pulse: Pulse,
    connected: bool,
    /// A heartbeat has not been answered.
    asked: bool,
    /// Counters at the last look.
    heard: Option<u64>,
    messages: u64,
}

/// What is known about the silence of each engine, by position.
#[derive(Debug)]
pub(crate) struct Watch {
    patience: Patience,
    engines: Vec<Watched>,
}

impl Watch {
    /// All engines are there.
    pub(crate) fn new(patience: Patience, count: usize) -> Self {
        let fresh = || Watched {
            pulse: Pulse::default(),
            connected: true,
            asked: false,
            heard: None,
            messages: 0,
        };
        Self {
            patience,
            engines: (0..count).map(|_| fresh()).collect(),
        }
    }

    /// Ticks when it is time to look.
    pub(crate) fn turns(&self) -> tokio::time::Interval {
        let turn = self.patience.turn().unwrap_or(WITHOUT_LIMIT);
        let mut turns = tokio::time::interval(turn);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        turns
    }

    pub(crate) fn is_connected(&self, at: usize) -> bool {
        self.engines[at].connected
    }

    /// A connection came or went: whatever was asked on the old one is not answered.
    pub(crate) fn connection(&mut self, at: usize, connected: bool) {
        let watched = &mut self.engines[at];
        watched.connected = connected;
        watched.asked = false;
        watched.pulse = Pulse::default();
    }

    /// One turn: an engine that exceeds its limit fails.
    pub(crate) fn look(&mut self, shared: &Shared) {
        for (at, watched) in self.engines.iter_mut().enumerate() {
            if !watched.connected {
                continue;
            }
            let signs = watched.signs(shared, at);
            settle(&shared.engines[at], signs.message);
            if self.patience.turn().is_none() {
                continue;
            }
            watched.ask(shared, at, signs.message);
            if let Some(limit) = watched.pulse.look(signs, &self.patience) {
                lose(shared, at, limit.as_secs_f64());
            }
        }
    }
}

impl Watched {
    fn signs(&mut self, shared: &Shared, at: usize) -> Signs {
        let engine: &Engine = &shared.engines[at];
        let heard = shared.router.heard(&engine.identity);
        let messages = engine.messages();
        let socket = match heard == self.heard {
            false => Some(true),
            true => shared.router.ping(&engine.identity).then_some(false),
        };
        let signs = Signs {
            socket,
            message: messages != self.messages,
            prompting: engine.is_prompting(),
            calling: shared.calls.waits_for(at),
        };
        (self.heard, self.messages) = (heard, messages);
        signs
    }

    /// One question at a time: a silent engine finds one when it wakes up, not hundreds.
    fn ask(&mut self, shared: &Shared, at: usize, message: bool) {
        self.asked &= !message;
        if !message && !self.asked {
            self.asked = send_call(shared, at, beat_id(at), BEAT, &[]);
        }
    }
}

/// Brings what statistics said up to date.
fn settle(engine: &Engine, message: bool) {
    engine.forget_stopped();
    if !message {
        engine.forget_others();
    }
}

fn lose(shared: &Shared, at: usize, limit: f64) {
    let engine = &shared.engines[at];
    if !engine.is_alive() {
        return;
    }
    let failure = EngineFailure::Unresponsive {
        index: engine.index,
        millis: (limit * 1e3) as u64,
    };
    if shared.fail_engine(at, failure.clone()) {
        tracing::error!("{failure}");
    }
}
