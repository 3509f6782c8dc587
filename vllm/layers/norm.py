# SPDX-License-Identifier: Apache-2.0
"""RMSNorm (Zhang and Sennrich 2019), alone or together with the residual sum before it.

Owns its weight. Must not know where in a model it sits.
"""

from __future__ import annotations

from torch import Tensor

from vllm.kernels import ops


class RMSNorm:
    """y = x / sqrt(mean(x^2) + eps) * weight, over the last dimension."""

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.weight, self.eps = weight, eps

    def __call__(self, out: Tensor, x: Tensor) -> None:
        """out = norm(x); both [T, hidden]."""
        ops.rms_norm(out, x, self.weight, self.eps)

    def add(self, x: Tensor, residual: Tensor) -> None:
        """residual += x; x = norm(residual); both [T, hidden]."""
        ops.fused_add_rms_norm(x, residual, self.weight, self.eps)
