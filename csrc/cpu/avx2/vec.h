// SPDX-License-Identifier: Apache-2.0

// Eight f32 lanes with AVX2, FMA and F16C: the operations that cpu/vec/*.inl is written in.
// Internal linkage throughout (anonymous namespace), so that no copy compiled with these flags can
// serve another file.

#pragma once

#include <immintrin.h>

#include "cpu_kernels.h"

namespace vllm_kernels::avx2 {
namespace {

constexpr int kLanes = 8;
using F = __m256;

inline F zero() { return _mm256_setzero_ps(); }
inline F set1(float f) { return _mm256_set1_ps(f); }
inline F load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F v) { _mm256_storeu_ps(p, v); }
inline F add(F a, F b) { return _mm256_add_ps(a, b); }
inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F div(F a, F b) { return _mm256_div_ps(a, b); }
inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
// The second operand if either is NaN.
inline F min(F a, F b) { return _mm256_min_ps(a, b); }
inline F max(F a, F b) { return _mm256_max_ps(a, b); }

inline float sum(F v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float largest(F v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// All ones in lanes 0..n.
inline __m256i first(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// The first n lanes, 0 <= n < 8; the others are zero and their memory is not touched.
inline F load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
inline void store_n(float* p, F v, int64_t n) { _mm256_maskstore_ps(p, first(n), v); }
// Lanes 0..n from v, the others from w.
inline F keep_first(F v, F w, int64_t n) {
  return n >= kLanes ? v : _mm256_blendv_ps(w, v, _mm256_castsi256_ps(first(n)));
}

inline __m128i load_u16_n(const uint16_t* p, int64_t n) {
  uint16_t buffer[8] = {};
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(buffer));
}
inline F widen_bf16(__m128i h) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
inline F load_bf16(const uint16_t* p) {
  return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F load_bf16_n(const uint16_t* p, int64_t n) { return widen_bf16(load_u16_n(p, n)); }
inline F load_f16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F load_f16_n(const uint16_t* p, int64_t n) { return _mm256_cvtph_ps(load_u16_n(p, n)); }

// To nearest even, as f32_to_bf16 in formats.h.
inline void store_bf16(uint16_t* p, F v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i rounded = _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
  const __m128i low = _mm256_castsi256_si128(rounded), high = _mm256_extracti128_si256(rounded, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, high));
}

// Elements 2 i and 2 i + 1 of a pair of bf16 in one lane.
inline F even_bf16(F pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16));
}
inline F odd_bf16(F pairs) {
  return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(pairs),
                                              _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

// sum + both products of each pair of bf16 of `pairs` with x[0] and x[stride].
constexpr int64_t kPairWords = 2;
inline F add_pair(F sum, F pairs, const float* x, int64_t stride) {
  sum = fma(even_bf16(pairs), set1(x[0]), sum);
  return fma(odd_bf16(pairs), set1(x[stride]), sum);
}
// Words i.. of a row of k elements: f32, as they are; zero beyond the end.
inline F load_pair_words(const float* row, int64_t i, int64_t k) {
  if (i >= k) return zero();
  return k - i >= kLanes ? load(row + i) : load_n(row + i, k - i);
}

inline F round_nearest(F v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// v * 2^n for integral n in -126..127: n goes into the exponent bits of 1.0.
inline F scale_by_power(F v, F n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23)));
}
// v where x >= limit, else zero; zero for NaN.
inline F zero_below(F v, F x, F limit) {
  return _mm256_and_ps(v, _mm256_cmp_ps(x, limit, _CMP_GE_OQ));
}
inline int64_t count_greater(F v, F limit) {
  return __builtin_popcount(
      static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(v, limit, _CMP_GT_OQ))));
}
inline bool any_greater(F v, F limit) {
  return _mm256_movemask_ps(_mm256_cmp_ps(v, limit, _CMP_GT_OQ)) != 0;
}
inline double sum_as_double(F v) {
  const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
  const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
  const __m256d s = _mm256_add_pd(low, high);
  const __m128d t = _mm_add_pd(_mm256_castpd256_pd128(s), _mm256_extractf128_pd(s, 1));
  return _mm_cvtsd_f64(_mm_add_sd(t, _mm_unpackhi_pd(t, t)));
}

// Lane j of v[i] becomes lane i of v[j]: pairs, quadruples, then 128-bit halves.
inline void transpose(F v[kLanes]) {
  F a[8], b[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const __m256d p0 = _mm256_castps_pd(a[4 * i]), p1 = _mm256_castps_pd(a[4 * i + 1]);
    const __m256d p2 = _mm256_castps_pd(a[4 * i + 2]), p3 = _mm256_castps_pd(a[4 * i + 3]);
    b[4 * i] = _mm256_castpd_ps(_mm256_unpacklo_pd(p0, p2));
    b[4 * i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(p0, p2));
    b[4 * i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(p1, p3));
    b[4 * i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(p1, p3));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x20);
    v[4 + j] = _mm256_permute2f128_ps(b[j], b[4 + j], 0x31);
  }
}

// The words that attention computes with (cpu/vec/attention.inl): there is no product of bf16.
template <DType D, class Floats>
struct Words {
  using Type = Floats;
};

}  // namespace
}  // namespace vllm_kernels::avx2
