// SPDX-License-Identifier: Apache-2.0
//
// Owns: the C interface of the CUDA kernels: raw device pointers, sizes in elements, a stream.
// Must not know: torch. Each function launches on `stream` and returns without waiting; what it
// returns is the launch's error, cudaErrorInvalidValue for a combination of types that was not
// compiled. Arguments are taken as checked: the bindings do that.
//
// dtype numbers are those of vllm_kernels::DType (include/formats.h). Matrices have contiguous
// rows, `*_stride` elements apart.
#pragma once

#include <driver_types.h>

#include <cstdint>

namespace vllm_kernels::cuda {

constexpr int kFloat32 = 0;
constexpr int kFloat16 = 1;
constexpr int kBFloat16 = 2;

// Paged attention: head_dim is a multiple of 8 up to this (8 dims per lane of a warp).
constexpr int kMaxHeadDim = 256;

// Sampling: tokens of a vocabulary (2^44 * 2^19 fits the 64-bit sums of sample.cu).
constexpr int kMaxVocab = 1 << 19;

}  // namespace vllm_kernels::cuda

extern "C" {

// out, x: [rows, hidden]; weight: [hidden], of type dtype or float32.
cudaError_t vllm_cuda_rms_norm(void* out, std::int64_t out_stride, const void* x,
                               std::int64_t x_stride, const void* weight, std::int64_t rows,
                               int hidden, float eps, int dtype, int weight_dtype,
                               cudaStream_t stream);

// residual += x; x = rms_norm(residual) * weight. Shapes as above.
cudaError_t vllm_cuda_fused_add_rms_norm(void* x, std::int64_t x_stride, void* residual,
                                         std::int64_t residual_stride, const void* weight,
                                         std::int64_t rows, int hidden, float eps, int dtype,
                                         int weight_dtype, cudaStream_t stream);

// positions: [tokens]; q: [tokens, q_heads * head_dim]; k: [tokens, k_heads * head_dim];
// cos_sin: [max_position, rot_dim], cosines then sines; rot_dim even and <= head_dim. Rotates the
// first rot_dim elements of each head: pairs (i, i + rot_dim / 2) if is_neox, else (2i, 2i + 1).
cudaError_t vllm_cuda_rotary_embedding(const std::int64_t* positions, void* q, void* k,
                                       std::int64_t tokens, std::int64_t q_stride,
                                       std::int64_t k_stride, int q_heads, int k_heads,
                                       int head_dim, int rot_dim, const float* cos_sin,
                                       std::int64_t max_position, bool is_neox, int dtype,
                                       cudaStream_t stream);

// out: [rows, width] = silu(x[:, :width]) * x[:, width:].
cudaError_t vllm_cuda_silu_and_mul(void* out, std::int64_t out_stride, const void* x,
                                   std::int64_t x_stride, std::int64_t rows, std::int64_t width,
                                   int dtype, cudaStream_t stream);

// k, v: [tokens, kv_heads * head_dim]; caches: [num_blocks, kv_heads, block_size, head_dim],
// contiguous; slot_mapping: [tokens], negative = skip.
cudaError_t vllm_cuda_kv_write(const void* k, const void* v, std::int64_t tokens,
                               std::int64_t k_stride, std::int64_t v_stride, void* k_cache,
                               void* v_cache, const std::int64_t* slot_mapping,
                               std::int64_t num_blocks, int kv_heads, int block_size, int head_dim,
                               int dtype, int cache_dtype, cudaStream_t stream);

// q, out: [tokens, q_heads * head_dim]; caches as above, 16-byte aligned, of type dtype (any type
// for float32 activations); block_tables: [sequences, max_blocks]; seq_lens: [sequences], keys of
// each sequence, this step's tokens included; query_start: [sequences + 1].
cudaError_t vllm_cuda_paged_attention(
    void* out, std::int64_t out_stride, const void* q, std::int64_t q_stride, const void* k_cache,
    const void* v_cache, const std::int32_t* block_tables, const std::int32_t* seq_lens,
    const std::int32_t* query_start, std::int64_t tokens, int sequences, std::int64_t max_blocks,
    int q_heads, int kv_heads, int block_size, int head_dim, float scale, int dtype,
    int cache_dtype, cudaStream_t stream);

// The functions on logits. logits: [rows, vocab] float32. What the values mean, and that the lower
// id comes first among equal logits, is as documented in vllm/kernels/ops.py.

// out: [rows].
cudaError_t vllm_cuda_argmax(std::int64_t* out, const float* logits, std::int64_t logits_stride,
                             std::int64_t rows, int vocab, cudaStream_t stream);

// logprobs, ranks, token_ids: [rows, per_row]; an id outside the vocabulary gives NaN and rank 0.
cudaError_t vllm_cuda_token_logprobs(float* logprobs, std::int64_t* ranks, const float* logits,
                                     std::int64_t logits_stride, const std::int64_t* token_ids,
                                     std::int64_t rows, std::int64_t per_row, int vocab,
                                     cudaStream_t stream);

// logprobs, token_ids: [rows, k], k <= vocab, descending.
cudaError_t vllm_cuda_topk_logprobs(float* logprobs, std::int64_t* token_ids, const float* logits,
                                    std::int64_t logits_stride, std::int64_t rows, std::int64_t k,
                                    int vocab, cudaStream_t stream);

// row_ids, token_ids, bias: [entries]. logits[row_ids[i], token_ids[i]] += bias[i].
cudaError_t vllm_cuda_apply_logit_bias(float* logits, std::int64_t logits_stride,
                                       const std::int64_t* row_ids, const std::int64_t* token_ids,
                                       const float* bias, std::int64_t entries, std::int64_t rows,
                                       std::int64_t vocab, cudaStream_t stream);

// token_ids, output_counts, in_prompt: [entries], the entries row_offsets[r] to row_offsets[r + 1]
// (distinct ids) belonging to row r; repetition, frequency, presence: [rows].
cudaError_t vllm_cuda_apply_penalties(float* logits, std::int64_t logits_stride,
                                      const std::int64_t* token_ids,
                                      const std::int32_t* output_counts, const bool* in_prompt,
                                      const std::int64_t* row_offsets, const float* repetition,
                                      const float* frequency, const float* presence,
                                      std::int64_t rows, std::int64_t vocab, cudaStream_t stream);

// out, temperature, top_k, top_p, min_p, uniform: [rows]; vocab <= kMaxVocab.
cudaError_t vllm_cuda_sample(std::int64_t* out, const float* logits, std::int64_t logits_stride,
                             const float* temperature, const std::int32_t* top_k,
                             const float* top_p, const float* min_p, const double* uniform,
                             std::int64_t rows, int vocab, cudaStream_t stream);

}  // extern "C"
