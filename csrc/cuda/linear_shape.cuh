// SPDX-License-Identifier: Apache-2.0
//
// Owns: sizes of a product with a matrix [n, k], and what a kind of weights tells its kernel. Must not
// know: any kind of weights.
#pragma once

#include <cstdint>

namespace vllm_kernels::cuda {

struct LinearShape {
  int n;
  int k;
  bool x_aligned;       // four neighbours of a row of x are one load
  bool weight_aligned;  // of dense weights
  std::int64_t matrix_bytes;  // from one matrix to the next
  const float* row_scales;  // of kinds of weights that have one for each row, or for all
  int row_scale_step;        // 1 or 0
};

// What sums over a run of 32 columns are multiplied with, and what is added per sum of activations.
struct RunScales {
  float scale[2];  // of columns 0 to 15 and 16 to 31
  float minimum;
};

}  // namespace vllm_kernels::cuda
