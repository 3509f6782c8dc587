# SPDX-License-Identifier: Apache-2.0
"""Limits of the machine as cgroups state them, and what of its memory a cache takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.models import make_llama
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.worker import resources
from vllm.worker.kv_tensors import MEMORY_CAP, memory_on_cpu
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
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\nactive_file 350\n")
    assert available_memory(tmp_path, meminfo) == 4250


def limited(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    path = tmp_path / "meminfo"
    path.write_text("MemAvailable: 1000 kB\n")
    return path


def test_the_tightest_of_nested_groups_counts(tmp_path: Path, meminfo: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/slice/service/task\n")
    limited(tmp_path / "slice", memory__max="9000\n", memory__current="6000\n")
    limited(tmp_path / "slice/service", memory__max="5000\n", memory__current="1000\n")
    limited(tmp_path / "slice/service/task", memory__max="max\n", memory__current="1000\n")
    assert available_memory(tmp_path, meminfo, own) == 3000


def test_groups_of_version_1(tmp_path: Path, meminfo: Path) -> None:
    own = tmp_path / "own"
    own.write_text("5:cpu:/other\n4:memory:/job\n0::/\n")
    root, job, other = (tmp_path / "memory" / name for name in (".", "job", "other"))
    unlimited = f"{2**63 - 4096}\n"
    limited(root, memory__limit_in_bytes=unlimited, memory__usage_in_bytes="77\n")
    limited(other, memory__limit_in_bytes="10\n", memory__usage_in_bytes="1\n")
    assert available_memory(tmp_path, meminfo, own) == 1000 * 1024
    limited(
        job,
        memory__limit_in_bytes="8000\n",
        memory__usage_in_bytes="3000\n",
        memory__stat="inactive_file 1\ntotal_inactive_file 500\n",
    )
    assert available_memory(tmp_path, meminfo, own) == 5500


def test_a_full_group_leaves_nothing(tmp_path: Path, meminfo: Path) -> None:
    limited(tmp_path, memory__max="100\n", memory__current="300\n")
    assert available_memory(tmp_path, meminfo) == 0


def test_the_cache_gets_half_of_what_weights_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 7 << 30)
    assert memory_on_cpu(1, weights=5 << 30) == 1 << 30
    assert memory_on_cpu(2, weights=5 << 30) == 1 << 29
    assert memory_on_cpu(1, weights=9 << 30) == 0
    monkeypatch.setattr(resources, "available_memory", lambda: 1 << 40)
    assert memory_on_cpu(1, weights=5 << 30) == MEMORY_CAP


def test_an_engine_counts_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_llama(tmp_path)
    token = 2 * 2 * 2 * 16 * 2  # keys and values, layers, KV heads, head size, bfloat16
    weights = (model / "model.safetensors").stat().st_size
    monkeypatch.setattr(resources, "available_memory", lambda: weights + 2 * 64 * token)
    core = EngineCore(EngineConfig(str(model), device="cpu"))
    assert core.runner.layout.num_tokens == 64
