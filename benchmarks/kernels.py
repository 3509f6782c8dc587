# SPDX-License-Identifier: Apache-2.0
"""Times the CPU kernels of a Llama at the shapes of SmolLM2-135M, beside a plain read of memory.

    python -m benchmarks.kernels [--threads N] [--only WORD] [--seconds S] [--json FILE]

Each figure is the median over rounds in one process; `GB/s` counts the bytes an op must touch once,
`GOP/s` two operations per multiply-add. Results are checked in tests/kernels, not here.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from vllm.kernels import ops

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, VOCAB = 576, 1536, 9, 3, 64, 30, 49152
QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM
LAYER_LINEARS = [(QKV, HIDDEN), (HIDDEN, HIDDEN), (2 * FFN, HIDDEN), (HIDDEN, FFN)]
BLOCK_SIZE = 16


@dataclass
class Case:
    """One timed call; `bytes` and `operations` are what it has to touch and do."""

    name: str
    run: Callable[[], object]
    bytes: float = 0
    operations: float = 0


@dataclass
class Result:
    name: str
    microseconds: float
    gb_per_s: float
    gop_per_s: float


def measure(case: Case, seconds: float) -> Result:
    """Median of at least five rounds, as many as fit into `seconds`."""
    case.run()
    start = time.perf_counter()
    case.run()
    once = max(time.perf_counter() - start, 1e-7)
    inner = max(1, int(0.002 / once))
    rounds = max(5, min(200, int(seconds / (once * inner))))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(inner):
            case.run()
        times.append((time.perf_counter() - start) / inner)
    median = statistics.median(times)
    return Result(
        case.name, median * 1e6, case.bytes / median / 1e9, case.operations / median / 1e9
    )


def random_packed(qtype: int, n: int, k: int) -> torch.Tensor:
    """Random bits: what a weight is does not change how long it takes."""
    columns, size = ops.QUANT_BLOCKS[qtype]
    raw = torch.randint(0, 120, (n, k // columns * size), dtype=torch.uint8)
    return ops.quant_repack(raw, qtype, n, k)


def plain_read() -> Iterator[Case]:
    memory = torch.ones(96_400_000 // 4)
    yield Case("read 96 MB (torch sum)", memory.sum, memory.nbytes)


def model_linears() -> Iterator[Case]:
    """All linear layers of a step, each layer with weights of its own: what decode streams."""
    layers = [[random_packed(ops.GGML_Q4_1, n, k) for n, k in LAYER_LINEARS] for _ in range(LAYERS)]
    head = random_packed(ops.GGML_Q8_0, VOCAB, HIDDEN)
    weight_bytes = sum(packed.nbytes for layer in layers for packed in layer)
    macs = LAYERS * sum(n * k for n, k in LAYER_LINEARS)
    for rows in (1, 8, 32, 512):
        x = {k: torch.randn(rows, k) for k in (HIDDEN, FFN)}
        out = {n: torch.empty(rows, n) for n in {n for n, _ in LAYER_LINEARS}}
        last, logits = torch.randn(min(rows, 32), HIDDEN), torch.empty(min(rows, 32), VOCAB)

        def step(x=x, out=out) -> None:
            for layer in layers:
                for (n, k), packed in zip(LAYER_LINEARS, layer, strict=True):
                    ops.quant_linear(out[n], x[k], packed, ops.GGML_Q4_1, n, k)

        def project(last=last, logits=logits) -> None:
            ops.quant_linear(logits, last, head, ops.GGML_Q8_0, VOCAB, HIDDEN)

        yield Case(f"Q4_1 linears, 30 layers, {rows} rows", step, weight_bytes, 2.0 * macs * rows)
        if rows <= 32:
            operations = 2.0 * VOCAB * HIDDEN * rows
            yield Case(f"Q8_0 output head, {rows} rows", project, head.nbytes, operations)


def tiled(weight: torch.Tensor) -> torch.Tensor:
    packed = torch.zeros(ops.tiled_shape(weight.dtype, *weight.shape), dtype=weight.dtype)
    ops.linear_pack(packed, weight)
    return packed


def dense_linears() -> Iterator[Case]:
    """All linear layers of a step in bfloat16, and one matrix in the other formats."""
    layers = [
        [tiled(torch.randn(n, k).bfloat16()) for n, k in LAYER_LINEARS] for _ in range(LAYERS)
    ]
    size = sum(weight.nbytes for layer in layers for weight in layer)
    for rows in (1, 8, 32, 512):
        x = {k: torch.randn(rows, k) for k in (HIDDEN, FFN)}
        out = {n: torch.empty(rows, n) for n in {n for n, _ in LAYER_LINEARS}}

        def step(x=x, out=out) -> None:
            for layer in layers:
                for (n, k), weight in zip(LAYER_LINEARS, layer, strict=True):
                    ops.linear(out[n], x[k], weight)

        yield Case(f"bfloat16 linears, 30 layers, {rows} rows", step, size, size * rows)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        plain = torch.randn(2 * FFN, HIDDEN).to(dtype)
        name = f"linear_pack {str(dtype)[6:]} {2 * FFN}x{HIDDEN}"
        yield Case(name, partial(ops.linear_pack, tiled(plain), plain), 2 * plain.nbytes)
    for dtype in (torch.float32, torch.float16):
        weight = tiled(torch.randn(2 * FFN, HIDDEN).to(dtype))
        for rows in (1, 32, 512):
            x_of, out_of = torch.randn(rows, HIDDEN), torch.empty(rows, 2 * FFN)
            name = f"linear {str(dtype)[6:]} {2 * FFN}x{HIDDEN}, {rows} rows"
            operations = 2.0 * weight.numel() * rows
            yield Case(name, partial(ops.linear, out_of, x_of, weight), weight.nbytes, operations)


def attention_case(sequences: int, context: int, queries: int, dtype: torch.dtype) -> Case:
    per_sequence = -(-context // BLOCK_SIZE)
    shape = (sequences * per_sequence, KV_HEADS, BLOCK_SIZE, HEAD_DIM)
    keys, values = (torch.randn(shape).to(dtype) for _ in range(2))
    tables = torch.randperm(shape[0]).to(torch.int32).reshape(sequences, per_sequence)
    lens = torch.full((sequences,), context, dtype=torch.int32)
    starts = (torch.arange(sequences + 1) * queries).to(torch.int32)
    q = torch.randn(sequences * queries, HEADS * HEAD_DIM)
    out = torch.empty_like(q)
    pairs = sequences * queries * (context - (queries - 1) / 2)
    return Case(
        f"attention {str(dtype)[6:]}, {sequences} x {queries} queries, context {context}",
        lambda: ops.paged_attention(out, q, keys, values, tables, lens, starts, 0.125),
        2 * sequences * context * KV_HEADS * HEAD_DIM * keys.element_size(),
        4.0 * pairs * HEADS * HEAD_DIM,
    )


def step_attention(sequences: int, context: int) -> Case:
    """A decode step's attention: each layer has a cache of its own, which comes out of memory."""
    layers = [attention_case(sequences, context, 1, torch.bfloat16) for _ in range(LAYERS)]

    def step() -> None:
        for layer in layers:
            layer.run()

    return Case(
        f"attention, {LAYERS} layers, {sequences} queries, context {context}",
        step,
        sum(layer.bytes for layer in layers),
        sum(layer.operations for layer in layers),
    )


