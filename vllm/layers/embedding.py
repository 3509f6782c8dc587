# SPDX-License-Identifier: Apache-2.0
"""Token embedding: rows of a table that stays as it is stored.

Owns the table. Must not know what a token means.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm.kernels import ops
from vllm.layers.linear import Target
from vllm.quantization.weight import Weight


class Embedding:
    """`layer(out, ids)`: ids i64 [T], out [T, hidden]."""

    def __init__(self, weight: Weight, target: Target) -> None:
        self.on_cpu = target.device.type == "cpu"
        self.qtype = weight.qtype
        self.table = weight.data.view(weight.shape[0], -1)
        if not self.on_cpu:
            self.table = weight.to_dense(target.dtype or torch.float32, target.device)

    def __call__(self, out: Tensor, ids: Tensor) -> None:
        if self.on_cpu:
            ops.embedding_dequantize(out, ids, self.table, self.qtype)
        else:
            torch.index_select(self.table, 0, ids, out=out)
