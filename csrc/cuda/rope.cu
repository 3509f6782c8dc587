// SPDX-License-Identifier: Apache-2.0
//
// Owns: rotary position embedding (Su et al., 2021, arXiv:2104.09864) in place on queries and
// keys. Must not know: how the angles were made (scaling lives in the cache), torch.
//
// Grid: one block per token. Block: 128 threads over (heads of q, then of k) x rot_dim/2 pairs.
#include "dispatch.cuh"

namespace vllm_kernels::cuda {
namespace {

// angles: cos [half] then sin [half]; not `valid` writes NaN (see the kernel).
template <typename T>
__device__ void rotate_pair(T* head, int pair, int half, bool is_neox, const float* angles,
                            bool valid) {
  const int first = is_neox ? pair : 2 * pair;
  const int second = is_neox ? pair + half : 2 * pair + 1;
  const float nan = __int_as_float(0x7fffffff);
  const float cosine = valid ? angles[pair] : nan;
  const float sine = valid ? angles[half + pair] : nan;
  const float a = to_float(head[first]);
  const float b = to_float(head[second]);
  head[first] = from_float<T>(a * cosine - b * sine);
  head[second] = from_float<T>(b * cosine + a * sine);
}

// positions: [tokens]; q: [tokens, q_heads * head_dim], k alike, rows a stride apart;
// cos_sin: [max_position, 2 * half]. A position outside the cache makes that token NaN: a kernel
// can't raise, and NaN is found where silently unrotated keys are not.
template <typename T>
__global__ void rope_kernel(const std::int64_t* positions, Rows<T> q, Rows<T> k, int q_heads,
                            int k_heads, int head_dim, int half, const float* cos_sin,
                            std::int64_t max_position, bool is_neox) {
  const std::int64_t token = blockIdx.x;
  const std::int64_t position = positions[token];
  const bool valid = position >= 0 && position < max_position;
  const float* angles = cos_sin + (valid ? position * 2 * half : 0);
  const int q_pairs = q_heads * half;
  const int all_pairs = q_pairs + k_heads * half;
  for (int i = threadIdx.x; i < all_pairs; i += blockDim.x) {
    const bool is_query = i < q_pairs;
    const int local = is_query ? i : i - q_pairs;
    T* row = is_query ? q.row(token) : k.row(token);
    rotate_pair(row + (local / half) * head_dim, local % half, half, is_neox, angles, valid);
  }
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_rotary_embedding(
    const std::int64_t* positions, void* q, void* k, std::int64_t tokens, std::int64_t q_stride,
    std::int64_t k_stride, int q_heads, int k_heads, int head_dim, int rot_dim,
    const float* cos_sin, std::int64_t max_position, bool is_neox, int dtype,
    cudaStream_t stream) {
  if (tokens == 0) return cudaSuccess;
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    VLLM_CUDA_LAUNCH(rope_kernel<T>, dim3(static_cast<unsigned>(tokens)), dim3(128), stream,
                     positions, rows_of<T>(q, q_stride), rows_of<T>(k, k_stride), q_heads, k_heads,
                     head_dim, rot_dim / 2, cos_sin, max_position, is_neox);
    return cudaGetLastError();
  });
}
