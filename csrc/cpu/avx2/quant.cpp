// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AVX2: 8-bit activations, weights as they lie in memory. The formulas
// are those of cpu/avx512/quant.cpp; here a tile is computed in two halves of 8 rows, since a
// register holds 8 rows x 4 columns of weights.
//
// vpmaddubsw adds two products u8 x s8 in 16 bits, saturating. 4 bits: 15 * 127 * 2 = 3,810, so the
// eight of a tile add up to 30,480 < 32,767 before they are widened. 8 bits: |q| x (xq with q's
// sign) is at most 128 * 127 * 2 = 32,512, widened each time.

#include "cpu/avx2/quant.h"

#include <immintrin.h>

namespace vllm_kernels::avx2 {
namespace {

// Rows of x that use a half tile once it is unpacked.
constexpr int kPassRows = 4;
constexpr int64_t kPrefetch = 8192;

struct HalfTile {
  __m256i weights[8];
  __m256 scale, offset;  // of 8 rows; offset is multiplied with x_sum
};

inline __m256i load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

inline __m256 load_halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

inline HalfTile load_q4(const uint8_t* p, int64_t half) {
  const __m256i low_bits = _mm256_set1_epi8(15);
  HalfTile t;
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    const __m256i bytes = load_bytes(p + 64 * s + 32 * half);
    t.weights[s] = _mm256_and_si256(bytes, low_bits);
    t.weights[4 + s] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_bits);
  }
  t.scale = load_halves(p + 256 + 16 * half);
  t.offset = load_halves(p + 288 + 16 * half);
  return t;
}

inline HalfTile load_q8(const uint8_t* p, int64_t half) {
  const __m256i bias = _mm256_set1_epi8(-128);
  HalfTile t;
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s)
    t.weights[s] = _mm256_xor_si256(load_bytes(p + 64 * s + 32 * half), bias);
  t.scale = load_halves(p + 512 + 16 * half);
  t.offset = _mm256_setzero_ps();
  return t;
}

// 4 activations in every lane.
inline __m256i spread(const int8_t* x) {
  int v;
  __builtin_memcpy(&v, x, 4);
  return _mm256_set1_epi32(v);
}

// One digit of 32 activations. 8 * 2 * 15 * 127 fits into 16 bits.
inline __m256i dot_q4(const HalfTile& t, const int8_t* x) {
  __m256i sum = _mm256_maddubs_epi16(t.weights[0], spread(x));
#pragma GCC unroll 7
  for (int s = 1; s < 8; ++s)
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(t.weights[s], spread(x + 4 * s)));
  return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

inline __m256i dot_q8(const HalfTile& t, const int8_t* x) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s) {
    const __m256i magnitude = _mm256_abs_epi8(t.weights[s]);
    const __m256i signed_x = _mm256_sign_epi8(spread(x + 4 * s), t.weights[s]);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, signed_x), ones));
  }
  return sum;
}

// x: 32 high digits, 32 low ones. Exact: 128 * 127 * 32 * 257 < 2^31.
template <bool Q8>
inline __m256i dot(const HalfTile& t, const int8_t* x) {
  const __m256i high = Q8 ? dot_q8(t, x) : dot_q4(t, x);
  const __m256i low = Q8 ? dot_q8(t, x + kBlock) : dot_q4(t, x + kBlock);
  return _mm256_add_epi32(_mm256_slli_epi32(high, 8), low);
}

// Stores 8 columns from `column` of a row that has n.
inline void store_columns(float* row, int64_t column, int64_t n, __m256 v) {
  if (column + 8 <= n) return _mm256_storeu_ps(row + column, v);
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, v);
  for (int64_t i = 0; column + i < n; ++i) row[column + i] = lanes[i];
}

template <bool Q8, int R>
void pass(const QuantLinearArgs& a, int64_t group, int64_t half, int64_t m0) {
  constexpr int64_t bytes = Q8 ? 544 : 320;
  const int64_t tiles = a.k / kBlock;
  const uint8_t* p = a.packed + group * tiles * bytes;
  const int8_t* x = a.xq + 2 * m0 * a.k;
  const float* scale = a.x_scale + m0 * tiles;
  const float* sum = a.x_sum + m0 * tiles;
  __m256 y[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) y[r] = _mm256_setzero_ps();
  for (int64_t t = 0; t < tiles; ++t, p += bytes) {
    _mm_prefetch(reinterpret_cast<const char*>(p + kPrefetch), _MM_HINT_T0);
    const HalfTile tile = Q8 ? load_q8(p, half) : load_q4(p, half);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256 product = _mm256_cvtepi32_ps(dot<Q8>(tile, x + 2 * (r * a.k + t * kBlock)));
      const __m256 d = _mm256_mul_ps(tile.scale, _mm256_set1_ps(scale[r * tiles + t]));
      y[r] = _mm256_fmadd_ps(product, d, y[r]);
      if (!Q8) y[r] = _mm256_fmadd_ps(tile.offset, _mm256_set1_ps(sum[r * tiles + t]), y[r]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    store_columns(a.out.row(m0 + r), group * kTileRows + 8 * half, a.n, y[r]);
}

template <bool Q8>
void groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g)
    for (int64_t half = 0; half < 2; ++half) {
      int64_t m = m0;
      for (; m + kPassRows <= m1; m += kPassRows) pass<Q8, kPassRows>(a, g, half, m);
      for (; m < m1; ++m) pass<Q8, 1>(a, g, half, m);
    }
}

inline __m256 magnitude(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

inline float largest(__m256 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline int add_up(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

// 32 integers as bytes. Packing works in 128-bit halves; the permutation puts the eight runs of four
// in order.
inline void store_bytes(int8_t* q, const __m256i* n) {
  const __m256i low = _mm256_packs_epi32(n[0], n[1]), high = _mm256_packs_epi32(n[2], n[3]);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q),
                      _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order));
}

// Splits 8 activations, in steps of the high digit, into two digits; returns 256 high + low.
inline __m256i digits(__m256 steps, __m256i& high, __m256i& low) {
  high = _mm256_cvtps_epi32(steps);
  const __m256 rest = _mm256_sub_ps(steps, _mm256_cvtepi32_ps(high));
  low = _mm256_cvtps_epi32(_mm256_mul_ps(rest, _mm256_set1_ps(256.0f)));
  low = _mm256_max_epi32(_mm256_min_epi32(low, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
  return _mm256_add_epi32(_mm256_slli_epi32(high, 8), low);
}

}  // namespace

void quantize_row(const float* x, int64_t k, int8_t* q, float* scale, float* sum) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    __m256 v[4];
    __m256 max = _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_loadu_ps(x + b * kBlock + 8 * i);
      max = _mm256_max_ps(max, magnitude(v[i]));
    }
    const float top = largest(max);
    const __m256 inverse = _mm256_set1_ps(top > 0.0f ? 127.0f / top : 0.0f);
    __m256i high[4], low[4], total = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i)
      total = _mm256_add_epi32(total, digits(_mm256_mul_ps(v[i], inverse), high[i], low[i]));
    store_bytes(q + 2 * b * kBlock, high);
    store_bytes(q + (2 * b + 1) * kBlock, low);
    scale[b] = top / (127.0f * 256.0f);
    sum[b] = scale[b] * static_cast<float>(add_up(total));
  }
}

void quant_linear(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  if (a.qtype == kQ8_0)
    groups<true>(a, g0, g1, m0, m1);
  else
    groups<false>(a, g0, g1, m0, m1);
}

}  // namespace vllm_kernels::avx2
