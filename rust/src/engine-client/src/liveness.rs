// SPDX-License-Identifier: Apache-2.0

//! When an engine counts as lost. Sans-IO: looks at signs in regular turns, owns no clock.
//!
//! Two questions are asked. Its *socket* is sent a PING, which the I/O thread answers however busy
//! the program is: silence means a stopped process or a broken network. Its *loop* is asked with a
//! harmless utility call when it shows nothing else: silence means a deadlock, or a long step. Prompts
//! make steps long, so an engine that may work on one is given more time, and one whose steps were
//! long lately is given several times as long. Calls that may take long themselves suspend the
//! second question.
//!
//! Turns are counted, not time: a frontend that was stopped itself must not blame its engines.

use std::time::Duration;

/// Turns within the limit: enough that one lost turn doesn't decide.
const TURNS: u32 = 4;

/// How long an engine may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Neither output nor answer for this long: lost. Zero: never.
    pub silence: Duration,
    /// The same while it may work on a prompt; its socket must answer nevertheless.
    pub prompt: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(6),
            prompt: Duration::from_secs(300),
        }
    }
}

impl Patience {
    /// Time between two looks; `None`: nobody looks.
    pub(crate) fn turn(&self) -> Option<Duration> {
        let turn = self.silence / TURNS;
        (!turn.is_zero()).then_some(turn)
    }

    fn prompt_turns(&self) -> u32 {
        let turn = self.turn().unwrap_or(Duration::MAX).as_secs_f64();
        let turns = (self.prompt.as_secs_f64() / turn).ceil();
        (turns as u32).max(TURNS)
    }
}

/// What was seen of an engine since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signs {
    /// Anything came through its input connection; `None` when its socket answers no PINGs.
    pub(crate) socket: Option<bool>,
    /// It sent outputs or a reply.
    pub(crate) message: bool,
    /// It may work on a prompt.
    pub(crate) prompting: bool,
    /// A call that may take long waits for its reply.
    pub(crate) calling: bool,
}

/// An engine may be silent this many times longer than it was lately. A big batch on a slow machine
/// makes long steps, and does so again and again.
const LONGER: u32 = 4;

/// Silence so far, in turns.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pulse {
    socket: u32,
    message: u32,
    /// The longest silence that ended with a message lately: it shrinks with every other message.
    longest: u32,
}

impl Pulse {
    /// Counts one turn. The limit that was exceeded, when one was.
    pub(crate) fn look(&mut self, signs: Signs, patience: &Patience) -> Option<Duration> {
        let quiet = |turns: u32, sign: bool| if sign { 0 } else { turns.saturating_add(1) };
        let heard = signs.message || signs.socket.unwrap_or(true);
        if signs.message {
            self.longest = self.message.max(self.longest - self.longest.div_ceil(8));
        }
        self.socket = quiet(self.socket, heard);
        self.message = quiet(self.message, signs.message || signs.calling);
        if self.socket >= TURNS {
            return Some(patience.silence);
        }
        let turns = self.turns(signs.prompting, patience);
        (self.message >= turns).then(|| patience.silence * turns / TURNS)
    }

    /// Turns that its loop may be silent now.
    fn turns(&self, prompting: bool, patience: &Patience) -> u32 {
        let prompt = patience.prompt_turns();
        match prompting {
            true => prompt,
            false => self.longest.saturating_mul(LONGER).clamp(TURNS, prompt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        silence: Duration::from_secs(4),
        prompt: Duration::from_secs(20),
    };

    /// Turns until it is lost, 100 at most.
    fn lost_after(mut signs: impl FnMut(u32) -> Signs) -> (u32, Option<Duration>) {
        let mut pulse = Pulse::default();
        for turn in 1..100 {
            if let Some(limit) = pulse.look(signs(turn), &PATIENCE) {
                return (turn, Some(limit));
            }
        }
        (100, None)
    }

    fn constant(socket: Option<bool>, prompting: bool, calling: bool) -> (u32, Option<Duration>) {
        lost_after(|_| Signs {
            socket,
            message: false,
            prompting,
            calling,
        })
    }

    #[test]
    fn a_stopped_process_is_lost_whatever_it_was_doing() {
        for (prompting, calling) in [(false, false), (true, false), (false, true), (true, true)] {
            let lost = constant(Some(false), prompting, calling);
            assert_eq!(lost, (4, Some(PATIENCE.silence)), "{prompting} {calling}");
        }
    }

    #[test]
    fn a_loop_that_does_not_answer_is_lost_sooner_when_no_prompt_explains_it() {
        for socket in [Some(true), None] {
            assert_eq!(constant(socket, false, false), (4, Some(PATIENCE.silence)));
            assert_eq!(constant(socket, true, false), (20, Some(PATIENCE.prompt)));
            assert_eq!(
                constant(socket, true, true),
                (100, None),
                "a call suspends it"
            );
        }
    }

    #[test]
    fn long_steps_are_expected_again_and_then_forgotten() {
        let mut pulse = Pulse::default();
        let mut turn = |message, prompting| {
            let signs = Signs {
                socket: Some(true),
                message,
                prompting,
                calling: false,
            };
            pulse.look(signs, &PATIENCE)
        };
        // A prompt shows that a step may take three turns; then decoding steps of six do as well.
        for (silent, prompting) in [(3, true), (6, false), (6, false)] {
            (0..silent).for_each(|_| assert_eq!(turn(false, prompting), None));
            assert_eq!(turn(true, false), None);
        }
        (0..40).for_each(|_| assert_eq!(turn(true, false), None));
        (0..3).for_each(|_| assert_eq!(turn(false, false), None));
        assert_eq!(turn(false, false), Some(PATIENCE.silence));
    }

    #[test]
    fn any_message_starts_anew() {
        let lost = lost_after(|turn| Signs {
            socket: Some(false),
            message: turn % 4 == 3,
            ..Signs::default()
        });
        assert_eq!(lost, (100, None));
    }

    #[test]
    fn no_limit_means_no_looks() {
        let off = Patience {
            silence: Duration::ZERO,
            ..PATIENCE
        };
        assert_eq!(off.turn(), None);
        assert_eq!(PATIENCE.turn(), Some(Duration::from_secs(1)));
    }
}
