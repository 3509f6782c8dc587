// SPDX-License-Identifier: Apache-2.0
//
// Owns: what both kernels of paged attention take. Must not know: either.
#pragma once

#include <cuda_runtime_api.h>

#include "attention_tiles.cuh"

namespace vllm_kernels::cuda {

// See vllm_cuda_paged_attention.
struct AttentionTensors {
  void* out;
  const void* q;
  const void* k_cache;
  const void* v_cache;
  const int* block_tables;
  const int* seq_lens;
  const int* query_start;
  std::int64_t out_stride;
  std::int64_t q_stride;
  float* states;
};

// Sequences with at least so many tokens in a step go through the tensor cores, where those take them:
// a quarter of a tile of 64 rows for a group of one head.
constexpr int kPromptTokens = 16;

bool takes_prompts(const AttentionTensors& tensors, const Shape& shape, int dtype, int cache_dtype);

// The sequences with shape.min_queries ... shape.max_queries tokens.
cudaError_t launch_prompts(const AttentionTensors& tensors, Shape shape, std::int64_t tokens,
                           int dtype, cudaStream_t stream);

}  // namespace vllm_kernels::cuda
