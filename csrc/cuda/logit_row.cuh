// SPDX-License-Identifier: Apache-2.0
//
// Owns: the order of tokens by logit and reductions over one row of logits. Must not know: what
// is done with the winners.
//
// Ties are broken in one way throughout: among equal logits the lower token id comes first.
#pragma once

#include <cmath>
#include <cstdint>

#include "reduce.cuh"

namespace vllm_kernels::cuda {

// Unsigned integers in the order of the floats: set the sign bit of positive ones, flip all bits
// of negative ones. -0 counts as +0; x is not NaN.
__device__ inline unsigned ordered_bits(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// One integer that is larger for the token that comes first: the logit above, the id inverted
// below. No key is 0: even -inf has ordered bits 0x007fffff.
__device__ inline std::uint64_t logit_key(float logit, std::uint32_t id) {
  return static_cast<std::uint64_t>(ordered_bits(logit)) << 32 | (0xffffffffu - id);
}

__device__ inline std::uint32_t key_id(std::uint64_t key) {
  return 0xffffffffu - static_cast<std::uint32_t>(key);
}

// Token id of the largest logit, for all threads. NaN never wins; 0 where all are NaN.
__device__ inline int row_argmax(const float* row, int vocab) {
  std::uint64_t best = 0;
  for (int id = threadIdx.x; id < vocab; id += blockDim.x) {
    if (!isnan(row[id])) best = Max{}(best, logit_key(row[id], id));
  }
  best = block_reduce(best, Max{}, std::uint64_t{0});
  return best == 0 ? 0 : static_cast<int>(key_id(best));
}

// log(sum(exp(row))) with the largest logit taken out first.
struct Normalizer {
  float max;
  double log_sum;

  __device__ float logprob(float logit) const {
    return static_cast<float>(static_cast<double>(logit) - max - log_sum);
  }
};

// For all threads. The sum is in float64: float32 would lose digits over 2^17 addends. NaN adds 0.
__device__ inline Normalizer row_normalizer(const float* row, int vocab) {
  float largest = -INFINITY;
  for (int id = threadIdx.x; id < vocab; id += blockDim.x) largest = fmaxf(largest, row[id]);
  largest = block_reduce(largest, Max{}, -INFINITY);
  double sum = 0.0;
  for (int id = threadIdx.x; id < vocab; id += blockDim.x) {
    const float e = expf(row[id] - largest);
    sum += isnan(e) ? 0.0f : e;
  }
  return {largest, log(block_reduce(sum, Sum{}, 0.0))};
}

}  // namespace vllm_kernels::cuda
