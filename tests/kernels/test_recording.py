# SPDX-License-Identifier: Apache-2.0
"""Recorded op calls give, replayed, what the same calls give one by one."""

from __future__ import annotations

import gc

import pytest
import torch

from tests.kernels import reference
from vllm.kernels import ops
from vllm.kernels.recording import Recording

TOKENS, HIDDEN, HEAD_DIM, BLOCK_SIZE, BLOCKS = 3, 64, 32, 16, 4


class Layer:
    """Embedding, norm, packed and dense linear, rotary, cache, attention, activation."""

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.table = torch.randn(10, HIDDEN)
        self.ids = torch.tensor([1, 2, 3])
        self.positions = torch.tensor([4, 17, 0])
        self.slots = torch.tensor([4, 33, 48])
        self.block_tables = torch.tensor([[0, 0], [1, 2], [3, 0]], dtype=torch.int32)
        self.seq_lens = torch.tensor([5, 18, 1], dtype=torch.int32)
        self.starts = torch.arange(TOKENS + 1, dtype=torch.int32)
        self.cos_sin = torch.randn(64, HEAD_DIM)
        self.norm, self.bias = torch.randn(HIDDEN), torch.randn(HIDDEN)
        self.dense = reference.tiled(torch.randn(HIDDEN, HIDDEN))
        raw = reference.random_blocks(ops.GGML_Q4_1, HIDDEN, HIDDEN)
        self.packed = ops.quant_repack(raw, ops.GGML_Q4_1, HIDDEN, HIDDEN)
        self.caches = [torch.zeros(BLOCKS, 2, BLOCK_SIZE, HEAD_DIM) for _ in range(2)]
        names = ("x", "residual", "q", "k", "mixed")
        self.buffers = {name: torch.zeros(TOKENS, HIDDEN) for name in names}
        self.out = torch.zeros(TOKENS, HIDDEN // 2)

    def run(self) -> torch.Tensor:
        b = self.buffers
        ops.embedding_dequantize(b["residual"], self.ids, self.table, ops.GGML_F32)
        ops.rms_norm(b["x"], b["residual"], self.norm, 1e-5)
        ops.quant_linear(
            b["q"], b["x"], self.packed, ops.GGML_Q4_1, HIDDEN, HIDDEN, self.bias
        )  # fmt: skip
        ops.linear(b["k"], b["x"], self.dense)
        ops.rotary_embedding(self.positions, b["q"], b["k"], HEAD_DIM, self.cos_sin, False)
        ops.kv_write(b["k"], b["x"], *self.caches, self.slots)
        ops.paged_attention(
            b["mixed"], b["q"], *self.caches, self.block_tables, self.seq_lens, self.starts, 0.2
        )
        ops.fused_add_rms_norm(b["mixed"], b["residual"], self.norm, 1e-5)
        ops.silu_and_mul(self.out, b["mixed"])
        return self.out


def test_a_replay_computes_what_lies_in_the_memory_now() -> None:
    recorded, plain = Layer(), Layer()
    recording = Recording(recorded.run)
    assert torch.equal(recording.result, plain.run()), "recording computes, too"
    for layer in (recorded, plain):
        layer.ids[:] = torch.tensor([9, 0, 5])
        layer.positions[:] = torch.tensor([5, 18, 1])
        layer.slots[:] = torch.tensor([5, 34, 49])
        layer.seq_lens += 1
    assert torch.equal(recording.replay(), plain.run())
    for ours, theirs in zip(recorded.caches, plain.caches, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("array", "value", "message"),
    [
        ("ids", 10, r"embedding_dequantize: ids\[1\] is 10, expected 0 to 9"),
        ("positions", 64, r"rotary_embedding: positions\[1\] is 64"),
        ("slots", 64, r"kv_write: slot_mapping\[1\] is 64"),
        ("seq_lens", 33, r"paged_attention: seq_lens\[1\] is 33"),
    ],
)
def test_a_replay_checks_elements(array: str, value: int, message: str) -> None:
    layer = Layer()
    recording = Recording(layer.run)
    getattr(layer, array)[1] = value
    with pytest.raises(RuntimeError, match=message):
        recording.replay()


def test_a_bias_is_added_to_every_column() -> None:
    layer = Layer()
    with_bias, without = torch.zeros(TOKENS, HIDDEN), torch.zeros(TOKENS, HIDDEN)
    x = torch.randn(TOKENS, HIDDEN)
    matrix = (layer.packed, ops.GGML_Q4_1, HIDDEN, HIDDEN)
    ops.quant_linear(with_bias, x, *matrix, layer.bias)
    ops.quant_linear(without, x, *matrix)
    assert torch.equal(with_bias, without + layer.bias)
    with pytest.raises(RuntimeError, match="quant_linear: bias has shape"):
        ops.quant_linear(with_bias, x, *matrix, layer.bias[:-1])


def test_ops_that_cannot_be_recorded_are_refused_and_leave_no_recording_open() -> None:
    logits, out = torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="argmax: this op cannot be part of a recording"):
        Recording(lambda: ops.argmax(out, logits))
    ops.argmax(out, logits)
    assert Recording(lambda: 7).replay() == 7


def test_recordings_do_not_nest_and_end_with_their_object() -> None:
    with pytest.raises(RuntimeError, match="this thread records already"):
        Recording(lambda: Recording(lambda: None))
    recording = Recording(lambda: None)
    number = recording._number
    del recording
    gc.collect()
    with pytest.raises(RuntimeError, match=f"recording {number} does not exist or was dropped"):
        ops.replay(number)
    with pytest.raises(RuntimeError, match="this thread does not record"):
        ops.end_recording()
