# SPDX-License-Identifier: Apache-2.0
"""Minutes of traffic through a whole engine core with a model.

Owns the traffic and the promises. Requests are drawn from a fixed set whose greedy answers were
computed one by one by an engine without a prefix cache; whatever shares their steps, and however
often they are preempted in a cache that is too small for all, each must get the same tokens. Some
are aborted. In the end no block is held and the process has not grown.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.protocol.messages import EngineCoreRequest

KINDS = 24
AT_ONCE = 12
GROWTH_LIMIT = 64 << 20  # bytes: allocators keep some of what the first minutes had at most


@dataclass
class Outcome:
    """Counts, and resident bytes after a quarter of the time and at the end."""

    finished: int = 0
    aborted: int = 0
    steps: int = 0
    tokens: int = 0
    preemptions: int = 0
    resident: list[int] = field(default_factory=list)

    @property
    def growth(self) -> int:
        return self.resident[-1] - self.resident[0]


@dataclass
class Kind:
    """A prompt, how many tokens are asked for, and what they are."""

    prompt: list[int]
    count: int
    answer: list[int]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def make_kinds(model: Path, longest: int, rng: random.Random) -> list[Kind]:
    """Prompts of up to half of `longest`, some beginning alike, with their answers alone."""
    engine = EngineCore(EngineConfig(str(model), enable_prefix_caching=False))
    vocabulary = engine.limits.vocab_size
    begin = [rng.randrange(3, vocabulary) for _ in range(longest // 4)]
    kinds = []
    for _ in range(KINDS):
        own = [rng.randrange(3, vocabulary) for _ in range(rng.randrange(1, longest // 4))]
        prompt, count = rng.choice([[], begin]) + own, rng.randrange(1, longest // 2)
        asked = request("alone", prompt, max_tokens=count, ignore_eos=True)
        kinds.append(Kind(prompt, count, finish(engine, [asked])["alone"].tokens))
    return kinds


class Soak:
    """Keeps about `AT_ONCE` requests in an engine whose cache holds a third of them."""

    def __init__(self, model: Path, longest: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kinds = make_kinds(model, longest, self.rng)
        self.engine = self._start(model, longest)
        self.outcome = Outcome()
        self.alive: dict[str, tuple[Kind, list[int]]] = {}
        self.arrived = 0

    def _start(self, model: Path, longest: int) -> EngineCore:
        probe = EngineCore(EngineConfig(str(model), max_model_len=longest))
        tokens = longest * AT_ONCE // 3
        memory = tokens * probe.runner.layout.token_bytes
        return EngineCore(EngineConfig(str(model), max_model_len=longest, kv_cache_memory=memory))

    def run(self, seconds: float) -> Outcome:
        """Traffic for so long, then until nobody is left; raises AssertionError."""
        start = time.monotonic()
        while (spent := time.monotonic() - start) < seconds:
            if not self.outcome.resident and spent > seconds / 4:
                self.outcome.resident.append(resident_bytes())
            self._arrive()
            self._abort()
            self._step()
        while self.alive:
            self._step()
        return self._finish()

    def _finish(self) -> Outcome:
        engine, outcome = self.engine, self.outcome
        assert not engine.requests and not engine.has_work()
        assert engine.scheduler.kv_cache.usage == 0.0, "blocks are held and nobody runs"
        engine.scheduler.check_integrity()
        assert outcome.finished + outcome.aborted == self.arrived
        outcome.preemptions = engine.scheduler.num_preemptions
        outcome.resident.append(resident_bytes())
        assert outcome.growth < GROWTH_LIMIT, f"the process grew by {outcome.growth} bytes"
        return outcome

    def _arrive(self) -> None:
        while len(self.alive) < AT_ONCE and self.rng.random() < 0.3:
            kind, name = self.rng.choice(self.kinds), f"r{self.arrived}"
            self.arrived += 1
            self.alive[name] = (kind, [])
            self.engine.add_request(self._request(name, kind))

    def _request(self, name: str, kind: Kind) -> EngineCoreRequest:
        asked = request(name, kind.prompt, max_tokens=kind.count, ignore_eos=True)
        asked.priority = self.rng.choice([0, 0, 1, -1])
        return asked

    def _abort(self) -> None:
        if self.alive and self.rng.random() < 0.005:
            name = self.rng.choice(sorted(self.alive))
            del self.alive[name]
            self.engine.abort_requests([name])
            self.outcome.aborted += 1

    def _step(self) -> None:
        if not self.engine.has_work():
            return
        self.outcome.steps += 1
        for output in self.engine.step():
            kind, tokens = self.alive[output.request_id]
            tokens += output.new_token_ids
            self.outcome.tokens += len(output.new_token_ids)
            assert tokens == kind.answer[: len(tokens)], (
                f"{output.request_id} differs from running alone at token {len(tokens)}"
            )
            if output.finished:
                assert len(tokens) == kind.count, f"{output.request_id} ended early"
                del self.alive[output.request_id]
                self.outcome.finished += 1
