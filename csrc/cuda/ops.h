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

// Paged attention: head_dim is a multiple of 8 up to kMaxHeadDim (8 dims per lane of a warp), or of 24 up
// to kMaxWideHeadDim.
constexpr int kMaxHeadDim = 256;
constexpr int kMaxWideHeadDim = 768;

constexpr bool takes_head_dim(std::int64_t head_dim) {
  if (head_dim <= kMaxHeadDim) return head_dim % 8 == 0;
  return head_dim % 24 == 0 && head_dim <= kMaxWideHeadDim;
}

// Mixture of experts: experts of a layer (24 KiB of scores).
constexpr int kMaxExperts = 1024;

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

// out: [rows, width] = gelu(x[:, :width]) * x[:, width:], gelu by tanh.
cudaError_t vllm_cuda_gelu_tanh_and_mul(void* out, std::int64_t out_stride, const void* x,
                                        std::int64_t x_stride, std::int64_t rows,
                                        std::int64_t width, int dtype, cudaStream_t stream);

// x: [rows, width], written: cap * tanh(x / cap), and x * factor.
cudaError_t vllm_cuda_soft_cap(void* x, std::int64_t stride, std::int64_t rows, std::int64_t width,
                               float cap, int dtype, cudaStream_t stream);
cudaError_t vllm_cuda_scale(void* x, std::int64_t stride, std::int64_t rows, std::int64_t width,
                            float factor, int dtype, cudaStream_t stream);

// out = x: [rows, heads, width], rows and heads at any distance.
cudaError_t vllm_cuda_copy_heads(void* out, std::int64_t out_row, std::int64_t out_head,
                                 const void* x, std::int64_t x_row, std::int64_t x_head,
                                 std::int64_t rows, int heads, int width, int dtype,
                                 cudaStream_t stream);

// The quantized matrices. qtype: a GGML type number (include/formats.h).

// out: [rows, n] = x w^T + bias; x: [rows, k]; packed: w [n, k] as quant_repack lays it out, 16-byte
// aligned; bias: [n] or null.
cudaError_t vllm_cuda_quant_linear(void* out, std::int64_t out_stride, const void* x,
                                   std::int64_t x_stride, const void* packed, int qtype,
                                   const float* bias, int rows, int n, int k, int dtype,
                                   cudaStream_t stream);

// out: [n, k], 16-byte aligned: what quant_linear's `packed` stands for.
cudaError_t vllm_cuda_quant_unpack(void* out, const void* packed, int qtype, int n, int k, int dtype,
                                   cudaStream_t stream);

// out: [rows, n] = x weight^T + bias; x: [rows, k]; weight: [n, k] of the same type; bias: [n] or null.
cudaError_t vllm_cuda_linear(void* out, std::int64_t out_stride, const void* x,
                             std::int64_t x_stride, const void* weight, const float* bias,
                             int rows, int n, int k, int dtype, cudaStream_t stream);

// The same with weights in FP8 (e4m3); scales: [scale_count], one for each row or one for all.
cudaError_t vllm_cuda_fp8_linear(void* out, std::int64_t out_stride, const void* x,
                                 std::int64_t x_stride, const void* weight, const float* scales,
                                 int scale_count, const float* bias, int rows, int n, int k,
                                 int dtype, cudaStream_t stream);

// out: [count], from blocks as in a GGUF file.
cudaError_t vllm_cuda_dequantize(void* out, const void* raw, int qtype, std::int64_t count,
                                 int dtype, cudaStream_t stream);

// out: [tokens, hidden], rows `ids` of a table [vocab, hidden] of such blocks, or of a dense one; NaN
// for an id outside of it.
cudaError_t vllm_cuda_embedding_dequantize(void* out, std::int64_t out_stride,
                                           const std::int64_t* ids, std::int64_t tokens,
                                           const void* raw, int qtype, std::int64_t vocab,
                                           int hidden, int dtype, cudaStream_t stream);
cudaError_t vllm_cuda_embedding(void* out, std::int64_t out_stride, const std::int64_t* ids,
                                std::int64_t tokens, const void* table, int table_dtype,
                                std::int64_t vocab, int hidden, int dtype, cudaStream_t stream);

