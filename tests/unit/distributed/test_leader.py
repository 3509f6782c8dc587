# SPDX-License-Identifier: Apache-2.0
"""Rank 0 learns what another rank failed of, in one line and with its exit code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.models import make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.distributed import local_ranks
from vllm.distributed.leader import Leader
from vllm.engine.core import EngineCore
from vllm.errors import EngineDiedError, ExitCode, VLLMError


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    model = make_llama(tmp_path / "model")
    return EngineConfig(str(model), tensor_parallel_size=2, dequantize=True)


def test_a_rank_that_cannot_load_says_why(
    config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = local_ranks.start_ranks

    def start_elsewhere(config: EngineConfig) -> Leader:
        return start(replace(config, model="/no/such/model"))

    monkeypatch.setattr("vllm.engine.core.start_ranks", start_elsewhere)
    words = r"tensor-parallel rank 1 \(pid \d+\) failed: /no/such/model: no such model"
    with pytest.raises(VLLMError, match=words) as caught:
        EngineCore(config)
    assert caught.value.exit_code == ExitCode.MODEL


def test_a_core_whose_rank_is_gone_says_so_and_steps_no_more(config: EngineConfig) -> None:
    core = EngineCore(config)
    assert core.registration().tensor_parallel_size == 2
    together = finish(core, [request("a", [1, 2, 3])])
    alone = finish(EngineCore(replace(config, tensor_parallel_size=1)), [request("a", [1, 2, 3])])
    assert together["a"].tokens == alone["a"].tokens
    core.add_request(request("b", [1, 2, 3]))
    assert core._leader is not None
    core._leader._peers[0].process._child.process.kill()  # type: ignore[attr-defined]
    with pytest.raises(EngineDiedError, match=r"tensor-parallel rank 1 \(pid \d+\) was ended by"):
        finish(core)
    with pytest.raises(EngineDiedError):
        core.has_work()
    core.close()


def test_memory_of_the_cache_can_be_given_back_and_taken_again(config: EngineConfig) -> None:
    core = EngineCore(config)
    first = finish(core, [request("a", [1, 2, 3])])
    core.sleep(1)
    core.wake_up()
    assert finish(core, [request("a", [1, 2, 3])])["a"].tokens == first["a"].tokens
    core.close()
