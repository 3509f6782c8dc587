# SPDX-License-Identifier: Apache-2.0
"""Which engines are started where, from the flags."""

from __future__ import annotations

import pytest

from vllm.cli.parser import parse
from vllm.config.engine import EngineConfig
from vllm.config.serve import ParallelConfig, parallel_config
from vllm.errors import UsageError

RAY = ("--distributed-executor-backend", "ray")


def parallel(*flags: str) -> ParallelConfig:
    return parallel_config(parse(["serve", "m", *flags]))


def test_engines_are_here_unless_told_otherwise() -> None:
    here = parallel("--data-parallel-size", "3")
    assert (list(here.local_ranks), here.has_remote_engines, here.ray) == ([0, 1, 2], False, False)


def test_on_ray_none_is_here_and_any_port_will_do() -> None:
    elsewhere = parallel(*RAY, "--data-parallel-size", "3")
    assert (list(elsewhere.local_ranks), elsewhere.has_remote_engines) == ([], True)
    assert (elsewhere.size, elsewhere.rpc_port, elsewhere.ray) == (3, 0, True)
    assert parallel(*RAY, "--data-parallel-rpc-port", "7000").rpc_port == 7000


def test_too_many_processes_are_refused_before_any_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(16))
    assert parallel("--data-parallel-size", "4", "--tensor-parallel-size", "4").size == 4
    with pytest.raises(UsageError, match=r"17 engines on this host, .*: at most 16 can start"):
        parallel("--data-parallel-size", "17")
    with pytest.raises(UsageError, match=r"5 engines of 4 ranks .* 16 CPUs: at most 4 can start"):
        parallel("--data-parallel-size", "5", "--tensor-parallel-size", "4")
    with pytest.raises(UsageError, match="--tensor-parallel-size is 17, but this host has 16 CPUs"):
        parallel("--tensor-parallel-size", "17")
    assert parallel(*RAY, "--tensor-parallel-size", "17").size_local == 0
    with pytest.raises(ValueError, match="tensor_parallel_size is 65; at most 64 are served"):
        EngineConfig("m", tensor_parallel_size=65)


@pytest.mark.parametrize(
    "flags",
    [
        ("--headless",),
        ("--data-parallel-size-local", "1"),
        ("--data-parallel-start-rank", "1"),
    ],
)
def test_what_places_engines_by_hand_is_refused_on_ray(flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"{flags[0]} says .* the cluster decides that"):
        parallel(*RAY, "--data-parallel-size", "2", *flags)
