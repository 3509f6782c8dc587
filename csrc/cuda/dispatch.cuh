// SPDX-License-Identifier: Apache-2.0
//
// Owns: the way from run-time values (element type, alignment) to a template instance, and
// how a kernel is launched. Must not know: any operation, torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "ops.h"
#include "types.cuh"

// The host emulation of the tests (tests/kernels/cuda/emulation) defines its own launch.
#ifndef VLLM_CUDA_LAUNCH
#define VLLM_CUDA_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<(grid), (block), 0, (stream)>>>(__VA_ARGS__)
#endif

namespace vllm_kernels::cuda {

template <typename T>
struct Type {
  using type = T;
};

// Calls `body` with Type<float>, Type<__half> or Type<__nv_bfloat16>.
template <typename Body>
cudaError_t with_type(int dtype, Body body) {
  switch (dtype) {
    case kFloat32:
      return body(Type<float>{});
    case kFloat16:
      return body(Type<__half>{});
    case kBFloat16:
      return body(Type<__nv_bfloat16>{});
    default:
      return cudaErrorInvalidValue;
  }
}

inline bool is_aligned16(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

// A matrix whose rows are `stride` elements apart.
template <typename T>
struct Rows {
  T* data;
  std::int64_t stride;
  __host__ __device__ T* row(std::int64_t i) const { return data + i * stride; }
};

template <typename T, typename Pointer>
Rows<T> rows_of(Pointer data, std::int64_t stride) {
  return {static_cast<T*>(data), stride};
}

// Elements a thread moves at once: 16 bytes of a 16-bit type, two times 16 of float32.
constexpr int kPiece = 8;

// Whether every row is a whole number of pieces and starts on 16 bytes.
template <typename T>
bool takes_pieces(Rows<T> rows, std::int64_t width) {
  return is_aligned16(rows.data) && rows.stride % kPiece == 0 && width % kPiece == 0;
}

// Whether four neighbours, the first a multiple of four elements into its row, are one load.
template <typename T>
bool takes_fours(Rows<T> rows) {
  return reinterpret_cast<std::uintptr_t>(rows.data) % (4 * sizeof(T)) == 0 && rows.stride % 4 == 0;
}

inline std::int64_t divide_up(std::int64_t count, std::int64_t piece) {
  return (count + piece - 1) / piece;
}

}  // namespace vllm_kernels::cuda
