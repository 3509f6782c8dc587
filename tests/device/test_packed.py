# SPDX-License-Identifier: Apache-2.0
"""Packed weights on a GPU: they stay packed there, and give the reference's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.device.cache import CACHE
from tests.exactness.reference import Reference
from tests.models import BOS
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.layers.linear import PackedLinear

pytest.importorskip("gguf", reason="the package gguf, which writes the files, is not installed")
PROMPT = [BOS, *range(1, 40)]


def test_k_quants_equal_the_reference(tmp_path: Path) -> None:
    from tests.unit.loader.test_k_quants import mixed, write  # noqa: PLC0415 - needs gguf

    path = write(tmp_path / "m.gguf", mixed)
    engine = EngineCore(
        EngineConfig(str(path), device="cuda", dtype="float32", kv_cache_memory=CACHE)
    )
    assert isinstance(engine.runner.model.lm_head, PackedLinear)
    found = finish(engine, [request("r", PROMPT, max_tokens=12)])["r"].tokens
    assert found == Reference.from_gguf(path).greedy(PROMPT, 12)
