# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments: refused, with the op, the argument, what was passed and what is accepted."""

from __future__ import annotations

import re

import pytest
import torch

from tests.kernels import reference
from vllm.kernels import ops

F = torch.empty
I64, I32, U8, BF16, F64 = torch.int64, torch.int32, torch.uint8, torch.bfloat16, torch.float64


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(*shape, dtype=dtype)


CACHE = (zeros(4, 2, 16, 8), zeros(4, 2, 16, 8))
TABLE = zeros(1, 2, dtype=I32)


def attend(q=None, tables=TABLE, lens=(5,), starts=(0, 1), caches=CACHE):
    q = zeros(1, 32) if q is None else q
    lens, starts = torch.tensor(lens, dtype=I32), torch.tensor(starts, dtype=I32)
    ops.paged_attention(torch.empty_like(q), q, *caches, tables, lens, starts, 1.0)


def penalize(ids=(1,), offsets=(0, 1), counts=None):
    n, one = len(ids), torch.ones(1)
    counts = zeros(n, dtype=I32) if counts is None else counts
    prompt = zeros(n, dtype=torch.bool)
    ops.apply_penalties(
        zeros(1, 8), torch.tensor(ids), counts, prompt, torch.tensor(offsets), one, one, one
    )


def route(top=2, groups=1, top_groups=1):
    ids, weights = zeros(2, top, dtype=I32), zeros(2, top)
    ops.route_experts(ids, weights, zeros(2, 8), None, False, groups, top_groups, 1, True, 1.0)


def run_experts(ids=((0, 1),), down=None, hidden=8, down_type=0):
    ids = torch.tensor(ids, dtype=I32)
    down = zeros(2, *ops.tiled_shape(torch.float32, hidden, 4)) if down is None else down
    x, weights = F(len(ids), hidden), zeros(*ids.shape)
    gate_up = zeros(2, *ops.tiled_shape(torch.float32, 8, hidden))
    ops.fused_experts(torch.empty_like(x), x, ids, weights, gate_up, 0, down, down_type, 4)


