# SPDX-License-Identifier: Apache-2.0
"""Limits of the machine as cgroups state them."""

from __future__ import annotations

import os
from pathlib import Path

from vllm.worker.resources import available_memory, cpu_count


def test_cpu_quota_limits_the_count(tmp_path: Path) -> None:
    every = len(os.sched_getaffinity(0))
    assert cpu_count(tmp_path) == every
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu_count(tmp_path) == every
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert cpu_count(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpu_count(tmp_path) == 1


def test_memory_limit_of_the_cgroup_counts_what_is_used(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\n")
    assert available_memory(tmp_path, meminfo) == 1000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert available_memory(tmp_path, meminfo) == 1000 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert available_memory(tmp_path, meminfo) == 4000
