// SPDX-License-Identifier: Apache-2.0
//
// Owns: element types of the CUDA kernels, their conversion to and from float, and vector
// loads and stores. Must not know: any operation, torch.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace vllm_kernels::cuda {

__host__ __device__ inline float to_float(float x) { return x; }
__host__ __device__ inline float to_float(__half x) { return __half2float(x); }
__host__ __device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounds to nearest, ties to even.
template <typename T>
__host__ __device__ T from_float(float x);
template <>
__host__ __device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__host__ __device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__host__ __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// N neighbouring elements as one aligned piece, at most 16 bytes per memory instruction (the
// widest load a thread can issue; larger pieces become several such loads).
template <typename T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vec {
  T item[N];
};

// src: N elements, aligned to min(16, N * sizeof(T)) bytes.
template <int N, typename T>
__device__ inline void load_floats(const T* src, float (&dst)[N]) {
  const Vec<T, N> packed = *reinterpret_cast<const Vec<T, N>*>(src);
#pragma unroll
  for (int i = 0; i < N; ++i) dst[i] = to_float(packed.item[i]);
}

// dst: N elements, aligned to min(16, N * sizeof(T)) bytes.
template <int N, typename T>
__device__ inline void store_floats(T* dst, const float (&src)[N]) {
  Vec<T, N> packed;
#pragma unroll
  for (int i = 0; i < N; ++i) packed.item[i] = from_float<T>(src[i]);
  *reinterpret_cast<Vec<T, N>*>(dst) = packed;
}

}  // namespace vllm_kernels::cuda
