// SPDX-License-Identifier: Apache-2.0
//
// Owns: numbers as operands of the tensor cores, exactly: a number of more than 8 significant bits becomes
// several bfloat16 digits that add up to it. Must not know: what they are multiplied with.
#pragma once

#include <cmath>
#include <type_traits>

#include "dispatch.cuh"
#include "mma.cuh"

namespace vllm_kernels::cuda {

// The upper half of x, which is x cut to 8 significant bits.
__device__ inline float leading_digit(float x) {
  return __uint_as_float(__float_as_uint(x) & 0xffff0000u);
}

// `x` is replaced by what its digit leaves.
__device__ inline unsigned take_digit(float& x) {
  const float digit = leading_digit(x);
  x = isfinite(digit) ? x - digit : 0.0f;
  return __float_as_uint(digit) >> 16;
}

// Four neighbours of a row, those at `left` and beyond being zeros. `aligned`: they are one load.
template <typename T>
__device__ void load_four(Vec<T, 4>& four, const T* from, int left, bool aligned) {
  if (aligned && left >= 4) {
    four = *reinterpret_cast<const Vec<T, 4>*>(from);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) four.item[i] = i < left ? from[i] : T{};
}

// Four numbers of type T as operands of type E.
template <typename E, typename T>
struct Digits {
  static_assert(std::is_same_v<E, T>);  // as they are
  static constexpr int kCount = 1;

  static __device__ void split(unsigned (&words)[1][2], const Vec<T, 4>& four) {
    memcpy(words, &four, sizeof(words));
  }
};

// Digits of 8 bits that hold all significant bits of a T, of which float16 has 11 and float32 24.
template <typename T>
struct CutDigits {
  static constexpr int kCount = sizeof(T) == 4 ? 3 : 2;

  static __device__ void split(unsigned (&words)[kCount][2], const Vec<T, 4>& four) {
    float value[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) value[i] = to_float(four.item[i]);
#pragma unroll
    for (int digit = 0; digit < kCount; ++digit) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        const unsigned low = take_digit(value[2 * pair]);
        words[digit][pair] = low | take_digit(value[2 * pair + 1]) << 16;
      }
    }
  }
};
template <>
struct Digits<__nv_bfloat16, float> : CutDigits<float> {};
template <>
struct Digits<__nv_bfloat16, __half> : CutDigits<__half> {};

}  // namespace vllm_kernels::cuda
