# SPDX-License-Identifier: Apache-2.0
"""What one step computes: the value that goes from the scheduler to the worker.

Owns nothing but the plan. Must not know tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.engine.request import Request


@dataclass(slots=True)
class Batch:
    """`counts[i]` tokens of `requests[i]` are computed in this step; of `num_due` requests these
    are the last ones.

    `admitted` are the ones that were not running before (the worker gives them a row),
    `preempted` the ones that lost their blocks (the worker takes their row back), and `new_blocks`
    the blocks that were added to tables: request, position in its table, block numbers.
    """

    requests: list[Request] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    num_tokens: int = 0
    num_due: int = 0
    admitted: list[Request] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    new_blocks: list[tuple[Request, int, list[int]]] = field(default_factory=list)

    @property
    def is_decode(self) -> bool:
        """Whether every request gets exactly one token computed, the last of those it has."""
        return self.num_tokens == self.num_due == len(self.requests)

    def add(self, request: Request, count: int) -> None:
        """Compute the next `count` tokens of `request`."""
        self.requests.append(request)
        self.counts.append(count)
        self.num_tokens += count
        request.num_scheduled_tokens += count
        request.check_counts()
        self.num_due += request.num_missing_tokens == 0

    def add_decode(self, request: Request, total: int) -> None:
        """The same for the last of its `total` tokens, the only one that is missing."""
        self.requests.append(request)
        self.counts.append(1)
        self.num_tokens += 1
        self.num_due += 1
        request.num_scheduled_tokens = total

    def describe(self) -> str:
        """Its shape in words, for people who look for the reason of a slow step."""
        single = self.counts.count(1)
        longest = max((request.num_scheduled_tokens for request in self.requests), default=0)
        return (
            f"{len(self.requests)} requests ({single} of them one token), "
            f"{self.num_tokens} tokens, longest context {longest}"
        )
