# SPDX-License-Identifier: Apache-2.0
"""The ops once more, in float64 and in the plainest way; and random GGUF blocks."""

from __future__ import annotations

import math

import gguf
import torch
from torch import Tensor

from vllm.kernels import ops

QTYPES = tuple(ops.QUANT_BLOCKS)
NAMES = {qtype: gguf.GGMLQuantizationType(qtype).name for qtype in QTYPES}
# Where in a block of each type f16 scales and minima lie, in bytes; the rest is free.
HALVES = {
    ops.GGML_Q4_0: (0,),
    ops.GGML_Q4_1: (0, 2),
    ops.GGML_Q5_0: (0,),
    ops.GGML_Q5_1: (0, 2),
    ops.GGML_Q8_0: (0,),
    ops.GGML_Q4_K: (0, 2),
    ops.GGML_Q5_K: (0, 2),
    ops.GGML_Q6_K: (208,),
}
FOUR_BITS = (ops.GGML_Q4_0, ops.GGML_Q4_1, ops.GGML_Q4_K)
F32_EPS = 2.0**-23


def wide(columns: int, *sizes: int) -> Tensor:
    """A random [rows, columns] view into a wider tensor: rows lie apart."""
    return torch.randn(*sizes, columns + 7)[:, :columns]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x = x.double()
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight.double()


def silu_and_mul(x: Tensor) -> Tensor:
    gate, up = x.double().chunk(2, -1)
    return gate / (1 + torch.exp(-gate)) * up


def gelu_tanh_and_mul(x: Tensor) -> Tensor:
    gate, up = x.double().chunk(2, -1)
    return torch.nn.functional.gelu(gate, approximate="tanh") * up


def cos_sin_cache(positions: int, rot_dim: int) -> Tensor:
    frequency = 10000.0 ** (-torch.arange(0, rot_dim, 2).double() / rot_dim)
    angle = torch.arange(positions).double()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1).float()


def rotary(x: Tensor, positions: Tensor, head_dim: int, cache: Tensor, is_neox: bool) -> Tensor:
    tokens, half = x.shape[0], cache.shape[1] // 2
    heads = x.double().reshape(tokens, -1, head_dim).clone()
    cos, sin = cache[positions].double().unsqueeze(1).chunk(2, -1)
    first = slice(0, half) if is_neox else slice(0, 2 * half, 2)
    second = slice(half, 2 * half) if is_neox else slice(1, 2 * half, 2)
    a, b = heads[..., first].clone(), heads[..., second].clone()
    heads[..., first] = a * cos - b * sin
    heads[..., second] = b * cos + a * sin
    return heads.reshape(tokens, -1)


def attention(
    q: Tensor, keys: Tensor, values: Tensor, scale: float, window: int = 0, soft_cap: float = 0
) -> Tensor:
    """q: [queries, heads, dim], the last of the context; keys, values: [context, kv_heads, dim]."""
    q, keys, values = q.double(), keys.double(), values.double()
    group = q.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    scores = torch.einsum("qhd,khd->hqk", q, keys) * scale
    queries, context = q.shape[0], keys.shape[0]
    if soft_cap:
        scores = soft_cap * torch.tanh(scores / soft_cap)
    hidden = torch.ones(queries, context).triu(context - queries + 1).bool()
    if window:
        hidden |= torch.ones(queries, context).tril(context - queries - window).bool()
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, values)


def random_blocks(qtype: int, n: int, k: int) -> Tensor:
    """uint8 [n, bytes per row]: random quants with scales and minima that give weights near 1."""
    columns, size = ops.QUANT_BLOCKS[qtype]
    raw = torch.randint(0, 256, (n, k // columns, size), dtype=torch.uint8)
    for place in HALVES[qtype]:
        halves = (torch.randn(n, k // columns, 1) * (0.05 if columns == 32 else 0.002)).half()
        raw[..., place : place + 2] = halves.view(torch.uint8)
    return raw.reshape(n, -1)


def dequantize(raw: Tensor, qtype: int) -> Tensor:
    """float64 [n, k] from uint8 [n, bytes per row], by the `gguf` package (in float32)."""
    values = gguf.quants.dequantize(raw.numpy(), gguf.GGMLQuantizationType(qtype))
    return torch.from_numpy(values).double()


def columns_for(qtype: int, k: int) -> int:
    """`k` rounded up to whole blocks."""
    columns = ops.QUANT_BLOCKS[qtype][0]
    return -(-k // columns) * columns


def quantize_activations(x: Tensor, qtype: int, coarse: bool = False) -> Tensor:
    """float64 values of x as digits per block of 32 columns: one if `coarse`, else as weights of
    this type see it.
    """
    steps, unit = (127, 1) if coarse else (1904, 16) if qtype in FOUR_BITS else (127, 256)
    blocks = x.reshape(x.shape[0], x.shape[1] // 32, 32)
    largest = blocks.abs().amax(-1, keepdim=True)
    # `number / tensor` would multiply with the rounded reciprocal.
    inverse = torch.where(largest > 0, torch.full_like(largest, steps) / largest, 0.0)
    units = {1: torch.round, 16: _shared_digits, 256: _two_digits}[unit](blocks * inverse)
    scale = (largest / float(steps * unit)).double()
    return (units.double() * scale).reshape(x.shape)


def _two_digits(steps: Tensor) -> Tensor:
    high = torch.round(steps)
    return 256 * high + torch.round((steps - high) * 256).clamp(-127, 127)


def _shared_digits(steps: Tensor) -> Tensor:
    """The last 16 columns are rounded first; the others lie between steps by their lower bits."""
    last = torch.round(steps[..., 16:])
    between = last.remainder(16)
    first = torch.round(steps[..., :16] - between / 16)
    return torch.cat([16 * first + between, 16 * last], -1)


def kept_tokens(
    logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float
) -> Tensor:
    """float64 [V]: probabilities after the filters of `sample_top_k_top_p`, not renormalized."""
    p = (logits.double() / temperature).softmax(-1)
    p = torch.where(p >= min_p * p.max(), p, torch.zeros_like(p))
    order = torch.argsort(p, descending=True, stable=True)
    ranked = p[order]
    if 0 < top_k < len(p):
        ranked[top_k:] = 0
    if top_p < 1:
        before = ranked.cumsum(-1) - ranked
        ranked[before >= top_p * ranked.sum()] = 0
    return torch.zeros_like(p).scatter(0, order, ranked)


def tiled(weight):
    """A dense weight [n, k] as `ops.linear` reads it on the CPU."""
    packed = torch.zeros(ops.tiled_shape(weight.dtype, *weight.shape), dtype=weight.dtype)
    ops.linear_pack(packed, weight)
    return packed


def seen_by(x, dtype):
    """x as the linear layer of dense weights in `dtype` sees it."""
    return x.bfloat16() if dtype is torch.bfloat16 and ops.CPU_ISA in ("avx512", "amx") else x