// k, v: [tokens, kv_heads * head_dim]; caches: [num_blocks, kv_heads, block_size, head_dim],
// contiguous; slot_mapping: [tokens], negative = skip.
cudaError_t vllm_cuda_kv_write(const void* k, const void* v, std::int64_t tokens,
                               std::int64_t k_stride, std::int64_t v_stride, void* k_cache,
                               void* v_cache, const std::int64_t* slot_mapping,
                               std::int64_t num_blocks, int kv_heads, int block_size, int head_dim,
                               int dtype, int cache_dtype, cudaStream_t stream);

// Float32 numbers that paged attention needs as scratch memory for a step of these shapes.
std::int64_t vllm_cuda_attention_scratch(std::int64_t tokens, int sequences,
                                         std::int64_t max_blocks, int q_heads, int kv_heads,
                                         int block_size, int head_dim);

// q, out: [tokens, q_heads * head_dim]; caches as above, 16-byte aligned, of type dtype (any type
// for float32 activations); block_tables: [sequences, max_blocks]; seq_lens: [sequences], keys of
// each sequence, this step's tokens included; query_start: [sequences + 1]. window: keys that a token
// sees, 0 for all; soft_cap: 0 for none.
cudaError_t vllm_cuda_paged_attention(
    void* out, std::int64_t out_stride, const void* q, std::int64_t q_stride, const void* k_cache,
    const void* v_cache, const std::int32_t* block_tables, const std::int32_t* seq_lens,
    const std::int32_t* query_start, float* scratch, std::int64_t tokens, int sequences,
    std::int64_t max_blocks, int q_heads, int kv_heads, int block_size, int head_dim, float scale,
    int window, float soft_cap, int dtype, int cache_dtype, cudaStream_t stream);

// ids, weights: [rows, top]; logits: [rows, experts], experts <= kMaxExperts; bias: [experts] or null.
cudaError_t vllm_cuda_route_experts(std::int32_t* ids, float* weights, const float* logits,
                                    std::int64_t logits_stride, const float* bias, bool sigmoid,
                                    std::int64_t rows, int experts, int top, int groups,
                                    int top_groups, int group_best, bool renormalize, float factor,
                                    cudaStream_t stream);

// One matrix of every expert, `stride` bytes apart: packed as quant_linear reads them, in format qtype,
// or dense (0), of the activations' type.
struct VllmCudaExperts {
  const void* data;
  std::int64_t stride;
  int qtype;
};

// Bytes that fused_experts needs as scratch memory.
std::int64_t vllm_cuda_experts_scratch(std::int64_t rows, int top, int experts, int hidden,
                                       int inner, int dtype);

// out, x, addend (or null): [rows, hidden]; ids, weights: [rows, top], an expert that does not exist
// being left out; gate_up: [2 * inner, hidden] each; down: [hidden, inner] each; experts <= kMaxExperts.
cudaError_t vllm_cuda_fused_experts(
    void* out, std::int64_t out_stride, const void* x, std::int64_t x_stride,
    const void* addend, std::int64_t addend_stride, const std::int32_t* ids, const float* weights,
    const VllmCudaExperts* gate_up, const VllmCudaExperts* down, void* scratch, std::int64_t rows,
    int top, int experts, int hidden, int inner, int dtype, cudaStream_t stream);

// The functions on logits. logits: [rows, vocab] float32. What the values mean, and that the lower
// id comes first among equal logits, is as documented in vllm/kernels/ops.py.

// out: [rows].
cudaError_t vllm_cuda_argmax(std::int64_t* out, const float* logits, std::int64_t logits_stride,
                             std::int64_t rows, int vocab, cudaStream_t stream);

// The same, and *suspect = 1 where the hidden states [rows, hidden_size] or the first row of logits may
// hold a NaN, else 0.
cudaError_t vllm_cuda_choose_greedy(std::int64_t* out, std::int64_t* suspect, const void* hidden,
                                    std::int64_t hidden_stride, int hidden_size, int hidden_dtype,
                                    const float* logits, std::int64_t logits_stride,
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