def attentions() -> Iterator[Case]:
    for shape in ((1, 256, 1), (32, 128, 1), (32, 512, 1), (1, 512, 512), (1, 8192, 1)):
        yield attention_case(*shape, torch.bfloat16)
    yield attention_case(32, 128, 1, torch.float32)
    for sequences, context in ((8, 96), (32, 96), (8, 1024)):
        yield step_attention(sequences, context)


def decode_edges() -> Iterator[Case]:
    """What a decode step does before and behind its model."""
    for rows in (1, 32):
        row_tokens = torch.zeros(rows, 1024, dtype=torch.int32)
        row_blocks = torch.arange(rows * 64, dtype=torch.int32).view(rows, 64)
        ids, positions, slots = (torch.empty(rows, dtype=torch.int64) for _ in range(3))
        lens, starts = (torch.empty(size, dtype=torch.int32) for size in (rows, rows + 1))
        tables, index = torch.empty_like(row_blocks), torch.arange(rows)
        computed = torch.empty(rows, dtype=torch.int64)
        fill = partial(
            ops.fill_decode_inputs, ids, positions, slots, lens, starts, tables, computed, index,
            row_tokens, row_blocks, BLOCK_SIZE,
        )  # fmt: skip
        append = partial(ops.append_tokens, row_tokens, index, lens, ids)

        def step(computed=computed, fill=fill, append=append) -> None:
            computed.fill_(128)  # it is counted up
            fill()
            append()

        yield Case(f"fill_decode_inputs, append_tokens, {rows} rows", step)


