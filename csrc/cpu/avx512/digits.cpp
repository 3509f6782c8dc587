// SPDX-License-Identifier: Apache-2.0

// Activations as 8-bit digits with AVX-512 (the forms are described in cpu_kernels.h). Four blocks at a
// time, so that adding and comparing across lanes is done for all of them at once.

#include <immintrin.h>

#include "cpu/avx512/quant.h"

namespace vllm_kernels::avx512 {
namespace {

constexpr int kTogether = 4;

// The integers, of 16 columns a register, that stand for a block, and what they add up to.
struct Block {
  __m512i high[2], low[2];
  __m512i sum[2];  // lanes of either half's sum, in units of the scale
};

inline __m512i round(__m512 v) { return _mm512_cvtps_epi32(v); }
inline __m512 to_float(__m512i v) { return _mm512_cvtepi32_ps(v); }

// x: 32 activations in steps of the high digit.
inline void split(const __m512 (&x)[2], Block& block, DigitForm form) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    block.high[i] = block.sum[i] = round(x[i]);
    if (form == DigitForm::kOne) continue;
    const __m512 rest = _mm512_sub_ps(x[i], to_float(block.high[i]));
    const __m512i low = round(_mm512_mul_ps(rest, _mm512_set1_ps(256.0f)));
    const __m512i most = _mm512_set1_epi32(127), least = _mm512_set1_epi32(-127);
    block.low[i] = _mm512_max_epi32(_mm512_min_epi32(low, most), least);
    block.sum[i] = _mm512_add_epi32(_mm512_slli_epi32(block.high[i], 8), block.low[i]);
  }
}

// x: 32 activations in steps, 16 of the scale. The last half's integers n = 16 h + l, l a digit of all of
// which only the lower 4 bits are known so far, b. They move the steps of the first half, 16 h + a + b / 16
// with l = 16 a + b; where those are rounded tells a.
inline void split_shared(const __m512 (&x)[2], Block& block) {
  const __m512i last = round(x[1]), b = _mm512_and_si512(last, _mm512_set1_epi32(15));
  const __m512i first =
      round(_mm512_fnmadd_ps(to_float(b), _mm512_set1_ps(0.0625f), x[0]));
  block.high[0] = _mm512_srai_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(8)), 4);
  const __m512i a = _mm512_sub_epi32(first, _mm512_slli_epi32(block.high[0], 4));
  block.high[1] = _mm512_sub_epi32(_mm512_srai_epi32(last, 4), a);
  block.low[0] = _mm512_add_epi32(_mm512_slli_epi32(a, 4), b);
  block.sum[0] = _mm512_add_epi32(_mm512_slli_epi32(first, 4), b);
  block.sum[1] = _mm512_slli_epi32(last, 4);
}

inline void store_digits(int8_t* out, __m512i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtsepi32_epi8(v));
}

inline void store(int8_t* out, const Block& block, DigitForm form) {
  store_digits(out, block.high[0]);
  store_digits(out + 16, block.high[1]);
  if (form == DigitForm::kOne) return;
  store_digits(out + kBlock, block.low[0]);
  if (form == DigitForm::kTwo) store_digits(out + kBlock + 16, block.low[1]);
}

// Lane i: all lanes of v[i] by `op`.
template <class Op>
inline __m128i across(const __m512i (&v)[kTogether], const Op& op) {
  const __m512i low = op(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i high = op(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  // Four times lanes of v[0] to v[3].
  __m512i all = op(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
  all = op(all, _mm512_shuffle_i64x2(all, all, 0x4e));
  return _mm512_castsi512_si128(op(all, _mm512_shuffle_i64x2(all, all, 0xb1)));
}

inline __m128 add_across(const __m512i (&v)[kTogether]) {
  const auto add = [](__m512i a, __m512i b) { return _mm512_add_epi32(a, b); };
  return _mm_cvtepi32_ps(across(v, add));
}

// Bits of the larger of two positive numbers; those of a NaN are above all others, so that it stays.
inline __m512i larger(__m512i a, __m512i b) { return _mm512_max_epu32(a, b); }

inline __m128 largest(const __m512 (&x)[kTogether][2]) {
  __m512i bits[kTogether];
#pragma GCC unroll 4
  for (int i = 0; i < kTogether; ++i)
    bits[i] = larger(_mm512_castps_si512(_mm512_abs_ps(x[i][0])),
                     _mm512_castps_si512(_mm512_abs_ps(x[i][1])));
  return _mm_castsi128_ps(across(bits, larger));
}

// Four values, one of each block.
inline void scatter(float* row, int64_t rows, const int64_t (&block)[kTogether], __m128 v) {
  alignas(16) float lanes[kTogether];
  _mm_store_ps(lanes, v);
#pragma GCC unroll 4
  for (int i = 0; i < kTogether; ++i) row[block[i] * rows] = lanes[i];
}

template <DigitForm kForm>
inline void quantize(const Digits& out, const float* x, const int64_t (&block)[kTogether]) {
  __m512 values[kTogether][2];
#pragma GCC unroll 4
  for (int i = 0; i < kTogether; ++i)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      values[i][half] = _mm512_loadu_ps(x + block[i] * kBlock + 16 * half);
  const __m128 top = largest(values), most = _mm_set1_ps(most_steps(kForm));
  const __mmask8 some = _mm_cmp_ps_mask(top, _mm_setzero_ps(), _CMP_GT_OQ);
  alignas(16) float inverse[kTogether];
  _mm_store_ps(inverse, _mm_maskz_div_ps(some, most, top));
  __m512i sums[kTogether], first[kTogether];
#pragma GCC unroll 4
  for (int i = 0; i < kTogether; ++i) {
    const __m512 factor = _mm512_set1_ps(inverse[i]);
    const __m512 steps[2] = {_mm512_mul_ps(values[i][0], factor),
                             _mm512_mul_ps(values[i][1], factor)};
    Block digits;
    if constexpr (kForm == DigitForm::kShared)
      split_shared(steps, digits);
    else
      split(steps, digits, kForm);
    store(out.digits + block[i] * digit_bytes(kForm), digits, kForm);
    first[i] = digits.sum[0];
    sums[i] = _mm512_add_epi32(digits.sum[0], digits.sum[1]);
  }
  const __m128 scale = _mm_div_ps(top, _mm_set1_ps(most_steps(kForm) * step_units(kForm)));
  scatter(out.scale, out.rows, block, scale);
  scatter(out.sum, out.rows, block, _mm_mul_ps(scale, add_across(sums)));
  if constexpr (kForm == DigitForm::kTwo)
    scatter(out.half_sum, out.rows, block, _mm_mul_ps(scale, add_across(first)));
}

template <DigitForm kForm>
void quantize_blocks(const Digits& out, const float* x, int64_t blocks) {
  for (int64_t b = 0; b < blocks; b += kTogether) {
    int64_t block[kTogether];  // the last one again where there are fewer
    for (int i = 0; i < kTogether; ++i) block[i] = b + i < blocks ? b + i : blocks - 1;
    quantize<kForm>(out, x, block);
  }
}

}  // namespace

#include "cpu/vec/digits.inl"

}  // namespace vllm_kernels::avx512
