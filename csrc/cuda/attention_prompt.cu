// SPDX-License-Identifier: Apache-2.0
//
// Owns: the launch of attention over prompts, and when it can be used. Must not know: torch.
#include "attention_prompt.cuh"

#include "attention_launch.h"

namespace vllm_kernels::cuda {
namespace {

template <int DIM, typename T>
cudaError_t launch(const AttentionTensors& tensors, const Shape& shape, std::int64_t tokens,
                   cudaStream_t stream) {
  const dim3 grid(
      static_cast<unsigned>(tokens / shape.tokens_per_block + shape.sequences),
      static_cast<unsigned>(shape.kv_heads * divide_up(shape.group, shape.heads_per_block)));
  VLLM_CUDA_LAUNCH((prompt_attention_kernel<DIM, T>), grid, dim3(kPromptWarps * 32), stream,
                   rows_of<T>(tensors.out, tensors.out_stride),
                   rows_of<const T>(tensors.q, tensors.q_stride),
                   static_cast<const T*>(tensors.k_cache), static_cast<const T*>(tensors.v_cache),
                   tensors.block_tables, tensors.seq_lens, tensors.query_start, shape);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_for_dim(const AttentionTensors& tensors, const Shape& shape,
                           std::int64_t tokens, cudaStream_t stream) {
  return shape.head_dim == 64 ? launch<64, T>(tensors, shape, tokens, stream)
                              : launch<128, T>(tensors, shape, tokens, stream);
}

// Queries are read and results written two at a time.
bool takes_pairs(const void* data, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(data) % 4 == 0 && stride % 2 == 0;
}

}  // namespace

bool takes_prompts(const AttentionTensors& tensors, const Shape& shape, int dtype,
                   int cache_dtype) {
  return dtype != kFloat32 && cache_dtype == dtype &&
         (shape.head_dim == 64 || shape.head_dim == 128) &&
         takes_pairs(tensors.q, tensors.q_stride) && takes_pairs(tensors.out, tensors.out_stride);
}

cudaError_t launch_prompts(const AttentionTensors& tensors, Shape shape, std::int64_t tokens,
                           int dtype, cudaStream_t stream) {
  shape.set_rows(kPromptRows);
  return dtype == kFloat16 ? launch_for_dim<__half>(tensors, shape, tokens, stream)
                           : launch_for_dim<__nv_bfloat16>(tensors, shape, tokens, stream);
}

}  // namespace vllm_kernels::cuda
