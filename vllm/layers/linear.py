# SPDX-License-Identifier: Apache-2.0
"""Linear layers: y = x W^T + b, with W dense, in FP8 or packed.

Own their weights and the choice of kernel. Must not know models. Several matrices that share an
input are one layer writing one output: those of one format become one matrix, laid out as the
kernels of the device read it, the others write their columns each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vllm.distributed.group import Group
from vllm.kernels import ops
from vllm.layers.matmul import matmul
from vllm.layers.tape import Tape
from vllm.layers.unpacked import MANY_ROWS, Unpacked
from vllm.quantization.digits import count_coarse_rows
from vllm.quantization.weight import Weight


class Linear(Protocol):
    """`layer(out, x)`: x [T, in], out [T, sum of outs]; rows may be strided, columns not."""

    out_features: int

    def __call__(self, out: Tensor, x: Tensor) -> None: ...


@dataclass(frozen=True)
class Target:
    """Where and how weights are held: device, dtype of dense ones (None: as stored), packing, the
    memory of those laid out anew, and on a GPU the room to make packed ones dense for a step of
    many rows.
    """

    device: torch.device
    dtype: torch.dtype | None = None
    dequantize: bool = False
    tape: Tape = field(default_factory=Tape, compare=False, repr=False)

    @property
    def packs(self) -> bool:
        """Whether packed weights stay packed."""
        return not self.dequantize

    @property
    def activation_dtype(self) -> torch.dtype:
        """float32 on the CPU, on a GPU the dtype of dense weights."""
        on_cpu = self.device.type == "cpu"
        return torch.float32 if on_cpu else self.dtype or torch.float32

    @property
    def unrounded(self) -> Target:
        """For a layer whose inputs are not to be rounded on the CPU: a router, where a small
        difference may be another expert.
        """
        return replace(self, dtype=torch.float32) if self.device.type == "cpu" else self

    @cached_property
    def unpacked(self) -> Unpacked | None:
        """None where activations have more than 16 bits: torch's product would round no weights,
        and be no faster.
        """
        if self.device.type == "cpu" or self.dtype not in (torch.bfloat16, torch.float16):
            return None
        return Unpacked(self.dtype, self.device)

    def dense_dtype(self, weight: Weight) -> torch.dtype:
        """What holds a weight that is dense."""
        return torch.float32 if self.dequantize else self.dtype or weight.dense_dtype

    def keep(self, packed: Tensor) -> Tensor:
        """Packed weights where they are used: on the tape, or on the device."""
        return self.tape.keep(packed) if self.device.type == "cpu" else packed.to(self.device)


class PackedLinear:
    """Weights in a GGML format, interleaved for the kernels; `bias` is float32.

    On the CPU inputs are rounded to 8-bit digits (`vllm.quantization.digits`), on a GPU
    they are not, but for many rows of 16 bits weights are, to the dtype of the activations; sums
    are in f32.
    """

    def __init__(self, weights: Sequence[Weight], bias: Tensor | None, target: Target) -> None:
        self.in_features = weights[0].shape[1]
        self.out_features = sum(weight.shape[0] for weight in weights)
        self.qtype = weights[0].qtype
        self.bias = bias
        self.coarse_rows = count_coarse_rows(weights, ops.COARSE_ROWS)
        self.packed = target.keep(repack(weights))
        self._unpacked = target.unpacked

    def __call__(self, out: Tensor, x: Tensor) -> None:
        if self._unpacked is not None and x.shape[0] >= MANY_ROWS:
            self._unpacked.multiply(out, x, self.packed, self.qtype)
            if self.bias is not None:
                out.add_(self.bias)
            return
        ops.quant_linear(
            out,
            x.to(out.dtype),  # a head's logits are wider than the activations of a GPU
            self.packed,
            self.qtype,
            self.out_features,
            self.in_features,
            self.bias,
            self.coarse_rows,
        )


class Fp8Linear:
    """e4m3 weights with a scale per row on a GPU, multiplied with activations as they are.

    Sums are in f32, and for many rows of 16 bits rounded once more before the scale. `bias` is f32.
    """

    def __init__(self, weights: Sequence[Weight], bias: Tensor | None, target: Target) -> None:
        self.out_features = sum(weight.shape[0] for weight in weights)
        raw = torch.cat([weight.data.view(torch.uint8) for weight in weights]).to(target.device)
        self.weight, self.bias = raw.view(torch.float8_e4m3fn), bias
        scales = [weight.scales for weight in weights if weight.scales is not None]
        self.scales = torch.cat(scales).to(target.device)
        self._unpacked = target.unpacked

    def __call__(self, out: Tensor, x: Tensor) -> None:
        if self._unpacked is None or x.shape[0] < MANY_ROWS:
            ops.fp8_linear(out, x.to(out.dtype), self.weight, self.scales, self.bias)
            return
        self._unpacked.multiply_fp8(out, x, self.weight, self.scales)
        if self.bias is not None:
            out.add_(self.bias)


class DenseLinear:
    """Dense matrices [out, in] of one dtype on the CPU, interleaved for the kernels.

    Inputs are float32; with weights in bfloat16, AVX-512 kernels round them to bfloat16.
    """

    def __init__(self, weights: Sequence[Tensor], bias: Tensor | None, tape: Tape) -> None:
        self.out_features = sum(len(weight) for weight in weights)
        self.bias = bias
        first, rows = weights[0], self.out_features
        self.weight = reserve_tiles(1, first.dtype, rows, first.shape[1], tape)[0]
        fill_tiles(self.weight, weights)

    def __call__(self, out: Tensor, x: Tensor) -> None:
        ops.linear(out, x, self.weight, self.bias)


class MatmulLinear:
    """One dense matrix through torch's own product: what CUDA devices use."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.out_features = weight.shape[0]
        self.weight, self.bias = weight, bias

    def __call__(self, out: Tensor, x: Tensor) -> None:
        matmul(out, x, self.weight)
        if self.bias is not None:
            out.add_(self.bias)


