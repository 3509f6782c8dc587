# SPDX-License-Identifier: Apache-2.0
"""An engine of several processes: one that dies ends it, with its reason, and none is left."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import Start
from tests.e2e.server import PATIENCE_S, Server, wait_for
from tests.e2e.streams import Reader, complete, health
from vllm.errors import ExitCode

TWO = ("--port", 0, "--tensor-parallel-size", 2, "--dequantize")


def rank_of(server: Server) -> int:
    """Process id of the engine's rank 1."""
    found = [pid for pid, line in server.processes().items() if "vllm.distributed " in line]
    assert len(found) == 1, server.log
    return found[0]


def test_two_ranks_answer_as_one(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, *TWO).wait_ready()
    alone = start(tiny_model, "--port", 0, "--dequantize").wait_ready()
    texts = [complete(one).json()["choices"][0]["text"] for one in (server, alone)]
    assert texts[0] == texts[1] != ""
    server.process.send_signal(signal.SIGINT)
    assert server.wait_exit() == ExitCode.OK
    assert server.errors == []
    server.assert_nothing_left()


def test_a_rank_that_dies_ends_its_engine_which_comes_back(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, *TWO).wait_ready()
    engine, rank = server.wait_pid("engine"), rank_of(server)
    readers = [Reader(server) for _ in range(3)]
    os.kill(rank, signal.SIGKILL)
    for reader in readers:
        reader.join(PATIENCE_S)
        assert any(line.startswith('data: {"error":') for line in reader.lines[-2:]), reader.lines
    wait_for(lambda: "starting it again" in server.log, "the engine's end")
    why, planned = [line for line in server.errors if "frontend:" not in line]
    assert f"the engine ends: tensor-parallel rank 1 (pid {rank}) was ended by SIGKILL" in why
    assert f"engine 0 (pid {engine}) ended with exit code {int(ExitCode.ENGINE_DIED)}" in planned
    wait_for(lambda: health(server) == 200, "the engine to be back")
    assert complete(server).status_code == 200
    assert rank_of(server) != rank


def test_an_idle_engine_notices_the_end_of_a_rank(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, *TWO, "--engine-restarts", 0).wait_ready()
    os.kill(rank_of(server), signal.SIGTERM)  # ranks end with their engine, not before
    assert complete(server).status_code == 200
    os.kill(rank_of(server), signal.SIGKILL)
    assert server.wait_exit() == ExitCode.ENGINE_DIED
    assert "Traceback" not in server.log
    server.assert_nothing_left()


@pytest.mark.parametrize("victim", ["engine", "supervisor"])
def test_no_rank_outlives_what_it_works_for(start: Start, tiny_model: Path, victim: str) -> None:
    server = start(tiny_model, *TWO).wait_ready()
    rank = rank_of(server)
    server.kill(victim)
    wait_for(lambda: rank not in server.processes(), "the end of the rank")


def test_a_rank_killed_while_it_loads_is_told(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, *TWO)
    wait_for(lambda: "vllm.distributed " in str(server.processes()), "rank 1")
    os.kill(rank_of(server), signal.SIGKILL)
    assert server.wait_exit() == ExitCode.ENGINE_START
    assert re.search(r"could not start: tensor-parallel rank 1 \(pid \d+\) was ended", server.log)
    server.assert_nothing_left()


def test_a_signal_while_ranks_load_leaves_none(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, *TWO)
    wait_for(lambda: "vllm.distributed " in str(server.processes()), "rank 1")
    server.process.send_signal(signal.SIGTERM)
    assert server.wait_exit() == ExitCode.OK
    server.assert_nothing_left()


def test_heads_that_cannot_be_split_are_refused(start: Start, tiny_model: Path) -> None:
    server = start(tiny_model, "--port", 0, "--tensor-parallel-size", 3)
    assert server.wait_exit() == ExitCode.USAGE
    assert "3 does not divide the model's 4 attention heads; it can be 1, 2, 4" in server.log
    server.assert_nothing_left()
