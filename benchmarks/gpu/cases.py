# SPDX-License-Identifier: Apache-2.0
"""What is timed: every kernel at the shapes of an 8B Llama, beside the same in torch's operations.

Owns the inputs and both sides. A case's two sides compute the same thing from the same random
inputs, which is checked before anything is timed. `bytes` is what has to be read and written once,
`flops` two operations per multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from vllm.kernels import ops
from vllm.kernels.flash import attend_causally
from vllm.layers.unpacked import MANY_ROWS, Unpacked

Side = Callable[[], Tensor]


@dataclass(frozen=True)
class Shapes:
    """Of a model and of what is timed of it; small ones serve the tests."""

    hidden: int = 4096
    inner: int = 14336
    packed_inner: int = 4096
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    vocab: int = 128_256
    block_size: int = 16
    rows: tuple[int, ...] = (1, 32, 2048)
    logit_rows: tuple[int, ...] = (1, 32, 128)
    decodes: tuple[tuple[int, int], ...] = ((1, 1024), (1, 16384), (32, 1024), (128, 1024))
    prefills: tuple[tuple[int, int], ...] = ((1, 512), (1, 2048), (4, 512))
    device: str = "cuda"
    dtype: torch.dtype = torch.bfloat16

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class Case:
    """`make()` draws fresh inputs and returns ours and torch's way over them."""

    name: str
    make: Callable[[], tuple[Side, Side]]
    bytes: float = 0.0
    flops: float = 0.0
    exact: bool = False  # results are token ids: the error is the share that differs

    def error(self) -> float:
        """Of ours against torch's: norm of the difference over the norm."""
        ours, theirs = (side().double() for side in self.make())
        if self.exact:
            return float((ours != theirs).double().mean())
        return float((ours - theirs).norm() / theirs.norm())


def norms(s: Shapes) -> Iterator[Case]:
    def plain(rows: int) -> tuple[Side, Side]:
        x, weight = s.random(rows, s.hidden), s.random(s.hidden)
        out = torch.empty_like(x)

        def ours() -> Tensor:
            ops.rms_norm(out, x, weight, 1e-5)
            return out

        return ours, lambda: functional.rms_norm(x, (s.hidden,), weight, 1e-5)

    def added(rows: int) -> tuple[Side, Side]:
        x, residual, weight = s.random(rows, s.hidden), s.random(rows, s.hidden), s.random(s.hidden)
        mine, own_residual, their_residual = x.clone(), residual.clone(), residual.clone()

        def ours() -> Tensor:
            ops.fused_add_rms_norm(mine, own_residual, weight, 1e-5)
            return mine

        def theirs() -> Tensor:
            their_residual.add_(x)
            return functional.rms_norm(their_residual, (s.hidden,), weight, 1e-5)

        return ours, theirs

    for rows in s.rows:
        size = rows * s.hidden * s.dtype.itemsize
        yield Case(f"rms_norm, {rows} rows", partial(plain, rows), 2 * size)
        yield Case(f"fused_add_rms_norm, {rows} rows", partial(added, rows), 4 * size)


def activations(s: Shapes) -> Iterator[Case]:
    def make(rows: int) -> tuple[Side, Side]:
        x = s.random(rows, 2 * s.inner)
        out = torch.empty(rows, s.inner, device=s.device, dtype=s.dtype)

        def ours() -> Tensor:
            ops.silu_and_mul(out, x)
            return out

        return ours, lambda: functional.silu(x[:, : s.inner]) * x[:, s.inner :]

    for rows in s.rows:
        size = 3 * rows * s.inner * s.dtype.itemsize
        yield Case(f"silu_and_mul, {rows} rows", partial(make, rows), size)


