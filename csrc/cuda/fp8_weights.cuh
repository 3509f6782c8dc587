// SPDX-License-Identifier: Apache-2.0
//
// Owns: reading FP8 weights [n, k] (e4m3: a sign, four bits of exponent less 7, three of mantissa; no
// infinities; Micikevicius et al., 2022, arXiv:2209.05433) as operands of the tensor cores, in the places
// of packed_weights.cuh. Must not know: what they are multiplied with.
#pragma once

#include "plain_weights.cuh"

namespace vllm_kernels::cuda {

// Two e4m3 numbers as bfloat16, exactly: with the exponent at bfloat16's place they are 2^120 times too
// small, its bias being 127. NaN (exponent and mantissa all ones) counts as 480.
__device__ inline unsigned widen_fp8(unsigned low, unsigned high) {
  const unsigned bytes = low | high << 16;
  const unsigned pair = (bytes & 0x00800080u) << 8 | (bytes & 0x007f007fu) << 4;
  constexpr unsigned kFactor = 0x7b807b80u;  // 2^120, twice
  __nv_bfloat162 x, factor;
  memcpy(&x, &pair, sizeof(x));
  memcpy(&factor, &kFactor, sizeof(factor));
  return bits_of(__hmul2(x, factor));
}

struct Fp8Weights {
  using Element = __nv_bfloat16;
  struct Raw {
    Vec<std::uint8_t, 4> four[2][2];  // row, half
  };
  static constexpr int kDigits = 1;
  static constexpr int kUnit = 4;  // runs that a warp loads before it multiplies: 2 KiB
  static constexpr bool kHasScale = false;
  static constexpr bool kHasMinimum = false;
  static constexpr bool kRowScales = true;
  static constexpr bool kTwoScales = false;

  static __device__ Raw load(const std::uint8_t* matrix, int group, int run,
                             const LinearShape& shape) {
    Raw raw{};
    load_fours(raw.four, matrix, group, run, shape);
    return raw;
  }
  static __device__ void operand(unsigned (&a)[1][4], const Raw& raw, int half) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const auto& byte = raw.four[row][half].item;
      a[0][row] = widen_fp8(byte[0], byte[1]);
      a[0][row + 2] = widen_fp8(byte[2], byte[3]);
    }
  }
  static __device__ RunScales scales(const Raw&, int) { return {{1.0f, 1.0f}, 0.0f}; }
};

}  // namespace vllm_kernels::cuda
