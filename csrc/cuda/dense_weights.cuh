// SPDX-License-Identifier: Apache-2.0
//
// Owns: reading dense weights [n, k] as operands of the tensor cores, in the places of packed_weights.cuh:
// row 2 g and 2 g + 1 of 16, columns 4 t ... 4 t + 3 and 16 columns on of 32. Must not know: what they
// are multiplied with.
#pragma once

#include "plain_weights.cuh"

namespace vllm_kernels::cuda {

// Weights of type S; float16 is multiplied as such, float32 in three digits.
template <typename S>
struct DenseWeights {
  using Element = std::conditional_t<sizeof(S) == 2, S, __nv_bfloat16>;
  using D = Digits<Element, S>;
  struct Raw {
    Vec<S, 4> four[2][2];  // row, half
  };
  static constexpr int kDigits = D::kCount;
  static constexpr int kUnit = 2;  // runs that a warp loads before it multiplies: 2 KiB of 16 bits
  static constexpr bool kHasScale = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kRowScales = false;
  static constexpr bool kTwoScales = false;

  static __device__ Raw load(const std::uint8_t* matrix, int group, int run,
                             const LinearShape& shape) {
    Raw raw{};
    load_fours(raw.four, reinterpret_cast<const S*>(matrix), group, run, shape);
    return raw;
  }
  static __device__ void operand(unsigned (&a)[kDigits][4], const Raw& raw, int half) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      unsigned words[kDigits][2];
      D::split(words, raw.four[row][half]);
#pragma unroll
      for (int digit = 0; digit < kDigits; ++digit) {
        a[digit][row] = words[digit][0];
        a[digit][row + 2] = words[digit][1];
      }
    }
  }
  static __device__ RunScales scales(const Raw&, int) { return {{1.0f, 1.0f}, 0.0f}; }
};

}  // namespace vllm_kernels::cuda
