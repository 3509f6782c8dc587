# SPDX-License-Identifier: Apache-2.0
"""The state of one request inside the engine.

Owns the token lists and the counts. Must not know tensors, sockets or how it is scheduled.

The counts are named once and ordered, and `check_counts` asserts it:

    cached <= computed <= scheduled <= total

`cached` tokens were found in the prefix cache, `computed` ones have their keys and values in the KV
cache, `scheduled` ones will have when the running step ends, `total` is prompt plus output so far.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.engine.repetition import RepetitionWatch


class Status(enum.Enum):
    """Where a request is; `FINISHED` is final."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class EventType(enum.IntEnum):
    """Lifecycle events as they go over the wire (wire protocol, 4.2)."""

    QUEUED = 1
    SCHEDULED = 2
    PREEMPTED = 3


@dataclass(slots=True, eq=False)
class Request:
    """One request; identity is object identity.

    `order` is the engine's running number of arrivals: with `priority` (lower is earlier) it makes
    the total order in which requests are served and, from behind, preempted. `row` is the worker's
    slot while the request runs. Blocks of different `cache_salt`s are never shared; a request
    without `reads_cache` computes everything itself. `num_found_tokens` is what the prefix cache
    held when the request was first served, `block_hashes` the chain over its full blocks as far as
    it was needed. `repetition` has seen each output token once; like them it outlives preemption.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling_params: Any
    order: int = 0
    priority: int = 0
    client_index: int = 0
    max_total_tokens: int = 0
    seed: int = 0
    trace_headers: dict[str, str] | None = None
    cache_salt: str | None = None
    reads_cache: bool = True
    repetition: RepetitionWatch | None = None

    status: Status = Status.WAITING
    output_token_ids: list[int] = field(default_factory=list)
    num_cached_tokens: int = 0
    num_computed_tokens: int = 0
    num_scheduled_tokens: int = 0
    num_found_tokens: int | None = None
    num_preemptions: int = 0
    block_hashes: list[bytes] = field(default_factory=list)
    row: int = -1
    events: list[tuple[EventType, float]] = field(default_factory=list)

    @property
    def key(self) -> tuple[int, int]:
        """Service order: smaller first."""
        return (self.priority, self.order)

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.output_token_ids)

    @property
    def num_tokens(self) -> int:
        """Total: prompt and output so far."""
        return len(self.prompt_token_ids) + len(self.output_token_ids)

    @property
    def num_missing_tokens(self) -> int:
        """Tokens whose keys and values are neither there nor under way; 1 for a decode."""
        return self.num_tokens - self.num_scheduled_tokens

    def tokens(self, start: int, stop: int) -> list[int]:
        """Tokens `start` to `stop - 1` of prompt and output."""
        prompt = len(self.prompt_token_ids)
        if stop <= prompt:
            return self.prompt_token_ids[start:stop]
        if start >= prompt:
            return self.output_token_ids[start - prompt : stop - prompt]
        return self.prompt_token_ids[start:] + self.output_token_ids[: stop - prompt]

    def check_counts(self) -> None:
        """Assert the order of the counts (a failure is a bug of ours, never of a client)."""
        cached, computed = self.num_cached_tokens, self.num_computed_tokens
        assert cached <= computed <= self.num_scheduled_tokens <= self.num_tokens, (
            f"request {self.request_id}: counts out of order: {cached=} {computed=} "
            f"scheduled={self.num_scheduled_tokens} total={self.num_tokens}"
        )

    def begin(self, num_cached: int) -> None:
        """It is served, and its first `num_cached` tokens need not be computed."""
        self.num_cached_tokens = self.num_computed_tokens = self.num_scheduled_tokens = num_cached
        if self.num_found_tokens is None:
            self.num_found_tokens = num_cached

    def restart(self) -> None:
        """Forget everything computed: its blocks are gone, the tokens stay."""
        self.num_cached_tokens = self.num_computed_tokens = self.num_scheduled_tokens = 0
