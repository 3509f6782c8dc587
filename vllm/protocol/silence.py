# SPDX-License-Identifier: Apache-2.0
"""When an engine that shows nothing counts as lost.

Owns the counting of silent turns. Must not know sockets or messages. Turns are counted instead of
seconds: an event loop that was busy itself has heard nobody, and that is no engine's fault.
"""

from __future__ import annotations

from dataclasses import dataclass

TURNS = 4
"""Looks at every engine within the time that it may be silent."""


@dataclass(frozen=True)
class Patience:
    """How long an engine may show no sign of life, in seconds; `prompt` counts while it may work on
    a prompt, whose steps take long. `silence` 0: any time.
    """

    silence: float = 0.0
    prompt: float = 300.0

    @property
    def turn(self) -> float:
        """Seconds between two looks."""
        return self.silence / TURNS

    def limit(self, prompting: bool) -> float:
        """Seconds that an engine may be silent now."""
        return max(self.silence, self.prompt) if prompting else self.silence


@dataclass
class Pulse:
    """Turns since the last message of an engine."""

    silent_turns: int = 0

    def beat(self) -> None:
        """A message came."""
        self.silent_turns = 0

    def look(self, patience: Patience, prompting: bool) -> bool:
        """One turn later; whether the engine has been silent for too long."""
        self.silent_turns += 1
        # The turn in which the last message came was not silent as a whole.
        return (self.silent_turns - 1) * patience.turn >= patience.limit(prompting)

    @property
    def is_to_be_asked(self) -> bool:
        """One question at a time: an engine that wakes up finds one, not hundreds."""
        return self.silent_turns == 1
