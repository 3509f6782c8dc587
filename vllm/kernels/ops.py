# SPDX-License-Identifier: Apache-2.0
# Ops have as many positional arguments as their schemas.
"""Typed functions over the compiled kernels; the only place that calls `torch.ops.vllm_kernels`.

Importing this module loads the libraries (see `vllm.kernels.library`).

Conventions. T is the number of tokens in a step, B of sequences or rows of logits, V the vocabulary
size. Activations are float32 on the CPU and float32, float16 or bfloat16 on CUDA. A first argument
that the text calls written is changed in place. On the CPU, a two-dimensional activation may be a
slice of a wider tensor (`qkv[:, :hidden]`): its rows may lie apart, the elements of a row may not.
Everything else is contiguous. Empty batches are fine. Wrong dtypes, shapes, strides, devices and
indices raise RuntimeError with the name of the op and the argument, what was passed and what is
accepted.

`VLLM_CPU_ISA=scalar` selects the reference kernels: activations stay float32 and every output
element is summed in one fixed order, so that results depend neither on the batch, nor on how a
prompt was cut into steps, nor on the number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vllm.kernels import library

CPU_ISA: str = library.load_cpu()
"""The instruction set of the CPU kernels: "scalar", "avx2", "avx512" or "amx"."""

HAS_CUDA: bool = library.load_cuda()
"""Whether CUDA kernels are loaded."""

GGML_F32, GGML_F16, GGML_BF16 = 0, 1, 30
GGML_Q4_0, GGML_Q4_1, GGML_Q5_0, GGML_Q5_1, GGML_Q8_0 = 2, 3, 6, 7, 8
GGML_Q4_K, GGML_Q5_K, GGML_Q6_K = 12, 13, 14
"""GGML type numbers that kernels take as `qtype`."""

QUANT_BLOCKS = {
    GGML_Q4_0: (32, 18),
    GGML_Q4_1: (32, 20),
    GGML_Q5_0: (32, 22),
    GGML_Q5_1: (32, 24),
    GGML_Q8_0: (32, 34),
    GGML_Q4_K: (256, 144),
    GGML_Q5_K: (256, 176),
    GGML_Q6_K: (256, 210),
}
"""Columns and bytes of a block of each quantized type, as in a GGUF file."""

COARSE_ROWS = 16
"""`coarse` of `quant_linear` is a multiple of this."""

_ops = torch.ops.vllm_kernels
_replay = library.cpu_replay()


def rms_norm(out: Tensor, x: Tensor, weight: Tensor, eps: float) -> None:
    """out = x / sqrt(mean(x^2) + eps) * weight over the last dimension.

    out, x: [T, H]; weight: [H]. `out` may be `x`. (Zhang and Sennrich 2019, arXiv 1910.07467.)
    """
    _ops.rms_norm(out, x, weight, eps)


def fused_add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> None:
    """residual += x, then x = rms_norm(residual); both written.

    x, residual: [T, H]; weight: [H].
    """
    _ops.fused_add_rms_norm(x, residual, weight, eps)


def rotary_embedding(
    positions: Tensor, q: Tensor, k: Tensor, head_dim: int, cos_sin_cache: Tensor, is_neox: bool
) -> None:
    """Rotates q and k, both written (Su et al. 2021, arXiv 2104.09864).

    positions: int64 [T]; q: [T, heads * head_dim]; k: [T, kv_heads * head_dim]; cos_sin_cache:
    float32 [max_position, rot_dim], cosines of rot_dim / 2 frequencies, then their sines. Elements
    beyond rot_dim in a head stay. is_neox pairs element i with i + rot_dim / 2 (Hugging Face
    checkpoints), otherwise 2 i with 2 i + 1 (GGUF of the Llama family).
    """
    _ops.rotary_embedding(positions, q, k, head_dim, cos_sin_cache, is_neox)


def silu_and_mul(out: Tensor, x: Tensor) -> None:
    """out = silu(x[:, :I]) * x[:, I:]. out: [T, I]; x: [T, 2 I]."""
    _ops.silu_and_mul(out, x)


def gelu_tanh_and_mul(out: Tensor, x: Tensor) -> None:
    """out = gelu(x[:, :I]) * x[:, I:], with gelu(x) = x (1 + tanh(u)) / 2 and
    u = sqrt(2 / pi) (x + 0.044715 x^3). out: [T, I]; x: [T, 2 I].
    (Hendrycks and Gimpel 2016, arXiv 1606.08415.)
    """
    _ops.gelu_tanh_and_mul(out, x)


def soft_cap(x: Tensor, cap: float) -> None:
    """x = cap * tanh(x / cap), written. x: [T, N]; cap above 0."""
    _ops.soft_cap(x, cap)


def scale(x: Tensor, factor: float) -> None:
    """x *= factor, written. x: [T, N]."""
    _ops.scale(x, factor)


def copy_heads(out: Tensor, x: Tensor) -> None:
    """out = x, head by head; out written. out, x: [T, heads, width], float32
    on the CPU and any activation type on CUDA.

    Rows and heads may lie at any distance, the elements of a head are adjacent; heads of out lie
    apart, those of x may be one expanded, and the memory of both is distinct. What an
    `out.copy_(x)` does, as part of a recording.
    """
    _ops.copy_heads(out, x)


def route_experts(
    ids: Tensor,
    weights: Tensor,
    logits: Tensor,
    bias: Tensor | None,
    sigmoid: bool,
    groups: int,
    top_groups: int,
    group_best: int,
    renormalize: bool,
    factor: float,
) -> None:
    """The K experts of each token and their weights, the best first; ids and weights written.

    Scores are the softmax of the logits (sigmoid: their sigmoid); `bias` float32 [E] is added for
    the choice only. Experts come in `groups` of equal size; with more than one, those outside the
    `top_groups` groups with the largest sum of their `group_best` best scores are out
    (DeepSeek-AI 2024, arXiv 2412.19437). Weights are the scores, divided by their sum over the K
    if `renormalize`, times `factor`. The lower id wins among equals.

    ids: int32 [T, K]; weights: float32 [T, K]; logits: float32 [T, E], at
    most 1,024 experts on CUDA.
    """
    _ops.route_experts(
        ids,
        weights,
        logits,
        bias,
        sigmoid,
        groups,
        top_groups,
        group_best,
        renormalize,
        factor,
    )


def fused_experts(
    out: Tensor,
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    gate_up: Tensor,
    gate_up_type: int,
    down: Tensor,
    down_type: int,
    inner: int,
    addend: Tensor | None = None,
) -> None:
    """out[t] = addend[t] + sum over j of weights[t, j] * down(silu(gate(x[t])) * up(x[t])) of
    expert ids[t, j] (Shazeer et al. 2017, arXiv 1701.06538); out written, it may be x.

    out, x, addend: [T, H]; ids: int32 [T, K], distinct within a row; weights: float32 [T, K].
    gate_up and down hold the matrices of E experts, [2 inner, H] and [H, inner]: dense, each as
    `linear` takes it, with one more dimension in front, or uint8 [E, bytes] with the result of
    `quant_repack` for each expert, whose qtype is then `gate_up_type` and `down_type`. CUDA rounds
    the results of each product to the type of x, and leaves out experts that do not exist.
    """
    _ops.fused_experts(out, x, ids, weights, gate_up, gate_up_type, down, down_type, inner, addend)


def kv_write(k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor) -> None:
    """Writes keys and values of this step into the paged cache, both caches written.

    k, v: [T, kv_heads * head_dim]; caches: [blocks, kv_heads, block_size, head_dim], float32 or
    bfloat16 (CUDA also float16), bfloat16 rounded to nearest even; slot_mapping: int64 [T],
    block * block_size + offset, -1 to skip a token.
    """
    _ops.kv_write(k, v, k_cache, v_cache, slot_mapping)


def paged_attention(
    out: Tensor,
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    block_tables: Tensor,
    seq_lens: Tensor,
    query_start_loc: Tensor,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
) -> None:
    """Causal attention of this step's tokens over the paged cache, prefill and decode mixed.

    out, q: [T, heads * head_dim]; caches: [blocks, kv_heads, block_size, head_dim], with this
    step's keys and values written already; block_tables: int32 [B, max_blocks]; seq_lens: int32
    [B], context with this step's tokens; query_start_loc: int32 [B + 1], rows of q of each
    sequence; they are the last of its context. heads is a multiple of kv_heads; query head h reads
    KV head h // (heads / kv_heads). A sequence without query tokens is skipped. A token sees the
    last `window` tokens, itself included, or all before it (0). With a soft cap above 0 a score s
    becomes soft_cap * tanh(s / soft_cap). In 16-bit types CUDA may round the weights of the values
    where a sequence has 16 tokens or more in this step.
    """
    _ops.paged_attention(
        out,
        q,
        k_cache,
        v_cache,
        block_tables,
        seq_lens,
        query_start_loc,
        scale,
        window,
        soft_cap,
    )


def cuda_takes_heads(head_dim: int) -> bool:
    """Whether `paged_attention` on CUDA takes heads of so many elements: multiples of 8 up to 256
    and of 24 up to 768.
    """
    return head_dim % 8 == 0 if head_dim <= 256 else head_dim % 24 == 0 and head_dim <= 768


TILE_ROWS = 32
"""Rows of a dense weight that the CPU kernels keep side by side."""


def tiled_shape(dtype: torch.dtype, n: int, k: int) -> tuple[int, int, int, int]:
    """Of a dense weight [n, k] as `linear` reads it on the CPU: tiles, columns (in bfloat16 pairs
    of columns), the rows of a tile, 1 or 2 elements. Both divisions are rounded up.
    """
    columns = 2 if dtype is torch.bfloat16 else 1
    return -(-n // TILE_ROWS), -(-k // columns), TILE_ROWS, columns


def linear_pack(packed: Tensor, weight: Tensor, row: int = 0) -> None:
    """Writes `weight` into the rows from `row` on of a matrix that `linear` reads; CPU only.

    packed: `tiled_shape` of the whole matrix, zero where no rows are written; weight: [N, K] of the
    same dtype, float32, bfloat16 or float16.
    """
    _ops.linear_pack(packed, weight, row)


def linear(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    """out = x @ weight.T + bias. out: [T, N]; x: [T, K]; bias: float32 [N].

    On the CPU weight is float32, bfloat16 or float16, filled by `linear_pack`; on CUDA [N, K] of
    the type of x. With weights in bfloat16 the AVX-512 kernels round x to bfloat16 first, and take
    numbers below 1.2e-38 for zero; sums are in float32. A row's result does not depend on the
    others. The CUDA kernel is made for few rows.
    """
    _ops.linear(out, x, weight, bias)


def fp8_linear(
    out: Tensor, x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None = None
) -> None:
    """out = x @ (weight * scales[:, None]).T + bias, activations as they are; CUDA only.

    out: [T, N]; x: [T, K]; weight: float8_e4m3fn [N, K] without NaN (which counts as 480); scales:
    float32 [N], or [1] for all rows; bias: float32 [N]. A row's result does not depend on the
    others.
    """
    _ops.fp8_linear(out, x, weight, scales, bias)


def quant_repack(raw: Tensor, qtype: int, n: int, k: int) -> Tensor:
    """GGUF blocks of an [n, k] matrix in the layout that `quant_linear` reads.

    raw: uint8, the blocks in row order, as in the file. Returns uint8 [bytes]. Matrices that share
    their input can be one call of `quant_linear`: concatenate their raw rows first. 16 rows take,
    per 32 columns, 320 bytes as Q4_0 and Q4_1, 384 as Q5_0 and Q5_1, 544 as Q8_0, 296 as Q4_K, 360
    as Q5_K and 424 as Q6_K; n is rounded up to 16 rows. CPU only: CUDA reads the same layout, so
    copy the result to the device.
    """
    return _ops.quant_repack(raw, qtype, n, k)


def quant_linear(
    out: Tensor,
    x: Tensor,
    packed: Tensor,
    qtype: int,
    n: int,
    k: int,
    bias: Tensor | None = None,
    coarse: int = 0,
) -> None:
    """out = x @ dequantized(packed).T + bias.

    out: [T, n]; x: [T, k]; packed: from `quant_repack`; bias: float32 [n].

    The vector kernels round x to 8-bit digits per block of 32 columns first: two each (error at
    most 1.5 * max|x| / 127 / 256 per element of a block), for weights of 4 bits three for every two
    columns (0.5 * max|x| / 119 / 16), and for the first `coarse` columns of `out`, a multiple of 16
    or n, one each (0.5 * max|x| / 127), which takes least time where arithmetic is the limit. Q6_K
    always gets two. The scalar and the CUDA kernels don't round, and ignore `coarse`.
    """
    _ops.quant_linear(out, x, packed, qtype, n, k, bias, coarse)


def quant_unpack(out: Tensor, packed: Tensor, qtype: int) -> None:
    """What a repacked matrix stands for, rounded to out's dtype; CUDA only.

    out: any activation type [n, k], contiguous; packed: from `quant_repack`, or the part of it that
    belongs to n rows of the matrix from a multiple of 16 on.
    """
    _ops.quant_unpack(out, packed, qtype)


def dequantize(out: Tensor, raw: Tensor, qtype: int) -> None:
    """Widens GGUF blocks. out: float32 (CUDA: any activation type), any shape; raw: uint8, its
    blocks in order."""
    _ops.dequantize(out, raw, qtype)


def embedding_dequantize(out: Tensor, ids: Tensor, raw: Tensor, qtype: int) -> None:
    """out[t] = row ids[t] of a table. out: float32 (CUDA: any activation type) [T, H]; ids: int64
    [T], on CUDA NaN for an id outside of the table.

    raw: uint8 [V, bytes of a row] for quantized types; float32, float16 or bfloat16 [V, H] for F32,
    F16 and BF16.
    """
    _ops.embedding_dequantize(out, ids, raw, qtype)


def argmax(out: Tensor, logits: Tensor) -> None:
    """out[b] = index of the largest logit, the lowest of several. NaN never wins.

    out: int64 [B]; logits: float32 [B, V].
    """
    _ops.argmax(out, logits)


def fill_decode_inputs(
    token_ids: Tensor,
    positions: Tensor,
    slots: Tensor,
    seq_lens: Tensor,
    starts: Tensor,
    block_tables: Tensor,
    num_computed: Tensor,
    rows: Tensor,
    row_tokens: Tensor,
    row_blocks: Tensor,
    block_size: int,
) -> None:
    """The inputs of a decode step from what is kept of each request by row. On the CPU only.

    Request i's token is at position num_computed[i] of row rows[i]; num_computed is counted up.
    Where rows[i] is below 0 it is nobody's: token and position 0, slot -1, one token long. Tables
    are written as far as they are read.

    token_ids, positions, slots, num_computed, rows: int64 [B]; seq_lens: int32 [B]; starts: int32
    [B + 1]; block_tables: int32 [B, blocks]; row_tokens: int32 [R, width]; row_blocks: int32
    [R, blocks].
    """
    _ops.fill_decode_inputs(
        token_ids, positions, slots, seq_lens, starts, block_tables, num_computed, rows, row_tokens,
        row_blocks, block_size,
    )  # fmt: skip


def append_tokens(row_tokens: Tensor, rows: Tensor, positions: Tensor, token_ids: Tensor) -> None:
    """row_tokens[rows[i], positions[i]] = token_ids[i], unless rows[i] is below 0. On the CPU only.

    row_tokens: int32 [R, width]; rows, token_ids: int64 [B]; positions: int32 [B].
    """
    _ops.append_tokens(row_tokens, rows, positions, token_ids)


def choose_greedy(out: Tensor, suspect: Tensor, hidden: Tensor, logits: Tensor) -> None:
    """`argmax`, and suspect[0] = 1 where a hidden state or a logit may be NaN, else 0.

    Logits are looked at in the first row alone: a NaN that does not come from the row's own hidden
    state comes from a weight of the head and is in the same column of every row. An infinite sum of
    hidden states is suspected, too. out: int64 [B]; suspect: int64 [1]; hidden: [B, H];
    logits: float32 [B, V]. Can be recorded.
    """
    _ops.choose_greedy(out, suspect, hidden, logits)


def apply_logit_bias(logits: Tensor, rows: Tensor, token_ids: Tensor, bias: Tensor) -> None:
    """logits[rows[i], token_ids[i]] += bias[i]; logits written. -inf forbids a token.

    logits: float32 [B, V]; rows, token_ids: int64 [N]; bias: float32 [N].
    """
    _ops.apply_logit_bias(logits, rows, token_ids, bias)


def apply_penalties(
    logits: Tensor,
    token_ids: Tensor,
    output_counts: Tensor,
    in_prompt: Tensor,
    row_offsets: Tensor,
    repetition: Tensor,
    frequency: Tensor,
    presence: Tensor,
) -> None:
    """Penalizes tokens of the prompt and the output; logits written.

    Entries row_offsets[b] .. row_offsets[b + 1] are the distinct tokens of row b. A token of the
    prompt or the output has its logit divided by `repetition` if positive, else multiplied by it
    (Keskar et al. 2019, arXiv 1909.05858); one that was output `count` > 0 times then loses
    frequency * count + presence (OpenAI API reference).

    logits: float32 [B, V]; token_ids: int64 [N]; output_counts: int32 [N]; in_prompt: bool [N];
    row_offsets: int64 [B + 1]; repetition, frequency, presence: float32 [B] (1, 0, 0: off).
    """
    _ops.apply_penalties(
        logits, token_ids, output_counts, in_prompt, row_offsets, repetition, frequency, presence
    )


def token_logprobs_and_ranks(
    logprobs: Tensor, ranks: Tensor, logits: Tensor, token_ids: Tensor
) -> None:
    """log softmax of given tokens and their ranks; logprobs and ranks written.

    The rank is 1 + the number of larger logits; a token id of -1 or a NaN logit gives NaN and
    rank 0. logprobs: float32 [B, J]; ranks: int64 [B, J]; logits: float32 [B, V]; token_ids: int64
    [B, J].
    """
    _ops.token_logprobs_and_ranks(logprobs, ranks, logits, token_ids)


def topk_logprobs(logprobs: Tensor, token_ids: Tensor, logits: Tensor) -> None:
    """log softmax of the K likeliest tokens in descending order; logprobs and token_ids written.

    Among equal logits the lower id comes first. logprobs: float32 [B, K]; token_ids: int64 [B, K];
    logits: float32 [B, V], K <= V.
    """
    _ops.topk_logprobs(logprobs, token_ids, logits)


def sample_top_k_top_p(
    out: Tensor,
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    uniform: Tensor,
) -> None:
    """out[b] = a token drawn from row b with the random number uniform[b].

    In this order: softmax of logits / temperature; drop tokens below min_p times the likeliest;
    keep the top_k likeliest; keep the smallest set of likeliest whose share reaches top_p;
    renormalize; take the first token in ascending id order at which the cumulative probability
    exceeds uniform[b]. A temperature below 1e-5 takes the argmax. Rows do not influence each other.

    out: int64 [B]; logits: float32 [B, V], not written; temperature, top_p (1: off), min_p
    (0: off): float32 [B]; top_k: int32 [B] (0 or -1: off); uniform: float64 [B] in [0, 1).
    """
    _ops.sample_top_k_top_p(out, logits, temperature, top_k, top_p, min_p, uniform)


def set_num_threads(n: int) -> None:
    """Number of CPU threads that work on one op, the calling one included; 1 to 1024."""
    _ops.set_num_threads(n)


def get_num_threads() -> int:
    """Number of CPU threads that work on one op: at first the CPUs this process may run on."""
    return _ops.get_num_threads()


def begin_recording() -> None:
    """From now on, CPU ops of this thread run and are recorded; see `vllm.kernels.recording`."""
    _ops.begin_recording()


def end_recording() -> int:
    """The number of the recording that ends here."""
    return _ops.end_recording()


def replay(recording: int) -> None:
    """Make the calls of a recording again, in order. Raises RuntimeError as they do."""
    why = _replay(recording)
    if why is not None:
        raise RuntimeError(why.decode())


def drop_recording(recording: int) -> None:
    """Forget a recording; an unknown number is fine."""
    _ops.drop_recording(recording)