def elementwise() -> Iterator[Case]:
    cache = torch.randn(2048, HEAD_DIM)
    weight = torch.randn(HIDDEN)
    for rows in (1, 32, 512):
        x, residual, out = (torch.randn(rows, HIDDEN) for _ in range(3))
        gate, inner = torch.randn(rows, 2 * FFN), torch.empty(rows, FFN)
        k, positions = torch.randn(rows, KV_HEADS * HEAD_DIM), torch.arange(rows)
        k_cache = torch.zeros(64, KV_HEADS, BLOCK_SIZE, HEAD_DIM).bfloat16()
        v_cache = torch.zeros_like(k_cache)
        table = torch.randn(VOCAB, HIDDEN).bfloat16()
        calls: list[tuple[str, Callable[[], object], float]] = [
            ("rms_norm", partial(ops.rms_norm, out, x, weight, 1e-5), 8 * x.numel()),
            (
                "fused_add_rms_norm",
                partial(ops.fused_add_rms_norm, x, residual, weight, 1e-5),
                16 * x.numel(),
            ),
            (
                "rotary_embedding",
                partial(ops.rotary_embedding, positions, x, k, HEAD_DIM, cache, False),
                8 * (x.numel() + k.numel()),
            ),
            ("silu_and_mul", partial(ops.silu_and_mul, inner, gate), 12 * inner.numel()),
            (
                "kv_write",
                partial(ops.kv_write, k, k, k_cache, v_cache, positions),
                12 * k.numel(),
            ),
            (
                "embedding bf16",
                partial(ops.embedding_dequantize, out, positions, table, 30),
                6 * x.numel(),
            ),
        ]
        for name, call, touched in calls:
            yield Case(f"{name}, {rows} rows", call, touched)


def _sample(
    ids: torch.Tensor,
    logits: torch.Tensor,
    temperatures: torch.Tensor,
    uniform: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
) -> None:
    min_p = torch.zeros_like(top_p)
    ops.sample_top_k_top_p(ids, logits, temperatures, top_k, top_p, min_p, uniform)


def samplers() -> Iterator[Case]:
    for rows in (1, 32):
        logits = torch.randn(rows, VOCAB) * 4
        ids = torch.empty(rows, dtype=torch.int64)
        given, ranks = (
            torch.zeros(rows, 1, dtype=torch.int64),
            torch.empty(rows, 1, dtype=torch.int64),
        )
        logprobs, top = torch.empty(rows, 1), torch.empty(rows, 5)
        top_ids = torch.empty(rows, 5, dtype=torch.int64)
        one, uniform = torch.ones(rows), torch.rand(rows, dtype=torch.float64)
        none = torch.zeros(rows, dtype=torch.int32)
        sample = partial(_sample, ids, logits, one, uniform)
        calls: list[tuple[str, Callable[[], object]]] = [
            ("argmax", partial(ops.argmax, ids, logits)),
            (
                "token_logprobs_and_ranks",
                partial(ops.token_logprobs_and_ranks, logprobs, ranks, logits, given),
            ),
            ("topk_logprobs 5", partial(ops.topk_logprobs, top, top_ids, logits)),
            ("sample, no filter", partial(sample, none, one)),
            ("sample, top_k 40, top_p 0.9", partial(sample, none + 40, 0.9 * one)),
            ("sample, top_p 0.9", partial(sample, none, 0.9 * one)),
        ]
        for name, call in calls:
            yield Case(f"{name}, {rows} rows", call, logits.nbytes)


GROUPS = {
    "read": plain_read,
    "quant": model_linears,
    "dense": dense_linears,
    "attention": attentions,
    "decode": decode_edges,
    "elementwise": elementwise,
    "sampling": samplers,
}


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, help="threads per op (default: all CPUs)")
    parser.add_argument("--only", choices=GROUPS, action="append", help="group to run (repeatable)")
    parser.add_argument("--seconds", type=float, default=0.5, help="time per case (default 0.5)")
    parser.add_argument("--json", type=Path, help="also write the results there")
    arguments = parser.parse_args()
    if arguments.threads:
        ops.set_num_threads(arguments.threads)
        torch.set_num_threads(arguments.threads)
    print(
        f"{cpu_model()}, {ops.CPU_ISA}, {ops.get_num_threads()} threads, torch {torch.__version__}"
    )
    results = []
    for name in arguments.only or GROUPS:
        for case in GROUPS[name]():
            result = measure(case, arguments.seconds)
            results.append(result)
            rate = f"{result.gb_per_s:8.1f} GB/s" if case.bytes else " " * 13
            speed = f"{result.gop_per_s:9.1f} GOP/s" if case.operations else ""
            print(f"{result.name:48} {result.microseconds:11.1f} us {rate} {speed}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1))


if __name__ == "__main__":
    main()
