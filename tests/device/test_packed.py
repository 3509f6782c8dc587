# SPDX-License-Identifier: Apache-2.0
"""Packed weights on a GPU: they stay packed there, and give the reference's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.device.cache import CACHE
from tests.exactness.reference import Reference
from tests.kernels.reference import random_blocks
from tests.models import BOS
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.kernels import ops
from vllm.layers import unpacked
from vllm.layers.linear import PackedLinear, Target
from vllm.quantization.weight import Weight

pytest.importorskip("gguf", reason="the package gguf, which writes the files, is not installed")
DEVICE = torch.device("cuda")
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


@pytest.mark.parametrize("wide", [False, True])
def test_many_rows_are_multiplied_by_dense_pieces(
    wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pieces of 48 rows and one of 6, against the kernel that reads packed weights."""
    monkeypatch.setattr(unpacked, "PIECE_BYTES", 48 * 256 * 2)
    raw, bias = random_blocks(ops.GGML_Q4_K, 150, 256), torch.randn(150)
    weights, target = [Weight(raw, ops.GGML_Q4_K, (150, 256))], Target(DEVICE, torch.bfloat16)
    layer = PackedLinear(weights, bias.to(DEVICE), target)
    x = torch.randn(unpacked.MANY_ROWS, 256, device=DEVICE, dtype=torch.bfloat16)
    dtype = torch.float32 if wide else torch.bfloat16
    many = torch.empty(len(x), 150, device=DEVICE, dtype=dtype)
    few = torch.empty(1, 150, device=DEVICE, dtype=dtype)
    layer(many, x)
    for i, row in enumerate(many):
        layer(few, x[i : i + 1])
        assert (row - few[0]).norm() / few.norm() < 0.01
