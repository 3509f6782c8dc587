# SPDX-License-Identifier: Apache-2.0
"""torch's product with a dense matrix on a GPU. Must not know where the matrix comes from."""

from __future__ import annotations

import torch
from torch import Tensor


def matmul(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """out [T, n] = x [T, k] weight^T; weight [n, k].

    `out` may be float32 where x has 16 bits: sums are float32 anyway.
    """
    if out.dtype == x.dtype:
        torch.mm(x, weight.t(), out=out)
    else:
        torch.mm(x, weight.t(), out.dtype, out=out)
