// SPDX-License-Identifier: Apache-2.0
//
// Owns: writing new keys and values into the paged cache. Must not know: which request a slot
// belongs to, torch.
//
// Grid: one block per token. Block: 128 threads over kv_heads * head_dim elements of k and v.
#include "dispatch.cuh"

namespace vllm_kernels::cuda {
namespace {

struct CacheShape {
  std::int64_t slots;  // num_blocks * block_size
  int kv_heads;
  int block_size;
  int head_dim;
};

// k, v: [tokens, kv_heads * head_dim], rows a stride apart; caches: [num_blocks, kv_heads,
// block_size, head_dim] contiguous; slots: [tokens], block * block_size + offset. A negative slot
// is padding; one beyond the cache is skipped too, since writing there would destroy memory.
template <typename T, typename C>
__global__ void kv_write_kernel(Rows<const T> k, Rows<const T> v, C* k_cache, C* v_cache,
                                const std::int64_t* slot_mapping, CacheShape cache) {
  const std::int64_t token = blockIdx.x;
  const std::int64_t slot = slot_mapping[token];
  if (slot < 0 || slot >= cache.slots) return;
  const std::int64_t block = slot / cache.block_size;
  const std::int64_t offset = slot % cache.block_size;
  for (int i = threadIdx.x; i < cache.kv_heads * cache.head_dim; i += blockDim.x) {
    const std::int64_t head = i / cache.head_dim;
    const std::int64_t row = (block * cache.kv_heads + head) * cache.block_size + offset;
    const std::int64_t target = row * cache.head_dim + i % cache.head_dim;
    k_cache[target] = from_float<C>(to_float(k.row(token)[i]));
    v_cache[target] = from_float<C>(to_float(v.row(token)[i]));
  }
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_kv_write(const void* k, const void* v, std::int64_t tokens,
                                          std::int64_t k_stride, std::int64_t v_stride,
                                          void* k_cache, void* v_cache,
                                          const std::int64_t* slot_mapping,
                                          std::int64_t num_blocks, int kv_heads, int block_size,
                                          int head_dim, int dtype, int cache_dtype,
                                          cudaStream_t stream) {
  if (tokens == 0) return cudaSuccess;
  const CacheShape shape{num_blocks * block_size, kv_heads, block_size, head_dim};
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return with_type(cache_dtype, [&](auto cache_type) {
      using C = typename decltype(cache_type)::type;
      VLLM_CUDA_LAUNCH((kv_write_kernel<T, C>), dim3(static_cast<unsigned>(tokens)), dim3(128),
                       stream, rows_of<const T>(k, k_stride), rows_of<const T>(v, v_stride),
                       static_cast<C*>(k_cache), static_cast<C*>(v_cache), slot_mapping, shape);
      return cudaGetLastError();
    });
  });
}
