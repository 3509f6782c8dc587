// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AVX2: 8-bit activations, weights as they lie in memory. The formulas
// are those of cpu/avx512/quant.cpp; here a run is computed in two halves of 8 rows, since a
// register holds 8 rows x 4 columns of weights.
//
// vpmaddubsw adds two products u8 x s8 in 16 bits, saturating at 32,767, so only a few are added up
// before they are widened. 4 bits: 15 * 127 * 2 = 3,810 each, eight fit; 5 bits: 7,874, four; 6 bits:
// 16,002, two. 8 bits: |q| x (x with q's sign) is at most 128 * 127 * 2 = 32,512, one.

#include "cpu/avx2/quant.h"

#include "cpu/avx2/tiles.h"

namespace vllm_kernels::avx2 {
namespace {

// Rows of x that use half a run once it is unpacked.
constexpr int kPassRows = 4;
constexpr int64_t kPrefetch = 8192;

// 4 activations in every lane.
inline __m256i spread(const int8_t* x) {
  int v;
  __builtin_memcpy(&v, x, 4);
  return _mm256_set1_epi32(v);
}

inline __m256i widen(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// Products of 4 columns, in pairs.
template <int kBits>
inline __m256i multiply(__m256i quants, const int8_t* x) {
  if constexpr (kBits < 8) return _mm256_maddubs_epi16(quants, spread(x));
  return _mm256_maddubs_epi16(_mm256_abs_epi8(quants), _mm256_sign_epi8(spread(x), quants));
}

// Registers kFirst .. kFirst + kCount of a run against one digit of x.
template <int kBits, int kFirst, int kCount>
inline __m256i dot_part(const HalfRun& run, const int8_t* x) {
  constexpr int kTogether = kBits == 4 ? 8 : kBits == 5 ? 4 : kBits == 6 ? 2 : 1;
  __m256i sum = _mm256_setzero_si256(), pairs = sum;
#pragma GCC unroll 8
  for (int s = kFirst; s < kFirst + kCount; ++s) {
    const __m256i product = multiply<kBits>(run.quants[s], x + 4 * s);
    pairs = (s - kFirst) % kTogether == 0 ? product : _mm256_add_epi16(pairs, product);
    if ((s - kFirst + 1) % kTogether == 0 || s + 1 == kFirst + kCount)
      sum = _mm256_add_epi32(sum, widen(pairs));
  }
  return sum;
}

// x: 32 high digits, 32 low ones, of which D are used. Exact: 128 * 127 * 32 * 257 < 2^31.
template <int kBits, int D, int kFirst, int kCount>
inline __m256 dot(const HalfRun& run, const int8_t* x) {
  __m256i sum = dot_part<kBits, kFirst, kCount>(run, x);
  if constexpr (D == 2)
    sum = _mm256_add_epi32(_mm256_slli_epi32(sum, 8),
                           dot_part<kBits, kFirst, kCount>(run, x + kBlock));
  return _mm256_cvtepi32_ps(sum);
}

// sum + one run against block `block` of row m of x.
template <int64_t kType, int D>
inline __m256 add_block(__m256 sum, const QuantLinearArgs& a, const HalfRun& run, int64_t m,
                        int64_t block) {
  constexpr int kBits = block_format(kType).bits;
  const int8_t* x = a.xq.digits + 2 * kBlock * (m * (a.k / kBlock) + block);
  const int64_t at = block * a.xq.rows + m;
  const __m256 x_scale = _mm256_set1_ps(D == 2 ? a.xq.scale[at] : 256.0f * a.xq.scale[at]);
  const __m256 scale = _mm256_mul_ps(run.scale[0], x_scale);
  if constexpr (has_halves(kType)) {
    const float first = a.xq.half_sum[at], last = a.xq.sum[at] - first;
    const __m256 scale1 = _mm256_mul_ps(run.scale[1], x_scale);
    sum = _mm256_fmadd_ps(dot<kBits, D, 0, 4>(run, x), scale, sum);
    sum = _mm256_fmadd_ps(dot<kBits, D, 4, 4>(run, x), scale1, sum);
    sum = _mm256_fmadd_ps(run.offset[0], _mm256_set1_ps(first), sum);
    return _mm256_fmadd_ps(run.offset[1], _mm256_set1_ps(last), sum);
  }
  sum = _mm256_fmadd_ps(dot<kBits, D, 0, 8>(run, x), scale, sum);
  if constexpr (kBits == 8) return sum;
  const float* x_sum = D == 2 ? a.xq.sum : a.xq.high_sum;
  return _mm256_fmadd_ps(run.offset[0], _mm256_set1_ps(x_sum[at]), sum);
}

// Stores 8 columns from `column` of a row that has n.
inline void store_columns(float* row, int64_t column, int64_t n, __m256 v) {
  if (column + 8 <= n) return _mm256_storeu_ps(row + column, v);
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, v);
  for (int64_t i = 0; column + i < n; ++i) row[column + i] = lanes[i];
}

template <int64_t kType, int D, int R>
void pass(const QuantLinearArgs& a, int64_t group, int64_t half, int64_t m) {
  constexpr int64_t bytes = tile_bytes(kType), runs = block_format(kType).columns / kBlock;
  const int64_t tiles = a.k / kBlock / runs;
  const uint8_t* tile = a.packed + group * tiles * bytes;
  __m256 y[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) y[r] = _mm256_setzero_ps();
  for (int64_t t = 0; t < tiles; ++t, tile += bytes)
    for (int64_t index = 0; index < runs; ++index) {
      const int64_t ahead = kPrefetch + index * (bytes / runs);
      _mm_prefetch(reinterpret_cast<const char*>(tile + ahead), _MM_HINT_T0);
      const HalfRun run = load_run<kType>(tile, index, half);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        y[r] = add_block<kType, D>(y[r], a, run, m + r, t * runs + index);
    }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    store_columns(a.out.row(m + r), group * kTileRows + 8 * half, a.n, y[r]);
}

template <int64_t kType, int D>
void groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g)
    for (int64_t half = 0; half < 2; ++half) {
      int64_t m = m0;
      for (; m + kPassRows <= m1; m += kPassRows) pass<kType, D, kPassRows>(a, g, half, m);
      for (; m < m1; ++m) pass<kType, D, 1>(a, g, half, m);
    }
}

