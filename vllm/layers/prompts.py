# SPDX-License-Identifier: Apache-2.0
"""Which sequences of a step are prompts, and where their keys lie in a paged cache.

Owns that arithmetic, for kernels that take keys one after the other. Must not know kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Prompts:
    """The P sequences of a step from the first one on that has several tokens.

    Before them are `decodes` sequences of one token each. `query_starts` and `key_starts` i32
    [P + 1] count from the first token and the first key of the P. `places` says for each of their
    keys its block and its offset there, i64; None: all keys are of this step.
    """

    decodes: int
    longest_query: int
    longest_context: int
    query_starts: Tensor
    key_starts: Tensor
    places: tuple[Tensor, Tensor] | None

    @property
    def gathered(self) -> int:
        """How many keys have to be gathered."""
        return 0 if self.places is None else self.places[0].shape[0]


def plan_prompts(
    host_starts: np.ndarray,
    host_lens: np.ndarray,
    starts: Tensor,
    lens: Tensor,
    tables: Tensor,
    block_size: int,
) -> Prompts:
    """For a step with a sequence of several tokens, described as in `AttentionInputs`.

    What the device needs is computed there: only the lengths' sum has to be known here.
    """
    counts = np.diff(host_starts)
    decodes = int(np.argmax(counts > 1))
    counts, contexts = counts[decodes:], host_lens[decodes:]
    query_starts = starts[decodes:] - decodes
    longest = int(counts.max()), int(contexts.max())
    if (counts == contexts).all():
        return Prompts(decodes, *longest, query_starts, query_starts, None)
    lens = lens[decodes:]
    key_starts = functional.pad(lens.cumsum(0, dtype=torch.int32), (1, 0))
    places = _places(lens, key_starts, tables[decodes:], int(contexts.sum()), block_size)
    return Prompts(decodes, *longest, query_starts, key_starts, places)


def _places(
    lens: Tensor, starts: Tensor, tables: Tensor, total: int, block_size: int
) -> tuple[Tensor, Tensor]:
    owners = torch.repeat_interleave(lens, output_size=total)  # 0 0 0 1 1 ...
    positions = torch.arange(total, device=lens.device) - starts[owners]
    blocks = tables[owners, positions // block_size]
    return blocks.long(), positions % block_size
