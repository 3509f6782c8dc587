# SPDX-License-Identifier: Apache-2.0
"""What this process may use of the machine: CPUs and memory, cgroup limits included.

Owns the reading of those limits. Must not know what they are used for.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMORY_FILES = (  # limit, usage, and the line of memory.stat that can be had back: version 2, 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def cpu_count(cgroup: Path = _CGROUP) -> int:
    """CPUs this process may run on, at most its cgroup's quota, at least 1."""
    count = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")  # "200000 100000" or "max 100000"
    if quota.isdigit() and period.strip().isdigit() and int(period) > 0:
        count = min(count, max(1, int(quota) // int(period)))
    return count


def available_memory(
    cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO, own: Path = _OWN_CGROUPS
) -> int:
    """Bytes that can still be had: of the machine, and at most what every cgroup above this
    process has left (version 1 and 2; limits nest).
    """
    available = 0
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    for folder in _memory_cgroups(cgroup, own):
        left = _memory_left(folder)
        available = available if left is None else min(available, left)
    return available


def _memory_cgroups(cgroup: Path, own: Path) -> list[Path]:
    """Folders of the groups whose memory limits hold here, from the process's own one upwards.

    In a container the path in `own` may be the host's and not exist here; the roots do.
    """
    folders = [cgroup, cgroup / "memory"]
    for line in _read(own).splitlines():  # "4:memory:/a/b" (version 1) or "0::/a/b" (version 2)
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroup / "memory" if controllers else cgroup
        folder = root / path.lstrip("/")
        while folder != root:
            folders.append(folder)
            folder = folder.parent
    return folders


def _memory_left(folder: Path) -> int | None:
    """What one group has left, or None where it has no limit. File pages that nobody used lately
    count as free: the kernel drops them first.
    """
    for limit, usage, idle in _MEMORY_FILES:
        most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
        if most.isdigit() and used.isdigit():
            stat = dict(line.split(" ", 1) for line in _read(folder / "memory.stat").splitlines())
            return max(0, int(most) - max(0, int(used) - int(stat.get(idle, "0"))))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
