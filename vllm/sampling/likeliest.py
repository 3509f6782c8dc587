# SPDX-License-Identifier: Apache-2.0
"""The likeliest token of each row, with the look for NaN that goes along: a part of decode steps.

Owns the choice of kernel. Must not know what becomes of either. Can be recorded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm.kernels import ops


def choose_likeliest(out: Tensor, suspect: Tensor, hidden: Tensor, logits: Tensor) -> None:
    """out and suspect are written; what they mean is said at `ops.choose_greedy`.

    out: i64 [B]; suspect: i64 [1]; hidden: [B, H]; logits: f32 [B, V].
    """
    if logits.device.type == "cpu":
        ops.choose_greedy(out, suspect, hidden, logits)
        return
    ops.argmax(out, logits)
    broken = ~torch.isfinite(torch.sum(hidden, -1, dtype=torch.float32)).all()
    suspect.copy_((broken | torch.isnan(torch.amax(logits[0]))).view(1))
