# SPDX-License-Identifier: Apache-2.0
"""Which rows of a step the model computed without meaning: NaN logits.

Owns the check. Must not know what becomes of the requests.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def count_nans(hidden: Tensor, logits: Tensor) -> dict[int, int]:
    """Row to number of NaN logits, for broken rows; `hidden` [S, H], `logits` f32 [S, V].

    A row is broken whose hidden state is not finite, whatever a quantized head makes of it.

    Looking at all logits would cost about a hundredth of a small model's step. A NaN comes either
    from a row's own hidden state, which is short, or from a weight of the head, and then it is in
    the same column of every row: one row of logits is enough to see it.
    """
    if logits.device.type == "cpu":
        suspected = _suspected_on_cpu(hidden.numpy(), logits[0].numpy())
    else:
        states = torch.isfinite(torch.sum(hidden, -1, dtype=torch.float32)).all()
        suspected = bool(~states | torch.isnan(torch.amax(logits[0])))
    return _count(hidden, logits) if suspected else {}


def _suspected_on_cpu(hidden: np.ndarray, row: np.ndarray) -> bool:
    """By numpy, on this thread alone: torch would wake its own threads for a few microseconds of
    work, and they take the CPUs from the kernels' threads.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return not np.isfinite(hidden.sum()) or bool(np.isnan(row.max()))


def _count(hidden: Tensor, logits: Tensor) -> dict[int, int]:
    counts = torch.isnan(logits).sum(-1)
    broken = ~torch.isfinite(hidden).all(-1) | (counts > 0)
    return {row: max(1, int(counts[row])) for row in torch.nonzero(broken)[:, 0].tolist()}
