# SPDX-License-Identifier: Apache-2.0
"""A model cut over ranks computes what it computes whole: every family, in threads of one process.

Sums over ranks are in another order, so hidden states differ by rounding.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.exactness.cases import CASES
from tests.models import TINY, make_llama
from vllm.distributed.group import ALONE, Group
from vllm.errors import UsageError
from vllm.kernels import ops
from vllm.layers.attention import AttentionInputs
from vllm.layers.linear import Target
from vllm.loader.checkpoint import open_checkpoint
from vllm.models.hf_config import from_hf
from vllm.models.registry import model_class
from vllm.models.split import spans, split_config
from vllm.quantization.weight import UnsupportedFormatError, Weight
from vllm.worker.kv_tensors import KVLayout, allocate

TOKENS = 12


class Threads:
    """A group whose ranks are threads of this process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.parts: list[Tensor] = [torch.empty(0)] * size

    def rank(self, rank: int) -> Group:
        return Rank(self, rank)


class Rank:
    """One of them."""

    def __init__(self, group: Threads, rank: int) -> None:
        self.group, self.rank, self.size = group, rank, group.size

    def all_reduce(self, x: Tensor) -> None:
        assert x.is_contiguous()
        self.group.parts[self.rank] = x.clone()
        self.group.barrier.wait()
        x.copy_(torch.stack(self.group.parts).sum(0))
        self.group.barrier.wait()

    def least(self, value: int) -> int:
        raise AssertionError("models agree on nothing")


def hidden_states(folder: Path, group: Group = ALONE) -> Tensor:
    """[TOKENS, hidden] of one prompt, in float32."""
    checkpoint = open_checkpoint(folder)
    config = split_config(checkpoint.config, group.size)
    target = Target(torch.device("cpu"), torch.float32, dequantize=True)
    model = model_class(checkpoint.config)(checkpoint, target, 32, 64, group=group)
    layout = KVLayout(num_blocks=1, block_size=TOKENS, token_bytes=0)
    caches = allocate(config, layout, torch.float32, target.device)
    positions = torch.arange(TOKENS)
    lens, starts = np.array([TOKENS], np.int32), np.array([0, TOKENS], np.int32)
    step = AttentionInputs(
        slot_mapping=positions,
        block_tables=torch.zeros((1, 1), dtype=torch.int32),
        seq_lens=torch.from_numpy(lens),
        query_start_loc=torch.from_numpy(starts),
        host_lens=lens,
        host_starts=starts,
    )
    return model.forward(positions * 7 % 250, positions, caches, step).clone()


def split_hidden_states(folder: Path, size: int) -> list[Tensor]:
    group = Threads(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda r: hidden_states(folder, group.rank(r)), range(size)))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_together_compute_the_whole(tmp_path: Path, name: str, size: int) -> None:
    folder = make_llama(tmp_path, **CASES[name])
    whole = hidden_states(folder)
    for part in split_hidden_states(folder, size):
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "size", "text"),
    [
        ({}, 3, "3 does not divide the model's 4 attention heads; it can be 1, 2, 4"),
        ({"intermediate_size": 98}, 4, "98 columns inside the feed-forward layers"),
        (
            {"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 16},
            6,
            "4 key-value heads; it can be 1, 2, 4, 12",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(change: dict[str, Any], size: int, text: str) -> None:
    config = from_hf(TINY | change, "test")
    with pytest.raises(UsageError, match=text):
        split_config(config, size)


def test_packed_weights_are_cut_by_rows_and_in_whole_blocks() -> None:
    block, size = ops.QUANT_BLOCKS[ops.GGML_Q4_1]
    rows, columns = 6, 4 * block
    raw = torch.randint(0, 60, (rows * 4 * size,), dtype=torch.uint8)  # scales stay finite
    weight = Weight(raw, ops.GGML_Q4_1, (rows, columns), "w")

    def dense(part: Weight) -> Tensor:
        return part.to_dense(torch.float32, torch.device("cpu"))

    whole = dense(weight)
    assert whole.abs().sum() > 0
    some = weight.rows([range(1, 3), range(5, 6)])
    torch.testing.assert_close(dense(some), torch.cat([whole[1:3], whole[5:6]]), rtol=0, atol=0)
    middle = weight.columns(range(block, 3 * block))
    torch.testing.assert_close(dense(middle), whole[:, block : 3 * block], rtol=0, atol=0)
    words = (
        r"tensor 'w' has 128 columns in blocks of 32 \(Q4_1\), and cannot be cut into parts of 16"
    )
    with pytest.raises(UnsupportedFormatError, match=words):
        weight.columns(range(16, 32))


def test_spans_of_several_pieces_and_of_shared_ones() -> None:
    assert spans([8, 4, 4], [2, 2, 2], 1, 4) == [range(2, 4), range(8, 10), range(12, 14)]
    assert spans([8, 4, 4], [2, 2, 2], 2, 4) == [range(4, 6), range(10, 12), range(14, 16)]
