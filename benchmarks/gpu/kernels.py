# SPDX-License-Identifier: Apache-2.0
"""Checks and times each case, and says what share of the card's ceilings it reaches.

A case that raises becomes a row with its error: the others are still worth having.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.gpu.card import Ceilings, measure_ceilings
from benchmarks.gpu.cases import GROUPS, Case, Shapes
from benchmarks.gpu.timing import host_seconds, median_seconds
from vllm.kernels import ops

MOST_SETS = 8
# bf16 has 8 bits: two ways of rounding differ by some thousandths. Drawn tokens may differ where
# the random number falls on a boundary within rounding.
LIMIT, LIMIT_OF_TOKENS = 0.02, 0.05


def run() -> dict[str, Any]:
    """Ceilings, every case, and the host's time for one launch."""
    torch.manual_seed(0)
    ceilings = measure_ceilings()
    _say(f"copy {ceilings.bytes_per_s / 1e12:.2f} TB/s, bf16 {ceilings.flops / 1e12:.0f} TFLOP/s")
    rows = [_row(case, ceilings) for case in _cases()]
    return {"ceilings": asdict(ceilings), "kernels": rows, "host": _host()}


def _cases() -> Iterator[Case]:
    for group in GROUPS.values():
        yield from group(Shapes())


def _row(case: Case, ceilings: Ceilings) -> dict[str, Any]:
    try:
        row = {"name": case.name, **measure(case, ceilings)}
    except (RuntimeError, AttributeError) as error:
        row = {"name": case.name, "failed": str(error).splitlines()[0]}
    _say(
        f"{case.name:44}" + " ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "name")
        if "failed" not in row
        else f"{case.name:44} FAILED {row['failed']}"
    )
    torch.cuda.empty_cache()
    return row


def measure(case: Case, ceilings: Ceilings) -> dict[str, float]:
    """Error, microseconds of both sides, and the share of the ceiling that is nearer."""
    error = case.error()
    limit = LIMIT_OF_TOKENS if case.exact else LIMIT
    if not error <= limit:  # NaN, too
        raise RuntimeError(f"differs from torch's by {error:.3g}, the limit is {limit}")
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    sets = min(MOST_SETS, math.ceil(2 * cache / max(case.bytes, 1)))
    sides = [case.make() for _ in range(sets)]
    ours = median_seconds([ours for ours, _ in sides])
    theirs = median_seconds([theirs for _, theirs in sides])
    floor = max(case.bytes / ceilings.bytes_per_s, case.flops / ceilings.flops)
    return {
        "error": error,
        "us": ours * 1e6,
        "torch_us": theirs * 1e6,
        "gb_per_s": case.bytes / ours / 1e9,
        "tflops": case.flops / ours / 1e12,
        "share": floor / ours,
    }


def _host() -> dict[str, float]:
    """Microseconds that Python takes for one launch of an op of ours and of torch's."""
    x = torch.randn(1, 4096, device="cuda", dtype=torch.bfloat16)
    out, weight = torch.empty_like(x), torch.ones_like(x[0])
    square = torch.randn(64, 64, device="cuda")
    return {
        "ops.rms_norm": host_seconds(lambda: ops.rms_norm(out, x, weight, 1e-5)) * 1e6,
        "torch.mm": host_seconds(lambda: torch.mm(square, square, out=square.clone())) * 1e6,
    }


def _say(text: str) -> None:
    print(text, flush=True)
