// SPDX-License-Identifier: Apache-2.0

// Sixteen f32 lanes with AVX-512: the operations that cpu/vec/*.inl is written in. Internal linkage
// throughout (anonymous namespace), so that no copy compiled with these flags can serve another
// file.

#pragma once

#include <immintrin.h>

#include "cpu_kernels.h"

namespace vllm_kernels::avx512 {
namespace {

constexpr int kLanes = 16;
using F = __m512;

inline F zero() { return _mm512_setzero_ps(); }
inline F set1(float f) { return _mm512_set1_ps(f); }
inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F v) { _mm512_storeu_ps(p, v); }
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F div(F a, F b) { return _mm512_div_ps(a, b); }
inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
// The second operand if either is NaN.
inline F min(F a, F b) { return _mm512_min_ps(a, b); }
inline F max(F a, F b) { return _mm512_max_ps(a, b); }
inline float sum(F v) { return _mm512_reduce_add_ps(v); }
inline float largest(F v) { return _mm512_reduce_max_ps(v); }

inline __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

// The first n lanes, 0 <= n < 16; the others are zero and their memory is not touched.
inline F load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
inline void store_n(float* p, F v, int64_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
// Lanes 0..n from v, the others from w.
inline F keep_first(F v, F w, int64_t n) {
  return n >= kLanes ? v : _mm512_mask_blend_ps(first(n), w, v);
}

inline F widen_bf16(__m256i h) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
inline F load_bf16(const uint16_t* p) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F load_bf16_n(const uint16_t* p, int64_t n) {
  return widen_bf16(_mm256_maskz_loadu_epi16(first(n), p));
}
inline F load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F load_f16_n(const uint16_t* p, int64_t n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
}

// To nearest even, as f32_to_bf16 in formats.h; not vcvtneps2bf16, which flushes subnormals.
inline void store_bf16(uint16_t* p, F v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i rounded = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, up, quiet), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}

// Elements 2 i and 2 i + 1 of a pair of bf16 in one lane.
inline F even_bf16(F pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
}
inline F odd_bf16(F pairs) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs),
                                              _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}

// sum + both products of each pair of bf16 of `pairs` with the pair of bf16 at x, by vdpbf16ps: rounded
// to f32 after each of the two, subnormal numbers taken for zero.
constexpr int64_t kPairWords = 1;
inline F add_pair(F sum, F pairs, const float* x, int64_t) {
  const __m512i weights = _mm512_castps_si512(pairs), in = _mm512_castps_si512(set1(*x));
  return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)in);
}
// Words i.. of a row of k elements, each a pair of bf16 rounded to nearest even; zero beyond the end.
inline F load_pair_words(const float* row, int64_t i, int64_t k) {
  const int64_t n = k - 2 * i;
  const F low = n >= kLanes ? load(row + 2 * i) : load_n(row + 2 * i, n);
  F high = zero();
  if (n > kLanes) high = n >= 2 * kLanes ? load(row + 2 * i + 16) : load_n(row + 2 * i + 16, n - 16);
  return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low));
}

inline F round_nearest(F v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT); }
// v * 2^n for integral n in -126..127.
inline F scale_by_power(F v, F n) { return _mm512_scalef_ps(v, n); }
// v where x >= limit, else zero; zero for NaN.
inline F zero_below(F v, F x, F limit) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), v);
}
inline int64_t count_greater(F v, F limit) {
  return __builtin_popcount(_mm512_cmp_ps_mask(v, limit, _CMP_GT_OQ));
}
inline bool any_greater(F v, F limit) { return _mm512_cmp_ps_mask(v, limit, _CMP_GT_OQ) != 0; }
inline double sum_as_double(F v) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
  return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
}

// Lane j of v[i] becomes lane i of v[j]: pairs, quadruples, then 128-bit quarters twice.
inline void transpose(F v[kLanes]) {
  F a[16], b[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    a[2 * i] = _mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d p0 = _mm512_castps_pd(a[4 * i]), p1 = _mm512_castps_pd(a[4 * i + 1]);
    const __m512d p2 = _mm512_castps_pd(a[4 * i + 2]), p3 = _mm512_castps_pd(a[4 * i + 3]);
    b[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(p0, p2));
    b[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p0, p2));
    b[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(p1, p3));
    b[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(p1, p3));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    // Quarter q of b[4 i + j] holds column 4 q + j of rows 4 i .. 4 i + 3.
    const F c0 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0x88);
    const F c1 = _mm512_shuffle_f32x4(b[j], b[4 + j], 0xdd);
    const F c2 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0x88);
    const F c3 = _mm512_shuffle_f32x4(b[8 + j], b[12 + j], 0xdd);
    v[j] = _mm512_shuffle_f32x4(c0, c2, 0x88);
    v[8 + j] = _mm512_shuffle_f32x4(c0, c2, 0xdd);
    v[4 + j] = _mm512_shuffle_f32x4(c1, c3, 0x88);
    v[12 + j] = _mm512_shuffle_f32x4(c1, c3, 0xdd);
  }
}

// Words that attention computes with (cpu/vec/attention.inl) where the cache is bf16: pairs of it. Two
// products and their sums, each rounded to f32; subnormals are taken and made zero throughout.
struct Bf16Pairs {
  static constexpr int64_t kPack = 2;
  static F dot(F a, F b, F sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
  }
  // Neighbours of the elements in order, rounded to nearest even.
  static F pack(const F parts[kPack]) {
    return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(parts[1], parts[0]));
  }
  // Pairs of an element of `a` and the same of `b`; 32 of them in the order in which
  // put_in_order finds sums over them.
  static void interleave(F a, F b, F pairs[kPack]) {
    const __m512i low = _mm512_castps_si512(a), high = _mm512_castps_si512(b);
    pairs[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(low, high));
    pairs[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(low, high));
  }
  static void put_in_order(F sums[kPack]) {
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const F first = _mm512_permutex2var_ps(sums[0], low, sums[1]);
    sums[1] = _mm512_permutex2var_ps(sums[0], high, sums[1]);
    sums[0] = first;
  }
  // Keeps the weights of a tile and adds them, as they were rounded, to their sum.
  static void keep_weights(const F weights[kPack], float* words, F& total) {
    const F kept = pack(weights);
    total = dot(kept, _mm512_castsi512_ps(_mm512_set1_epi32(0x3f803f80)), total);
    store(words, kept);
  }
};

// The words for a cache of this dtype: those, or what attention has for every ISA.
template <DType D, class Floats>
struct Words {
  using Type = Floats;
};
template <class Floats>
struct Words<DType::kBF16, Floats> {
  using Type = Bf16Pairs;
};

}  // namespace
}  // namespace vllm_kernels::avx512
