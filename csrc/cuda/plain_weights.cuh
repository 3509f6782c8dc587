// SPDX-License-Identifier: Apache-2.0
//
// Owns: a thread's part of weights [n, k] that lie row after row: row 2 g and 2 g + 1 of 16, columns
// 4 t ... 4 t + 3 and 16 columns on of 32. Must not know: what the numbers mean.
#pragma once

#include "digits.cuh"
#include "linear_shape.cuh"

namespace vllm_kernels::cuda {

// fours[row][half] of rows that there are; the others stay as they were.
template <typename S>
__device__ void load_fours(Vec<S, 4> (&fours)[2][2], const S* matrix, int group, int run,
                           const LinearShape& shape) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int n = 16 * group + 2 * g + row;
    if (n >= shape.n) continue;
    const S* from = matrix + static_cast<std::int64_t>(n) * shape.k;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int column = 32 * run + 16 * half + 4 * t;
      load_four(fours[row][half], from + column, shape.k - column, shape.weight_aligned);
    }
  }
}

}  // namespace vllm_kernels::cuda
