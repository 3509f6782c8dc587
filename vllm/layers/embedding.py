# SPDX-License-Identifier: Apache-2.0
"""Token embedding: rows of a table that stays as it is stored, or on a GPU if dense in its dtype.

Owns the table. Must not know what a token means.
"""

from __future__ import annotations

from torch import Tensor

from vllm.kernels import ops
from vllm.layers.linear import Target
from vllm.quantization.weight import QTYPE_OF_DTYPE, Weight


class Embedding:
    """`layer(out, ids)`: ids i64 [T], out [T, hidden]."""

    def __init__(self, weight: Weight, target: Target) -> None:
        if weight.scales is not None:
            weight = Weight.dense(weight.to_dense(weight.dense_dtype, target.device), weight.name)
        self.qtype = weight.qtype
        self.table = weight.data.view(weight.shape[0], -1).to(target.device)
        if not weight.packed and target.device.type == "cuda":
            self.table = weight.to_dense(target.activation_dtype, target.device)
            self.qtype = QTYPE_OF_DTYPE[self.table.dtype]

    def __call__(self, out: Tensor, ids: Tensor) -> None:
        ops.embedding_dequantize(out, ids, self.table, self.qtype)
