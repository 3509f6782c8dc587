# SPDX-License-Identifier: Apache-2.0
"""Engines on a Ray cluster of two nodes on this host: one engine on each, or one rank of an engine.

A node is a process tree of Ray's; ending one is what a lost machine looks like from here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Start, frontend_environment
from tests.e2e.server import ROOT, Server, wait_for
from tests.e2e.streams import complete, health
from vllm.errors import ExitCode

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ON_RAY = ("--port", 0, "--distributed-executor-backend", "ray", "--dequantize")


class Nodes:
    """A cluster of two nodes with one CPU each, so that each has room for one process."""

    def __init__(self) -> None:
        utils = pytest.importorskip("ray.cluster_utils", reason="pip install 'vllm[ray]'")
        size = {"num_cpus": 1, "object_store_memory": 80 << 20}
        self.cluster: Any = utils.Cluster(
            initialize_head=True, head_node_args={**size, "include_dashboard": False}
        )
        self.second = self.cluster.add_node(**size)

    def environment(self) -> dict[str, str]:
        return {"RAY_ADDRESS": self.cluster.address, **frontend_environment("rust")}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # nodes find the package where it lies
    nodes = Nodes()
    yield nodes
    nodes.cluster.shutdown()


def processes(module: str) -> dict[int, int]:
    """Living processes `python -m module` below an actor: process id -> that of the actor."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                above = (Path("/proc") / str(parent) / "cmdline").read_bytes()
            except OSError:
                continue
            if module.encode() in words and above.startswith(b"ray::"):
                found[int(entry.name)] = parent
    return found


def ask_rank(server: Server, rank: int) -> int:
    """The status of a request that only engine `rank` may answer."""
    headers = {"X-data-parallel-rank": str(rank)}
    body = {"prompt": "x", "max_tokens": 2}
    return httpx.post(
        f"{server.url}/v1/completions", json=body, headers=headers, timeout=60
    ).status_code


def test_an_engine_on_each_node(start: Start, tiny_model: Path, nodes: Nodes) -> None:
    own = nodes.environment()
    two = ("--data-parallel-size", 2, "--engine-restarts", 1)
    server = start(tiny_model, *ON_RAY, *two, **own).wait_ready()
    engines = processes("vllm.engine")
    assert len(engines) == 2
    assert [ask_rank(server, rank) for rank in (0, 1)] == [200, 200]

    os.kill(min(engines), signal.SIGKILL)  # the process: its actor tells how it ended
    wait_for(lambda: "starting it again" in server.log, "the death to be noticed")
    assert f"(pid {min(engines)}) was ended by SIGKILL" in server.log
    assert complete(server).status_code == 200
    wait_for(lambda: "is back" in server.log, "the engine to be back")

    nodes.cluster.remove_node(nodes.second, allow_graceful=False)
    wait_for(lambda: "go on without it" in server.log, "the node to be given up", 300)
    assert "is lost" in server.log
    assert health(server) == 200
    assert sorted(ask_rank(server, rank) == 200 for rank in (0, 1)) == [False, True]
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    wait_for(lambda: not processes("vllm.engine"), "the end of the engine")


def test_a_rank_on_each_node(start: Start, tiny_model: Path, nodes: Nodes) -> None:
    own = nodes.environment()
    server = start(tiny_model, *ON_RAY, "--tensor-parallel-size", 2, **own).wait_ready()
    alone = start(tiny_model, "--port", 0, "--dequantize").wait_ready()
    texts = [complete(one).json()["choices"][0]["text"] for one in (server, alone)]
    assert texts[0] == texts[1] != ""
    (rank,) = processes("vllm.distributed")
    os.kill(rank, signal.SIGKILL)
    wait_for(lambda: "starting it again" in server.log, "the death to be noticed")
    (planned,) = [line for line in server.errors if "starting it again" in line]
    assert f"engine 0 rank 1 on {gethostname()} (pid {rank}) was ended by SIGKILL" in planned
    wait_for(lambda: health(server) == 200, "the engine to be back")
    assert complete(server).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    wait_for(lambda: not processes("vllm.distributed"), "the end of the rank")


def test_no_cluster_is_refused(start: Start, tiny_model: Path) -> None:
    pytest.importorskip("ray")
    server = start(tiny_model, *ON_RAY, RAY_ADDRESS="127.0.0.1:1")
    assert server.wait_exit() == ExitCode.USAGE
    assert "no Ray cluster at '127.0.0.1:1'" in server.errors[-1]