def rotary(s: Shapes) -> Iterator[Case]:
    def make(rows: int) -> tuple[Side, Side]:
        table = torch.randn(4096, s.head_dim, device=s.device)
        positions = torch.randint(0, 4096, (rows,), device=s.device)
        both = s.random(rows, (s.heads + s.kv_heads) * s.head_dim)
        mine = both.clone()
        q, k = mine.split([s.heads * s.head_dim, s.kv_heads * s.head_dim], dim=1)

        def ours() -> Tensor:
            ops.rotary_embedding(positions, q, k, s.head_dim, table, True)
            return mine

        def theirs() -> Tensor:
            cos, sin = table[positions].to(s.dtype)[:, None].chunk(2, -1)
            a, b = both.view(rows, -1, s.head_dim).chunk(2, -1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).view_as(both)

        return ours, theirs

    for rows in s.rows:
        size = 2 * rows * (s.heads + s.kv_heads) * s.head_dim * s.dtype.itemsize
        yield Case(f"rotary_embedding, {rows} rows", partial(make, rows), size)


def cache_writes(s: Shapes) -> Iterator[Case]:
    blocks = -(-max(s.rows) // s.block_size) + 8

    def make(rows: int) -> tuple[Side, Side]:
        k, v = (s.random(rows, s.kv_heads * s.head_dim) for _ in range(2))
        slots = torch.randperm(blocks * s.block_size, device=s.device)[:rows]
        shape = (2, blocks, s.kv_heads, s.block_size, s.head_dim)
        mine, other = (torch.zeros(shape, device=s.device, dtype=s.dtype) for _ in range(2))
        block, within = slots // s.block_size, slots % s.block_size

        def ours() -> Tensor:
            ops.kv_write(k, v, mine[0], mine[1], slots)
            return mine

        def theirs() -> Tensor:
            other[0, block, :, within] = k.view(rows, s.kv_heads, -1)
            other[1, block, :, within] = v.view(rows, s.kv_heads, -1)
            return other

        return ours, theirs

    for rows in s.rows:
        size = 4 * rows * s.kv_heads * s.head_dim * s.dtype.itemsize
        yield Case(f"kv_write, {rows} rows", partial(make, rows), size)


def attention(s: Shapes) -> Iterator[Case]:
    """Ours reads a cache of blocks in random order, torch's contiguous keys and values."""

    def make(sequences: int, queries: int, context: int) -> tuple[Side, Side]:
        k, v = (s.random(sequences, s.kv_heads, context, s.head_dim) for _ in range(2))
        q = s.random(sequences * queries, s.heads * s.head_dim)
        per = context // s.block_size
        order = torch.randperm(sequences * per, device=s.device)
        keys, values = (_in_blocks(x, order, s.block_size) for x in (k, v))
        tables = order.to(torch.int32).view(sequences, per)
        lens = torch.full((sequences,), context, dtype=torch.int32, device=s.device)
        counts = torch.arange(sequences + 1, device=s.device) * queries
        starts, out, scale = counts.to(torch.int32), torch.empty_like(q), s.head_dim**-0.5
        heads = q.view(sequences, queries, s.heads, s.head_dim).transpose(1, 2)

        def ours() -> Tensor:
            ops.paged_attention(out, q, keys, values, tables, lens, starts, scale)
            return out

        def theirs() -> Tensor:
            mixed = functional.scaled_dot_product_attention(
                heads, k, v, is_causal=queries > 1, enable_gqa=True
            )
            return mixed.transpose(1, 2).reshape_as(q)

        return ours, theirs

    width = s.head_dim * s.dtype.itemsize
    for sequences, context in s.decodes:
        name = f"attention, {sequences} decodes, context {context}"
        size = 2 * sequences * (context * s.kv_heads + s.heads) * width
        yield Case(name, partial(make, sequences, 1, context), size)
    for sequences, length in s.prefills:
        name = f"attention, {sequences} prompts of {length}"
        size = 2 * sequences * length * (s.kv_heads + s.heads) * width
        pairs = sequences * length * (length + 1) / 2
        flops = 4 * pairs * s.heads * s.head_dim
        yield Case(name, partial(make, sequences, length, length), size, flops)


def flash(s: Shapes) -> Iterator[Case]:
    """The kernel of torch that prompts go through in the engine, beside SDPA. GPUs only."""

    def make(sequences: int, length: int) -> tuple[Side, Side]:
        k, v = (s.random(sequences * length, s.kv_heads, s.head_dim) for _ in range(2))
        q, scale = s.random(sequences * length, s.heads, s.head_dim), s.head_dim**-0.5
        starts = (torch.arange(sequences + 1, device=s.device) * length).int()
        a, b, c = (x.unflatten(0, (sequences, length)).transpose(1, 2) for x in (q, k, v))
        out = torch.empty_like(q)

        def theirs() -> Tensor:
            mixed = functional.scaled_dot_product_attention(
                a, b, c, is_causal=True, enable_gqa=True
            )
            return mixed.transpose(1, 2).reshape_as(q).flatten(1)

        def ours() -> Tensor:
            mixed = attend_causally(q, k, v, starts, starts, length, length, scale)
            return out.copy_(mixed).flatten(1)

        return ours, theirs

    width = s.head_dim * s.dtype.itemsize
    for sequences, length in s.prefills if s.device == "cuda" else ():
        name = f"flash attention, {sequences} prompts of {length}"
        size = 2 * sequences * length * (s.kv_heads + s.heads) * width
        flops = 2 * sequences * length * (length + 1) * s.heads * s.head_dim
        yield Case(name, partial(make, sequences, length), size, flops)


def _in_blocks(x: Tensor, order: Tensor, block_size: int) -> Tensor:
    """[sequences, kv_heads, context, head_dim] as a paged cache, block i in place order[i]."""
    sequences, kv_heads, context, head_dim = x.shape
    parts = x.view(sequences, kv_heads, context // block_size, block_size, head_dim)
    cache = torch.empty(len(order), kv_heads, block_size, head_dim, device=x.device, dtype=x.dtype)
    cache[order] = parts.transpose(1, 2).reshape(cache.shape)
    return cache


def sampling(s: Shapes) -> Iterator[Case]:
    def logits(rows: int) -> Tensor:
        return torch.randn(rows, s.vocab, device=s.device) * 4

    def greedy(rows: int) -> tuple[Side, Side]:
        x, out = logits(rows), torch.empty(rows, dtype=torch.int64, device=s.device)

        def ours() -> Tensor:
            ops.argmax(out, x)
            return out

        return ours, lambda: x.argmax(-1)

    def drawn(rows: int, top_k: int, top_p: float) -> tuple[Side, Side]:
        x, out = logits(rows), torch.empty(rows, dtype=torch.int64, device=s.device)
        one, zero = torch.ones(rows, device=s.device), torch.zeros(rows, device=s.device)
        ks = torch.full((rows,), top_k, dtype=torch.int32, device=s.device)
        uniform = torch.rand(rows, dtype=torch.float64, device=s.device)

        def ours() -> Tensor:
            ops.sample_top_k_top_p(out, x, one * 0.8, ks, one * top_p, zero, uniform)
            return out

        return ours, lambda: _sorted_sample(x / 0.8, top_k, top_p, uniform)

    def likeliest(rows: int, count: int) -> tuple[Side, Side]:
        x, ids = logits(rows), torch.empty(rows, count, dtype=torch.int64, device=s.device)
        out = torch.empty(rows, count, device=s.device)

        def ours() -> Tensor:
            ops.topk_logprobs(out, ids, x)
            return out

        return ours, lambda: x.log_softmax(-1).topk(count).values

    for rows in s.logit_rows:
        size = 4 * rows * s.vocab
        yield Case(f"argmax, {rows} rows", partial(greedy, rows), size, exact=True)
        for name, k, p in (("no filter", 0, 1.0), ("top_k 40", 40, 1.0), ("top_p 0.9", 0, 0.9)):
            title = f"sample, {name}, {rows} rows"
            yield Case(title, partial(drawn, rows, k, p), size, exact=True)
        yield Case(f"topk_logprobs 5, {rows} rows", partial(likeliest, rows, 5), size)


def _sorted_sample(logits: Tensor, top_k: int, top_p: float, uniform: Tensor) -> Tensor:
    """The same filters by a sort, and the first id at which the running sum exceeds `uniform`."""
    kept = logits.softmax(-1)
    if top_k > 0 or top_p < 1:
        ordered, ids = kept.sort(-1, descending=True)
        if top_k > 0:
            ordered[:, top_k:] = 0
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= top_p * ordered.sum(-1, keepdim=True), 0)
        kept = torch.zeros_like(kept).scatter(1, ids, ordered)
    running = kept.double().cumsum(-1)
    return (running <= uniform[:, None] * running[:, -1:]).sum(-1)


def products(s: Shapes) -> Iterator[Case]:
    """Dense layers, which are torch's on CUDA: what share of the ceiling they reach."""

    def make(rows: int, n: int, k: int) -> tuple[Side, Side]:
        x, weight = s.random(rows, k), s.random(n, k)
        out = torch.empty(rows, n, device=s.device, dtype=s.dtype)

        def ours() -> Tensor:
            return torch.mm(x, weight.t(), out=out)

        return ours, lambda: functional.linear(x, weight)

    for rows in (*s.rows, 128):
        for name, n, k in (("gate_up", 2 * s.inner, s.hidden), ("down", s.hidden, s.inner)):
            size = (n * k + rows * (n + k)) * s.dtype.itemsize
            title = f"torch.mm {name} {n}x{k}, {rows} rows"
            yield Case(title, partial(make, rows, n, k), size, 2.0 * rows * n * k)


def own_products(s: Shapes) -> Iterator[Case]:
    """Our dense and FP8 layers, made for few rows, beside torch's product in the model's dtype."""

    def make(rows: int, fp8: bool) -> tuple[Side, Side]:
        n, k = s.hidden, s.packed_inner
        x, stored = s.random(rows, k), s.random(n, k)
        if fp8:
            stored = stored.to(torch.float8_e4m3fn)
        dense, scales = stored.to(s.dtype), torch.ones(1, device=s.device)
        out = torch.empty(rows, n, device=s.device, dtype=s.dtype)
        weight = stored if fp8 else _as_read(stored)

        def ours() -> Tensor:
            if fp8:
                ops.fp8_linear(out, x, weight, scales)
            else:
                ops.linear(out, x, weight)
            return out

        return ours, lambda: torch.mm(x, dense.t())

    for fp8 in (False, True) if s.device == "cuda" else (False,):
        for rows in s.rows:
            n, k = s.hidden, s.packed_inner
            item = 1 if fp8 else s.dtype.itemsize
            size = n * k * item + rows * (n + k) * s.dtype.itemsize
            title = f"{'fp8_linear' if fp8 else 'linear'} {n}x{k}, {rows} rows"
            yield Case(title, partial(make, rows, fp8), size, 2.0 * rows * n * k)


def packed_products(s: Shapes) -> Iterator[Case]:
    """Packed layers beside torch's product with the same weights in the model's dtype. On a GPU
    also by way of dense pieces, as the engine computes many rows.
    """

    def make(kind: int, rows: int, pieces: bool = False) -> tuple[Side, Side]:
        n, k = s.hidden, s.packed_inner
        raw = _random_blocks(kind, n * k)
        packed = ops.quant_repack(raw, kind, n, k).to(s.device)
        weight = torch.empty(n, k)
        ops.dequantize(weight, raw, kind)
        x, dense = s.random(rows, k), weight.to(s.device, s.dtype)
        out = torch.empty(rows, n, device=s.device, dtype=s.dtype)

        def ours() -> Tensor:
            ops.quant_linear(out, x, packed, kind, n, k)
            return out

        def in_pieces() -> Tensor:
            room.multiply(out, x, packed, kind)
            return out

        room = Unpacked(s.dtype, torch.device(s.device))
        return in_pieces if pieces else ours, lambda: torch.mm(x, dense.t())

    for kind, name in ((ops.GGML_Q4_K, "Q4_K"), (ops.GGML_Q8_0, "Q8_0")):
        columns, block = ops.QUANT_BLOCKS[kind]
        for rows in s.rows:
            n, k = s.hidden, s.packed_inner
            size = n * k * block / columns + rows * (n + k) * s.dtype.itemsize
            title = f"quant_linear {name} {n}x{k}, {rows} rows"
            yield Case(title, partial(make, kind, rows), size, 2.0 * rows * n * k)
            if rows >= MANY_ROWS and s.device == "cuda":
                whole = partial(make, kind, rows, True)
                yield Case(f"{title}, in dense pieces", whole, size, 2.0 * rows * n * k)


def _random_blocks(kind: int, elements: int) -> Tensor:
    """Valid ones, whose weights are below 0.1: random bits under small scales."""
    columns, block = ops.QUANT_BLOCKS[kind]
    raw = torch.randint(0, 256, (elements // columns, block), dtype=torch.uint8)
    scale = torch.tensor([1e-4 if columns == 256 else 5e-4], dtype=torch.float16)
    raw[:, :2] = scale.view(torch.uint8)
    if columns == 256:
        raw[:, 2:4] = scale.view(torch.uint8)  # of the minima
    return raw.flatten()


def _as_read(weight: Tensor) -> Tensor:
    """A dense weight [n, k] as the kernels of its device read it."""
    if weight.is_cuda:
        return weight
    tiles = weight.new_zeros(ops.tiled_shape(weight.dtype, *weight.shape))
    ops.linear_pack(tiles, weight)
    return tiles


def experts(s: Shapes) -> Iterator[Case]:
    """64 experts of which a token takes 4, beside the same by torch's grouped product."""
    count, top, hidden, inner = 64, 4, s.hidden // 4, s.hidden // 8

    def make(rows: int) -> tuple[Side, Side]:
        x = s.random(rows, hidden)
        gate_up = s.random(count, 2 * inner, hidden) / hidden**0.5
        down = s.random(count, hidden, inner) / inner**0.5
        scores = torch.rand(rows, count, device=s.device)
        weights, best = scores.topk(top, dim=-1)
        ids, out = best.int(), torch.empty_like(x)
        stored = [torch.stack([_as_read(matrix) for matrix in each]) for each in (gate_up, down)]

        def ours() -> Tensor:
            ops.fused_experts(out, x, ids, weights, stored[0], 0, stored[1], 0, inner)
            return out

        def theirs() -> Tensor:
            order = best.flatten().argsort(stable=True)
            ends = functional.one_hot(best.flatten(), count).sum(0).cumsum(0).int()
            both = functional.grouped_mm(x[order // top], gate_up.transpose(1, 2), offs=ends)
            gate, up = both.chunk(2, dim=-1)
            y = functional.grouped_mm(functional.silu(gate) * up, down.transpose(1, 2), offs=ends)
            mixed = torch.empty_like(y).index_copy_(0, order, y).unflatten(0, (rows, top))
            return (mixed * weights[:, :, None]).sum(1).to(x.dtype)

        return ours, theirs

    for rows in s.rows:
        used = min(count, rows * top)
        size = (3 * used * inner + 2 * rows) * hidden * s.dtype.itemsize
        flops = 6.0 * rows * top * hidden * inner
        title = f"fused_experts {top} of {count}, {hidden}x{inner}, {rows} rows"
        yield Case(title, partial(make, rows), size, flops)


GROUPS: dict[str, Callable[[Shapes], Iterator[Case]]] = {
    "norm": norms,
    "activation": activations,
    "rotary": rotary,
    "cache": cache_writes,
    "attention": attention,
    "flash": flash,
    "sampling": sampling,
    "product": products,
    "own product": own_products,
    "packed product": packed_products,
    "experts": experts,
}

SMALL = replace(
    Shapes(),
    hidden=64,
    inner=96,
    packed_inner=256,
    heads=4,
    kv_heads=2,
    head_dim=32,
    vocab=500,
    rows=(1, 5),
    logit_rows=(3,),
    decodes=((3, 48),),
    prefills=((2, 32),),
    device="cpu",
    dtype=torch.float32,
)
"""What a test without a GPU compares both sides of every case on."""


def all_cases(shapes: Shapes) -> Iterator[Case]:
    for group in GROUPS.values():
        yield from group(shapes)
