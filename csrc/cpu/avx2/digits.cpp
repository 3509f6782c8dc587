// SPDX-License-Identifier: Apache-2.0

// Activations as 8-bit digits with AVX2; the forms are described in cpu_kernels.h.

#include <immintrin.h>

#include "cpu/avx2/quant.h"

namespace vllm_kernels::avx2 {
namespace {

// The integers, of 8 columns a register, that stand for a block, and what either half adds up to, in units
// of the scale.
struct Block {
  __m256i high[4], low[4];
  int sum[2];
};

inline __m256i round(__m256 v) { return _mm256_cvtps_epi32(v); }
inline __m256 to_float(__m256i v) { return _mm256_cvtepi32_ps(v); }

// Bits of the larger of two positive numbers; those of a NaN are above all others, so that it stays.
inline __m256i larger(__m256i a, __m256i b) { return _mm256_max_epu32(a, b); }

inline float largest(const float* x) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i max = _mm256_setzero_si256();
  for (int i = 0; i < kBlock; i += 8)
    max = larger(max, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
  __m128i s = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256(max, 1));
  s = _mm_max_epu32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epu32(s, _mm_shuffle_epi32(s, 0xb1))));
}

inline int add_up(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

// x: 32 activations in steps of the high digit.
inline void split(const __m256* x, Block& block) {
  const __m256i most = _mm256_set1_epi32(127), least = _mm256_set1_epi32(-127);
  for (int i = 0; i < 4; ++i) {
    block.high[i] = round(x[i]);
    const __m256 rest = _mm256_sub_ps(x[i], to_float(block.high[i]));
    const __m256i low = round(_mm256_mul_ps(rest, _mm256_set1_ps(256.0f)));
    block.low[i] = _mm256_max_epi32(_mm256_min_epi32(low, most), least);
  }
  for (int half = 0; half < 2; ++half) {
    const __m256i *high = block.high + 2 * half, *low = block.low + 2 * half;
    block.sum[half] =
        256 * add_up(_mm256_add_epi32(high[0], high[1])) + add_up(_mm256_add_epi32(low[0], low[1]));
  }
}

inline void split_one(const __m256* x, Block& block) {
  for (int i = 0; i < 4; ++i) block.high[i] = round(x[i]);
  block.sum[0] = add_up(_mm256_add_epi32(block.high[0], block.high[1]));
  block.sum[1] = add_up(_mm256_add_epi32(block.high[2], block.high[3]));
}

// x: 32 activations in steps, 16 of the scale. The last half's integers n = 16 h + l, l a digit of all of
// which only the lower 4 bits are known so far, b. They move the steps of the first half, 16 h + a + b / 16
// with l = 16 a + b; where those are rounded tells a.
inline void split_shared(const __m256* x, Block& block) {
  block.sum[0] = block.sum[1] = 0;
  for (int i = 0; i < 2; ++i) {
    const __m256i last = round(x[2 + i]), b = _mm256_and_si256(last, _mm256_set1_epi32(15));
    const __m256i first = round(_mm256_fnmadd_ps(to_float(b), _mm256_set1_ps(0.0625f), x[i]));
    block.high[i] = _mm256_srai_epi32(_mm256_add_epi32(first, _mm256_set1_epi32(8)), 4);
    const __m256i a = _mm256_sub_epi32(first, _mm256_slli_epi32(block.high[i], 4));
    block.high[2 + i] = _mm256_sub_epi32(_mm256_srai_epi32(last, 4), a);
    block.low[i] = block.low[2 + i] = _mm256_add_epi32(_mm256_slli_epi32(a, 4), b);
    block.sum[0] += 16 * add_up(first) + add_up(b);
    block.sum[1] += 16 * add_up(last);
  }
}

// 32 integers as bytes. Packing works in 128-bit halves; the permutation puts the eight runs of four
// in order.
inline void store_bytes(int8_t* q, const __m256i* n) {
  const __m256i low = _mm256_packs_epi32(n[0], n[1]), high = _mm256_packs_epi32(n[2], n[3]);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q),
                      _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order));
}

// Block `block` of x, which lies at the beginning of `x`.
template <DigitForm kForm>
inline void quantize(const Digits& out, const float* x, int64_t block) {
  const float top = largest(x), inverse = top > 0.0f ? most_steps(kForm) / top : 0.0f;
  __m256 steps[4];
  for (int i = 0; i < 4; ++i)
    steps[i] = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(inverse));
  Block digits;
  if constexpr (kForm == DigitForm::kOne) split_one(steps, digits);
  if constexpr (kForm == DigitForm::kTwo) split(steps, digits);
  if constexpr (kForm == DigitForm::kShared) split_shared(steps, digits);
  int8_t* const bytes = out.digits + block * digit_bytes(kForm);
  store_bytes(bytes, digits.high);
  if constexpr (kForm != DigitForm::kOne) store_bytes(bytes + kBlock, digits.low);
  const float scale = top / (most_steps(kForm) * step_units(kForm));
  out.scale[block * out.rows] = scale;
  out.sum[block * out.rows] = scale * static_cast<float>(digits.sum[0] + digits.sum[1]);
  if constexpr (kForm == DigitForm::kTwo)
    out.half_sum[block * out.rows] = scale * static_cast<float>(digits.sum[0]);
}

template <DigitForm kForm>
void quantize_blocks(const Digits& out, const float* x, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b) quantize<kForm>(out, x + b * kBlock, b);
}

}  // namespace

#include "cpu/vec/digits.inl"

}  // namespace vllm_kernels::avx2
