# SPDX-License-Identifier: Apache-2.0
"""Which rows of a step the model computed without meaning: NaN logits.

Owns the check. Must not know what becomes of the requests.
"""

from __future__ import annotations

import torch
from torch import Tensor


def count_nans(hidden: Tensor, logits: Tensor) -> dict[int, int]:
    """Row to number of NaN logits, for broken rows; `hidden` [S, H], `logits` f32 [S, V].

    A row is broken whose hidden state is not finite, whatever a quantized head makes of it.

    Summing up all logits would cost about a hundredth of a small model's step. A NaN comes either
    from a row's own hidden state, which is short, or from a weight of the head, and then it is in
    the same column of every row: one row of logits is enough to see it.
    """
    broken = ~torch.isfinite(torch.sum(hidden, -1, dtype=torch.float32))
    broken[0] |= torch.isnan(logits[0].sum())
    if not broken.any():
        return {}
    counts = torch.isnan(logits).sum(-1)
    broken |= counts > 0
    return {row: max(1, int(counts[row])) for row in torch.nonzero(broken)[:, 0].tolist()}