class SplitLinear:
    """Layers that share an input, side by side in one output."""

    def __init__(self, parts: Sequence[Linear]) -> None:
        self.parts = parts
        self.out_features = sum(part.out_features for part in parts)

    def __call__(self, out: Tensor, x: Tensor) -> None:
        columns = out.split([part.out_features for part in self.parts], dim=1)
        for part, column in zip(self.parts, columns, strict=True):
            part(column, x)


class SummedLinear:
    """A layer of which every rank has some of the input's columns; `out` is the ranks' sum."""

    def __init__(self, part: Linear, group: Group) -> None:
        self.part, self.group = part, group
        self.out_features = part.out_features

    def __call__(self, out: Tensor, x: Tensor) -> None:
        self.part(out, x)
        self.group.all_reduce(out)


def make_linear(weights: Sequence[Weight], biases: Sequence[Weight], target: Target) -> Linear:
    """One layer for one or several matrices over the same input (`biases`: none or one each)."""
    packed = {weight.qtype for weight in weights if weight.packed}
    if packed and target.packs:
        same = len(packed) == 1 and all(weight.packed for weight in weights)
        if len(weights) == 1 or same:
            return PackedLinear(weights, _join(biases, torch.float32, target.device), target)
        return _split(weights, biases, target)
    if target.device.type == "cuda" and target.packs and all(w.scales is not None for w in weights):
        return Fp8Linear(weights, _join(biases, torch.float32, target.device), target)
    if target.device.type == "cuda":
        dtype = target.activation_dtype
        dense = [weight.to_dense(dtype, target.device) for weight in weights]
        matrix = torch.cat(dense) if len(dense) > 1 else dense[0]
        return MatmulLinear(matrix, _join(biases, dtype, target.device))
    if len({target.dense_dtype(weight) for weight in weights}) > 1:
        return _split(weights, biases, target)
    dense = [weight.to_dense(target.dense_dtype(weight), target.device) for weight in weights]
    return DenseLinear(dense, _join(biases, torch.float32, target.device), target.tape)


def _split(weights: Sequence[Weight], biases: Sequence[Weight], target: Target) -> SplitLinear:
    """Neighbours of one format stay together."""
    parts: list[Linear] = []
    for _, group in groupby(range(len(weights)), lambda i: _format(weights[i], target)):
        places = list(group)
        own = [biases[i] for i in places] if biases else []
        parts.append(make_linear([weights[i] for i in places], own, target))
    return SplitLinear(parts)


def _format(weight: Weight, target: Target) -> object:
    return weight.qtype if weight.packed and target.packs else target.dense_dtype(weight)


def reserve_tiles(count: int, dtype: torch.dtype, rows: int, columns: int, tape: Tape) -> Tensor:
    """Zeros for `count` matrices [rows, columns], each as `ops.linear` reads it on the CPU."""
    shape = (count, *ops.tiled_shape(dtype, rows, columns))
    return tape.reserve(math.prod(shape) * dtype.itemsize).view(dtype).view(shape)


def fill_tiles(tiles: Tensor, parts: Iterable[Tensor]) -> None:
    """Write one such matrix, given as parts [rows, columns] that lie one below the other."""
    row = 0
    for part in parts:
        ops.linear_pack(tiles, part.contiguous(), row)
        row += len(part)


def repack(weights: Sequence[Weight]) -> Tensor:
    """u8 [bytes]: packed matrices over the same input, one below the other, as the kernels read
    them.
    """
    raw = end_to_end([weight.data for weight in weights])
    rows = sum(weight.shape[0] for weight in weights)
    return ops.quant_repack(raw, weights[0].qtype, rows, weights[0].shape[1])


def end_to_end(parts: Sequence[Tensor]) -> Tensor:
    """Bytes of packed weights, u8 [bytes] each, as one tensor.

    By numpy: torch wakes its threads for a megabyte, and where other processes have the CPUs it
    waits for them 60 times while a model loads (a second and more, against 60 ms).
    """
    if len(parts) == 1:
        return parts[0]
    return torch.from_numpy(np.concatenate([part.numpy() for part in parts]))


def _join(biases: Sequence[Weight], dtype: torch.dtype, device: torch.device) -> Tensor | None:
    if not biases:
        return None
    return torch.cat([bias.to_dense(dtype, device) for bias in biases])
