# SPDX-License-Identifier: Apache-2.0
"""What this process may use of the machine: CPUs and memory, cgroup limits included.

Owns the reading of those limits. Must not know what they are used for.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def cpu_count(cgroup: Path = _CGROUP) -> int:
    """CPUs this process may run on, at most its cgroup's quota, at least 1."""
    count = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")  # "200000 100000" or "max 100000"
    if quota.isdigit() and period.strip().isdigit() and int(period) > 0:
        count = min(count, max(1, int(quota) // int(period)))
    return count


def available_memory(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> int:
    """Bytes that can still be had: of the machine, and at most what the cgroup has left."""
    available = 0
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit = _read(cgroup / "memory.max").strip()
    used = _read(cgroup / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        available = min(available, max(0, int(limit) - int(used)))
    return available


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
