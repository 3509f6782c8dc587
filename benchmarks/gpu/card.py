# SPDX-License-Identifier: Apache-2.0
"""Which GPU this is, and the two rates that nothing on it exceeds: copying and multiplying."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

import torch

from benchmarks.gpu.timing import median_seconds


@dataclass(frozen=True)
class Ceilings:
    """Measured, not from a data sheet: bytes read plus written, and bf16 operations, a second."""

    bytes_per_s: float
    flops: float


def describe() -> dict[str, str]:
    """Card, driver and torch."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "card": properties.name,
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "multiprocessors": str(properties.multi_processor_count),
        "L2": f"{properties.L2_cache_size / 2**20:.0f} MiB",
        "driver": _driver(),
        "torch": f"{torch.__version__} (CUDA {torch.version.cuda})",
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({error})"
    return done.stdout.splitlines()[0].strip()


def measure_ceilings() -> Ceilings:
    """A copy of 2 GiB and a bf16 product of 8192 x 8192 x 8192, on random data."""
    source = torch.empty(1 << 31, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    copying = 2 * source.nbytes / median_seconds([lambda: target.copy_(source)])
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    multiplying = 2 * size**3 / median_seconds([lambda: torch.mm(a, b, out=out)])
    return Ceilings(copying, multiplying)
