# SPDX-License-Identifier: Apache-2.0
"""A weight as it lies in a file: dense, or packed in a GGML format.

Owns the list of formats the engine computes with and the way from packed to dense. Must not know
files or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vllm.errors import ModelError
from vllm.kernels import ops
from vllm.loader.ggml_types import BF16, F16, F32, GGML_TYPES

DENSE_DTYPES = {F32: torch.float32, F16: torch.float16, BF16: torch.bfloat16}
QTYPE_OF_DTYPE = {dtype: qtype for qtype, dtype in DENSE_DTYPES.items()}
PACKED_TYPES = tuple(ops.QUANT_BLOCKS)
SUPPORTED_TYPES = (*DENSE_DTYPES, *PACKED_TYPES)


class UnsupportedFormatError(ModelError):
    """A storage format that the engine cannot compute with; names it and the ones it can."""


@dataclass(frozen=True)
class Weight:
    """One tensor of logical `shape`, stored as GGML type `qtype`.

    Dense: `data` has that shape and dtype. Packed: `data` is the raw bytes, uint8, row after row.
    `name` is Hugging Face's, where the weight comes from a checkpoint.
    """

    data: Tensor
    qtype: int
    shape: tuple[int, ...]
    name: str = ""

    @property
    def packed(self) -> bool:
        return self.qtype in PACKED_TYPES

    @classmethod
    def dense(cls, data: Tensor, name: str) -> Weight:
        """Wrap a dense tensor; `name` is for the error when its dtype is not supported."""
        if data.dtype not in QTYPE_OF_DTYPE:
            raise UnsupportedFormatError(
                f"tensor {name!r} has dtype {data.dtype}; supported are float32, float16, bfloat16"
            )
        return cls(data, QTYPE_OF_DTYPE[data.dtype], tuple(data.shape), name)

    def part(self, index: int, count: int) -> Weight:
        """Matrix `index` of `count` that lie one after the other, without a copy."""
        data = self.data.view(count, -1)[index] if self.packed else self.data[index]
        return Weight(data, self.qtype, self.shape[1:], self.name)

    def rows(self, spans: Sequence[range]) -> Weight:
        """These rows (of a vector: elements), one span after the other; of one span no copy."""
        count = self.shape[0]
        by_row = self.data.view(count, -1) if self.packed else self.data
        parts = [by_row[span.start : span.stop] for span in spans]
        data = parts[0] if len(parts) == 1 else torch.cat(parts)
        shape = (sum(map(len, spans)), *self.shape[1:])
        return Weight(data.reshape(-1) if self.packed else data, self.qtype, shape, self.name)

    def columns(self, span: range) -> Weight:
        """These columns of a matrix, copied. Raises `UnsupportedFormatError` where a block of the
        format would be cut.
        """
        rows, columns = self.shape
        shape = (rows, len(span))
        if not self.packed:
            data = self.data[:, span.start : span.stop].contiguous()
            return Weight(data, self.qtype, shape, self.name)
        block, size = ops.QUANT_BLOCKS[self.qtype]
        if span.start % block or span.stop % block:
            raise UnsupportedFormatError(
                f"tensor {self.name!r} has {columns} columns in blocks of {block} "
                f"({GGML_TYPES[self.qtype].name}), and cannot be cut into parts of {len(span)}"
            )
        blocks = self.data.view(rows, columns // block, size)
        data = blocks[:, span.start // block : span.stop // block].reshape(-1)
        return Weight(data, self.qtype, shape, self.name)

    def to_dense(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The values as a dense tensor of `dtype` on `device` (f32 in between for packed ones)."""
        if not self.packed:
            return self.data.to(device=device, dtype=dtype)
        out = torch.empty(self.shape, dtype=torch.float32)
        ops.dequantize(out, self.data, self.qtype)
        return out.to(device=device, dtype=dtype)


def check_supported(qtype: int, name: str) -> None:
    """Refuse a GGML type by name where the engine has no kernels for it."""
    if qtype not in SUPPORTED_TYPES:
        known = ", ".join(GGML_TYPES[number].name for number in SUPPORTED_TYPES)
        raise UnsupportedFormatError(
            f"tensor {name!r} has type {GGML_TYPES[qtype].name}, which is not supported; "
            f"supported are {known}"
        )
