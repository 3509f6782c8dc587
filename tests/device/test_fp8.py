# SPDX-License-Identifier: Apache-2.0
"""FP8 weights on a GPU: they stay in FP8 there, and give the reference's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.device.cache import CACHE
from tests.exactness.reference import Reference
from tests.fp8 import make_fp8
from tests.models import BOS
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.layers import unpacked
from vllm.layers.linear import Fp8Linear, Target
from vllm.quantization.weight import Weight

DEVICE = torch.device("cuda")
PROMPT = [BOS, *range(1, 40)]


@pytest.mark.parametrize("per_row", [False, True])
def test_tokens_equal_the_reference(per_row: bool, tmp_path: Path) -> None:
    folder, plain = make_fp8(tmp_path, per_row=per_row, method="compressed-tensors")
    config = EngineConfig(str(folder), device="cuda", dtype="float32", kv_cache_memory=CACHE)
    engine = EngineCore(config)
    assert isinstance(engine.runner.model.layers[0].mlp.down, Fp8Linear)
    found = finish(engine, [request("r", PROMPT, max_tokens=12)])["r"].tokens
    assert found == Reference.from_directory(plain).greedy(PROMPT, 12)


def test_many_rows_are_multiplied_by_dense_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three pieces of 48 rows and one of 6, against the kernel that reads FP8."""
    monkeypatch.setattr(unpacked, "PIECE_BYTES", 48 * 256 * 2)
    data = torch.randn(150, 256).to(torch.float8_e4m3fn)
    weights = [Weight.fp8(data, torch.rand(150), "w")]
    layer = Fp8Linear(weights, torch.randn(150, device=DEVICE), Target(DEVICE, torch.bfloat16))
    x = torch.randn(unpacked.MANY_ROWS, 256, device=DEVICE, dtype=torch.bfloat16)
    many, few = (torch.empty(n, 150, device=DEVICE, dtype=x.dtype) for n in (len(x), 1))
    layer(many, x)
    for i, row in enumerate(many):
        layer(few, x[i : i + 1])
        assert (row - few[0]).norm() / few.norm() < 0.02