// The groups that see one digit, then those that see two. Formats with a scale per 16 columns always
// see two.
template <int64_t kType>
void linear_as(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  if constexpr (!has_halves(kType)) {
    const int64_t coarse = (a.coarse + kTileRows - 1) / kTileRows, end = coarse < g1 ? coarse : g1;
    if (g0 < end) groups<kType, 1>(a, g0, end, m0, m1);
    if (g0 < end) g0 = end;
  }
  groups<kType, 2>(a, g0, g1, m0, m1);
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

// Splits 8 activations, in steps of the high digit, into two digits.
inline void split(__m256 steps, __m256i& high, __m256i& low) {
  high = _mm256_cvtps_epi32(steps);
  const __m256 rest = _mm256_sub_ps(steps, _mm256_cvtepi32_ps(high));
  low = _mm256_cvtps_epi32(_mm256_mul_ps(rest, _mm256_set1_ps(256.0f)));
  low = _mm256_max_epi32(_mm256_min_epi32(low, _mm256_set1_epi32(127)), _mm256_set1_epi32(-127));
}

}  // namespace

void quantize_row(const Digits& out, const float* x, int64_t k) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    __m256 v[4];
    __m256 max = _mm256_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_loadu_ps(x + b * kBlock + 8 * i);
      max = _mm256_max_ps(max, magnitude(v[i]));
    }
    const float top = largest(max);
    const __m256 inverse = _mm256_set1_ps(top > 0.0f ? 127.0f / top : 0.0f);
    __m256i high[4], low[4];
    for (int i = 0; i < 4; ++i) split(_mm256_mul_ps(v[i], inverse), high[i], low[i]);
    store_bytes(out.digits + 2 * b * kBlock, high);
    store_bytes(out.digits + (2 * b + 1) * kBlock, low);
    const int high0 = add_up(_mm256_add_epi32(high[0], high[1]));
    const int high1 = add_up(_mm256_add_epi32(high[2], high[3]));
    const int low0 = add_up(_mm256_add_epi32(low[0], low[1]));
    const int low1 = add_up(_mm256_add_epi32(low[2], low[3]));
    const float scale = top / (127.0f * 256.0f);
    out.scale[b * out.rows] = scale;
    out.half_sum[b * out.rows] = scale * static_cast<float>(256 * high0 + low0);
    out.sum[b * out.rows] = scale * static_cast<float>(256 * (high0 + high1) + low0 + low1);
    out.high_sum[b * out.rows] = 256.0f * scale * static_cast<float>(high0 + high1);
  }
}

void quant_linear(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  switch (a.qtype) {
    case kQ4_0:
    case kQ4_1: return linear_as<kQ4_1>(a, g0, g1, m0, m1);
    case kQ5_0:
    case kQ5_1: return linear_as<kQ5_1>(a, g0, g1, m0, m1);
    case kQ4_K: return linear_as<kQ4_K>(a, g0, g1, m0, m1);
    case kQ5_K: return linear_as<kQ5_K>(a, g0, g1, m0, m1);
    case kQ6_K: return linear_as<kQ6_K>(a, g0, g1, m0, m1);
    default: return linear_as<kQ8_0>(a, g0, g1, m0, m1);
  }
}

}  // namespace vllm_kernels::avx2
