# SPDX-License-Identifier: Apache-2.0
"""FP8 checkpoints on the CPU against the float64 pass over the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.exactness.cases import CASES, SERVED
from tests.exactness.families import FamilyReference
from tests.fp8 import make_fp8
from tests.models import BOS
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.loader.checkpoint import ModelLoadError
from vllm.loader.hf_checkpoint import HFCheckpoint
from vllm.quantization.weight import UnsupportedFormatError, Weight

PROMPT = [BOS, *range(20)]


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize(
    ("method", "case"),
    [("fp8", {}), ("compressed-tensors", CASES["mixtral"]), ("fp8", CASES["deepseek-v3"])],
)
def test_logits_equal_the_reference(per_row: bool, method: str, case: dict, tmp_path: Path) -> None:
    packed, plain = make_fp8(tmp_path, per_row=per_row, method=method, **case)
    config = EngineConfig(str(packed), device="cpu", dequantize=True, max_model_len=SERVED)
    engine = EngineCore(config)
    tokens = finish(engine, [request("r", PROMPT, max_tokens=6)])["r"].tokens
    expected = FamilyReference.from_directory(plain, SERVED).logits(PROMPT + tokens[:-1])[-1]
    assert (engine.runner.logits[0].double() - expected).norm() / expected.norm() < 1e-5


def test_served_as_bfloat16(tmp_path: Path) -> None:
    """Scales that are powers of two change no digit: both engines compute the same."""
    packed, plain = make_fp8(tmp_path, per_row=True, method="fp8")
    stored = load_file(packed / "model.safetensors")
    values = load_file(plain / "model.safetensors")
    for name in [name for name in stored if name.endswith("_scale")]:
        weight = name.removesuffix("_scale")
        stored[name] = stored[name].log2().round().exp2()
        values[weight] = (stored[weight].float() * stored[name]).bfloat16()
    save_file(stored, packed / "model.safetensors")
    save_file(values, plain / "model.safetensors")
    tokens = []
    for folder in (packed, plain):
        engine = EngineCore(EngineConfig(str(folder), device="cpu"))
        tokens.append(finish(engine, [request("r", PROMPT, max_tokens=30)])["r"].tokens)
    assert tokens[0] == tokens[1]


def test_parts_keep_their_scales() -> None:
    data, scales = torch.randn(6, 4).to(torch.float8_e4m3fn), torch.rand(6)
    weight, cpu = Weight.fp8(data, scales[:, None], "w"), torch.device("cpu")
    whole = weight.to_dense(torch.float32, cpu)
    rows = weight.rows([range(1, 3), range(5, 6)])
    assert torch.equal(rows.to_dense(torch.float32, cpu), whole[[1, 2, 5]])
    assert torch.equal(weight.columns(range(1, 3)).to_dense(torch.float32, cpu), whole[:, 1:3])


def test_what_is_missing_or_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    packed, _ = make_fp8(tmp_path, per_row=False, method="fp8")
    stored = load_file(packed / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    stored[name + "_scale"] = torch.ones(3)
    save_file(stored, packed / "model.safetensors")
    with pytest.raises(UnsupportedFormatError, match=r"up_proj.weight' has shape .* and 3 scales"):
        HFCheckpoint(packed).get(name)
    del stored[name + "_scale"]
    save_file(stored, packed / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"tensor '.*up_proj.weight_scale' is missing"):
        HFCheckpoint(packed).get(name)
