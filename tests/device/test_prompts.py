# SPDX-License-Identifier: Apache-2.0
"""Prompts through torch's flash kernel: what our own computes, up to 16-bit rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.device.cache import CACHE
from tests.models import BOS, make_llama
from tests.steps import Step, random_step
from tests.unit.engine.drive import finish, request
from tests.unit.layers.test_flash_attention import MIXES
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.layers.attention import PagedAttention
from vllm.layers.flash_attention import FlashAttention, make_attention
from vllm.layers.linear import Target

ROUNDING = {torch.bfloat16: 0.01, torch.float16: 0.002}
DEVICE = torch.device("cuda")
LONG = {"long": [(700, 1), (0, 300), (1000, 129), (63, 65)]}


def run(layer: PagedAttention, step: Step) -> Tensor:
    out = torch.empty(step.q.shape, dtype=step.q.dtype, device="cuda")
    layer(out, step.q, step.k, step.v, cache=step.cache, step=step.inputs)
    return out.double()


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", [(4, 2, 16), (8, 1, 64), (6, 6, 80), (32, 8, 128), (4, 2, 256)])
@pytest.mark.parametrize("mix", [*MIXES, *LONG])
def test_prompts_equal_the_paged_kernel(
    mix: str, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    make = (MIXES | LONG)[mix], *shape, dtype, None, "cuda"
    scale = shape[2] ** -0.5
    expected = run(PagedAttention(scale), random_step(*make))
    found = run(FlashAttention(scale), random_step(*make))
    assert (found - expected).norm() / expected.norm() < ROUNDING[dtype]


def test_which_layers_have_it() -> None:
    half, whole = (Target(DEVICE, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert type(make_attention(half, 64, 1.0, 0, 0.0)) is FlashAttention
    for attention in (
        make_attention(whole, 64, 1.0, 0, 0.0),
        make_attention(half, 64, 1.0, 8, 0.0),
        make_attention(half, 64, 1.0, 0, 30.0),
    ):
        assert type(attention) is PagedAttention


def test_a_prompt_in_pieces_and_from_the_cache(tmp_path: Path) -> None:
    """Last logits of one prompt in bfloat16: whole, in pieces beside others, and cached."""
    folder, prompt = make_llama(tmp_path / "m", seed=3), [BOS, *range(100)]

    def logits(core: EngineCore, name: str) -> Tensor:
        finish(core, [request(name, prompt, max_tokens=1)])
        return core.runner.logits[0].double()

    config = {"device": "cuda", "dtype": "bfloat16", "kv_cache_memory": CACHE}
    whole = EngineCore(EngineConfig(str(folder), **config))
    expected = logits(whole, "a")
    pieces = EngineCore(
        EngineConfig(str(folder), max_num_batched_tokens=24, max_num_seqs=4, **config)
    )
    pieces.add_request(request("other", [BOS, 1, 2], max_tokens=3))  # ends before the prompt does
    for found in (logits(whole, "again"), logits(pieces, "b")):
        assert (found - expected).norm() / expected.norm() < 0.03
