# SPDX-License-Identifier: Apache-2.0
"""A weight as it lies in a file: dense, in FP8 with scales, or packed in a GGML format.

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
FP8 = -1  # e4m3 with a scale per row, which GGML has no number for


class UnsupportedFormatError(ModelError):
    """A storage format that the engine cannot compute with; names it and the ones it can."""


@dataclass(frozen=True)
class Weight:
    """One tensor of logical `shape`, stored as GGML type `qtype`.

    Dense: `data` has that shape and dtype. Packed: `data` is the raw bytes, uint8, row after row.
    FP8: `data` is float8_e4m3fn [N, K], to be multiplied with `scales` f32 [N]. `name` is Hugging
    Face's, where the weight comes from a checkpoint.
    """

    data: Tensor
    qtype: int
    shape: tuple[int, ...]
    name: str = ""
    scales: Tensor | None = None

    @property
    def packed(self) -> bool:
        return self.qtype in PACKED_TYPES

    @property
    def dense_dtype(self) -> torch.dtype:
        """What holds the values where nothing else is asked for."""
        if self.packed:
            return torch.float32
        return torch.bfloat16 if self.scales is not None else self.data.dtype

    @classmethod
    def fp8(cls, data: Tensor, scale: Tensor, name: str) -> Weight:
        """A matrix float8_e4m3fn with one scale, or one for each row."""
        if data.dim() != 2 or scale.numel() not in (1, len(data)):
            raise UnsupportedFormatError(
                f"tensor {name!r} has shape {list(data.shape)} in FP8 and {scale.numel()} scales; "
                "one scale for a matrix or for each of its rows is supported"
            )
        scales = scale.float().reshape(-1).expand(len(data)).contiguous()
        return cls(data, FP8, tuple(data.shape), name, scales)

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
        scales = self.scales
        if scales is not None:
            scales = torch.cat([scales[span.start : span.stop] for span in spans])
        data = data.reshape(-1) if self.packed else data
        return Weight(data, self.qtype, shape, self.name, scales)

    def columns(self, span: range) -> Weight:
        """These columns of a matrix, copied. Raises `UnsupportedFormatError` where a block of the
        format would be cut.
        """
        rows, columns = self.shape
        shape = (rows, len(span))
        if not self.packed:
            data = self.data[:, span.start : span.stop].contiguous()
            return Weight(data, self.qtype, shape, self.name, self.scales)
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
        if self.scales is not None:
            values = self.data.to(torch.float32).mul_(self.scales[:, None])
            return values.to(device=device, dtype=dtype)
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