W8 = torch.ones(8)
WIDE = zeros(2, 3, 6)
PACKED = ops.quant_repack(reference.random_blocks(3, 16, 32), 3, 16, 32)
COS = reference.cos_sin_cache(10, 8)
CASES = {
    "rms_norm: x has dtype float64, expected float32":
        lambda: ops.rms_norm(F(2, 8), F(2, 8, dtype=F64), W8, 1e-5),
    "rms_norm: out has shape [2, 7], expected [2, 8]":
        lambda: ops.rms_norm(F(2, 7), F(2, 8), W8, 1e-5),
    "rms_norm: x has shape [8], expected two dimensions":
        lambda: ops.rms_norm(F(8), F(8), W8, 1e-5),
    "rms_norm: weight has shape [8], expected [9]":
        lambda: ops.rms_norm(F(2, 9), F(2, 9), W8, 1e-5),
    "rms_norm: x must have adjacent elements in each row, but has shape [8, 8] and strides [1, 8]":
        lambda: ops.rms_norm(F(8, 8), F(8, 8).t(), W8, 1e-5),
    "rms_norm: out must have adjacent elements in each row, but has shape [3, 8] and strides":
        lambda: ops.rms_norm(F(1, 8).expand(3, 8), F(3, 8), W8, 1e-5),
    "rms_norm: weight must be contiguous, but has shape [8] and strides [2]":
        lambda: ops.rms_norm(F(2, 8), F(2, 8), torch.ones(16)[::2], 1e-5),
    "fused_add_rms_norm: x and residual must not be the same memory":
        lambda: ops.fused_add_rms_norm(*[F(2, 8)] * 2, W8, 1e-5),
    "silu_and_mul: x has shape [2, 7], its second size must be even":
        lambda: ops.silu_and_mul(F(2, 3), F(2, 7)),
    "gelu_tanh_and_mul: x has shape [2, 7], its second size must be even":
        lambda: ops.gelu_tanh_and_mul(F(2, 3), F(2, 7)),
    "soft_cap: cap is 0, expected a number above 0":
        lambda: ops.soft_cap(F(2, 3), 0.0),
    "copy_heads: x has shape [2, 3, 5], expected [2, 3, 4]":
        lambda: ops.copy_heads(F(2, 3, 4), F(2, 3, 5)),
    "copy_heads: the heads of out overlap":
        lambda: ops.copy_heads(F(2, 1, 4).expand(2, 3, 4), F(2, 3, 4)),
    "copy_heads: the heads of out overlap: it has shape [2, 3, 4] and strides [4, 4, 1]":
        lambda: ops.copy_heads(F(16).as_strided((2, 3, 4), (4, 4, 1)), F(2, 3, 4)),
    "copy_heads: the heads of out overlap: it has shape [2, 3, 4] and strides [11, 4, 1]":
        lambda: ops.copy_heads(F(23).as_strided((2, 3, 4), (11, 4, 1)), F(2, 3, 4)),
    "copy_heads: out and x must not lie in the same memory":
        lambda: ops.copy_heads(WIDE[:, :, 2:6], WIDE[:, :, :4]),
    "paged_attention: window is -1, expected 0 (none) or more":
        lambda: ops.paged_attention(
            F(1, 32), F(1, 32), *CACHE, TABLE, torch.tensor([5], dtype=I32),
            torch.tensor([0, 1], dtype=I32), 1.0, -1,
        ),
    "route_experts: groups is 3, which does not divide 8 experts":
        lambda: route(groups=3),
    "route_experts: ids has 5 columns, expected 1 to 4 (experts that a token may go to)":
        lambda: route(top=5, groups=2, top_groups=1),
    "fused_experts: ids[0, 1] is 2, expected 0 to 1":
        lambda: run_experts(ids=[[0, 2]]),
    "fused_experts: ids[1, 1] is 0 again, expected distinct experts in a row":
        lambda: run_experts(ids=[[0, 1], [0, 0]]),
    "fused_experts: hidden is 0, expected 1 to":
        lambda: run_experts(hidden=0),
    "fused_experts: down has shape [2, 1, 5, 32, 1], expected [2, 1, 4, 32, 1]":
        lambda: run_experts(down=zeros(2, 1, 5, 32, 1)),
    "fused_experts: down has type 1, which is not a packed one":
        lambda: run_experts(down=zeros(2, 64, dtype=U8), down_type=1),
    "rotary_embedding: positions[1] is 10, expected 0 to 9":
        lambda: ops.rotary_embedding(torch.tensor([0, 10]), F(2, 8), F(2, 8), 8, COS, True),
    "rotary_embedding: q has shape [2, 12], its second size must be a multiple of head_dim 8":
        lambda: ops.rotary_embedding(zeros(2, dtype=I64), F(2, 12), F(2, 8), 8, COS, True),
    "rotary_embedding: positions has dtype int32, expected int64":
        lambda: ops.rotary_embedding(zeros(2, dtype=I32), F(2, 8), F(2, 8), 8, COS, True),
    "rotary_embedding: cos_sin_cache has shape [10, 8], its second size must be even and at most":
        lambda: ops.rotary_embedding(zeros(2, dtype=I64), F(2, 8), F(2, 8), 4, COS, True),
    "kv_write: slot_mapping[0] is 64, expected -1 (skip) to 63":
        lambda: ops.kv_write(F(1, 16), F(1, 16), *CACHE, torch.tensor([64])),
    "kv_write: k has shape [1, 8], expected [1, 16]":
        lambda: ops.kv_write(F(1, 8), F(1, 16), *CACHE, torch.tensor([0])),
    "kv_write: k_cache has dtype float16, expected float32 or bfloat16":
        lambda: ops.kv_write(F(1, 16), F(1, 16), *[c.half() for c in CACHE], torch.tensor([0])),
    "kv_write: v_cache has dtype bfloat16, expected float32":
        lambda: ops.kv_write(F(1, 16), F(1, 16), CACHE[0], CACHE[1].to(BF16), torch.tensor([0])),
    "kv_write: k_cache must be contiguous, but has shape [4, 2, 8, 16]":
        lambda: ops.kv_write(
            F(1, 32), F(1, 32), CACHE[0].transpose(2, 3), CACHE[1], torch.tensor([0])),
    "paged_attention: q has shape [1, 24], its second size must be a multiple of kv heads x":
        lambda: attend(q=zeros(1, 24)),
    "paged_attention: seq_lens[0] is 33, expected 1 (its query tokens) to 32":
        lambda: attend(lens=(33,)),
    "paged_attention: seq_lens[0] is 0, expected 1":
        lambda: attend(lens=(0,)),
    "paged_attention: query_start_loc ends with 2, expected the number of query tokens, 1":
        lambda: attend(starts=(0, 2)),
    "paged_attention: query_start_loc[0] is 1, expected 0":
        lambda: attend(starts=(1, 1)),
    "paged_attention: query_start_loc[1] is -1, below the entry before it, 0":
        lambda: attend(starts=(0, -1)),
    "paged_attention: query_start_loc has shape [3], expected [2]":
        lambda: attend(starts=(0, 1, 1)),
    "paged_attention: block_tables[0, 1] is 4, expected 0 to 3":
        lambda: attend(lens=(17,), tables=torch.tensor([[0, 4]], dtype=I32)),
    "paged_attention: block_tables[0, 0] is -1, expected 0 to 3":
        lambda: attend(tables=torch.tensor([[-1, 0]], dtype=I32)),
    "paged_attention: block_tables has dtype int64, expected int32":
        lambda: attend(tables=TABLE.long()),
    "linear: weight has shape [4, 8], expected [1, 8, 32, 1]":
        lambda: ops.linear(F(2, 4), F(2, 8), F(4, 8)),
    "linear: weight has shape [1, 8, 32, 1], expected [2, 8, 32, 1]":
        lambda: ops.linear(F(2, 33), F(2, 8), F(1, 8, 32, 1)),
    "linear: weight has shape [1, 8, 32, 1], expected [1, 5, 32, 2]":
        lambda: ops.linear(F(2, 4), F(2, 9), F(1, 8, 32, 1, dtype=BF16)),
    "linear: weight has dtype float64, expected float32 or bfloat16 or float16":
        lambda: ops.linear(F(2, 4), F(2, 8), F(1, 8, 32, 1, dtype=F64)),
    "linear: bias has shape [3], expected [4]":
        lambda: ops.linear(F(2, 4), F(2, 8), F(1, 8, 32, 1), F(3)),
    "linear: weight must be contiguous, but has shape [1, 8, 32, 1] and strides [256, 1, 8,":
        lambda: ops.linear(F(2, 4), F(2, 8), F(1, 32, 8, 1).transpose(1, 2)),
    "linear: out has shape [3, 4], expected [2, 4]":
        lambda: ops.linear(F(3, 4), F(2, 8), F(1, 8, 32, 1)),
    "linear: k is 0, expected 1 to":
        lambda: ops.linear(F(2, 4), F(2, 0), F(1, 0, 32, 1)),
    "linear_pack: packed has dtype float32, expected bfloat16":
        lambda: ops.linear_pack(F(1, 8, 32, 1), F(4, 8, dtype=BF16)),
    "linear_pack: packed has shape [1, 8, 32, 1], expected [any, 7, 32, 1]":
        lambda: ops.linear_pack(F(1, 8, 32, 1), F(4, 7)),
    "linear_pack: weight must be contiguous":
        lambda: ops.linear_pack(F(1, 8, 32, 1), F(8, 4).t()),
    "linear_pack: row is 30, and 4 rows from there on are not within the 32 of packed":
        lambda: ops.linear_pack(F(1, 8, 32, 1), F(4, 8), 30),
    "linear_pack: row is -1, and 4 rows from there on are not within the 32 of packed":
        lambda: ops.linear_pack(F(1, 8, 32, 1), F(4, 8), -1),
    "linear_pack: row is 9223372036854775807, and 4 rows from there on are not within":
        lambda: ops.linear_pack(F(1, 8, 32, 1), F(4, 8), 2**63 - 1),
    "fp8_linear: not implemented on the CPU; widen the weights and use linear":
        lambda: ops.fp8_linear(F(2, 4), F(2, 8), F(4, 8), F(4)),
    "quant_repack: qtype is 11, expected 2 (Q4_0), 3 (Q4_1), 6 (Q5_0)":
        lambda: ops.quant_repack(zeros(20, dtype=U8), 11, 1, 32),
    "quant_repack: k is 33, expected a multiple of 32":
        lambda: ops.quant_repack(zeros(20, dtype=U8), 3, 1, 33),
    "quant_repack: raw has 20 bytes, expected 40":
        lambda: ops.quant_repack(zeros(20, dtype=U8), 3, 2, 32),
    "quant_repack: n is 0, expected 1 to":
        lambda: ops.quant_repack(zeros(0, dtype=U8), 3, 0, 32),
    "quant_linear: packed has 320 bytes, expected 544":
        lambda: ops.quant_linear(F(1, 16), F(1, 32), PACKED, 8, 16, 32),
    "quant_linear: x has shape [1, 64], expected [any, 32]":
        lambda: ops.quant_linear(F(1, 16), F(1, 64), PACKED, 3, 16, 32),
    "quant_linear: out has shape [1, 15], expected [1, 16]":
        lambda: ops.quant_linear(F(1, 15), F(1, 32), PACKED, 3, 16, 32),
    "dequantize: out has 33 elements, expected a multiple of 32":
        lambda: ops.dequantize(F(33), zeros(20, dtype=U8), 3),
    "embedding_dequantize: ids[1] is 4, expected 0 to 3":
        lambda: ops.embedding_dequantize(F(2, 8), torch.tensor([0, 4]), F(4, 8), 0),
    "embedding_dequantize: raw has dtype float32, expected bfloat16":
        lambda: ops.embedding_dequantize(F(1, 8), torch.tensor([0]), F(4, 8), 30),
    "embedding_dequantize: qtype is 11, expected 0 (F32)":
        lambda: ops.embedding_dequantize(F(1, 8), torch.tensor([0]), F(4, 8), 11),
    "argmax: out has dtype int32, expected int64":
        lambda: ops.argmax(zeros(2, dtype=I32), F(2, 8)),
    "argmax: logits has shape [2, 0], expected at least one token per row":
        lambda: ops.argmax(zeros(2, dtype=I64), F(2, 0)),
    "apply_logit_bias: token_ids entry 0 is 8, expected 0 to 7":
        lambda: ops.apply_logit_bias(F(1, 8), torch.tensor([0]), torch.tensor([8]), F(1)),
    "apply_logit_bias: rows entry 0 is 1, expected 0 to 0":
        lambda: ops.apply_logit_bias(F(1, 8), torch.tensor([1]), torch.tensor([0]), F(1)),
    "apply_penalties: token_ids entry 0 is -1, expected 0 to 7":
        lambda: penalize(ids=(-1,)),
    "apply_penalties: row_offsets goes from 0 to 2, expected 0 to 1":
        lambda: penalize(offsets=(0, 2)),
    "apply_penalties: output_counts has dtype int64, expected int32":
        lambda: penalize(counts=zeros(1, dtype=I64)),
    "token_logprobs_and_ranks: token_ids entry 0 is 8, expected -1 to 7":
        lambda: ops.token_logprobs_and_ranks(
            F(1, 1), zeros(1, 1, dtype=I64), F(1, 8), torch.tensor([[8]])),
    "topk_logprobs: logprobs has shape [1, 9], more columns than the 8 logits of a row":
        lambda: ops.topk_logprobs(F(1, 9), zeros(1, 9, dtype=I64), F(1, 8)),
    "sample_top_k_top_p: uniform has dtype float32, expected float64":
        lambda: ops.sample_top_k_top_p(
            zeros(1, dtype=I64), F(1, 8), F(1), zeros(1, dtype=I32), F(1), F(1), F(1)),
}  # fmt: skip


@pytest.mark.parametrize("message", CASES)
def test_refused(message):
    with pytest.raises(RuntimeError, match=re.escape(message)):
        CASES[message]()
