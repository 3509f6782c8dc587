// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AVX-512 VNNI: activations in one or two 8-bit digits, weights as they
// lie in memory.
//
// One register holds 16 rows x 4 columns of weights as u8; vpdpbusd multiplies them with 4 signed
// activations broadcast to all rows and adds up, exactly, in the row's 32-bit lane. Eight of them are
// a run of 32 columns; with two digits the sums of the high ones are shifted up by 8 bits and those
// of the low ones added. Per run and row of x, w being scale * quant + offset:
//   out += (x_scale * scale) * sum(quant * digits)  +  offset * x_sum
// Integer sums are exact (255 * 127 * 32 * 257 < 2^31) and the f32 additions are in column order for
// every row of x, so that a row's result does not depend on how many rows are computed together.

#include "cpu/avx512/quant.h"

#include "cpu/avx512/tiles.h"

namespace vllm_kernels::avx512 {
namespace {

// Distance of the software prefetch, beyond what the hardware fetches over a 4 KiB page. Passes of
// several rows need it as much as one row does: weights that come from memory (the head's 30 MB) took
// 1.6 times as long without.
constexpr int64_t kPrefetch = 8192;

// 4 activations in every lane.
inline __m512i spread(const int8_t* x) {
  int v;
  __builtin_memcpy(&v, x, 4);
  return _mm512_set1_epi32(v);
}

// Sums over either half of a run, of one digit of x.
struct Sums {
  __m512i half[2];
};

template <int G>
inline void add_digit(const Run (&runs)[G], const int8_t* x, Sums (&sums)[G]) {
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    const __m512i first = spread(x + 4 * s), last = spread(x + 16 + 4 * s);
#pragma GCC unroll 2
    for (int g = 0; g < G; ++g) {
      sums[g].half[0] = _mm512_dpbusd_epi32(sums[g].half[0], runs[g].quants[s], first);
      sums[g].half[1] = _mm512_dpbusd_epi32(sums[g].half[1], runs[g].quants[4 + s], last);
    }
  }
}

// G groups of rows of weights, R rows of x from row m, D digits.
template <int64_t kType, int D, int G, int R>
struct Pass {
  const QuantLinearArgs& a;
  int64_t group, m;
  __m512 y[R][G];

  // Block `block` of x against one run of each group.
  inline __attribute__((always_inline)) void add_block(const Run (&runs)[G], int64_t block) {
    const int64_t blocks = a.k / kBlock;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int64_t at = block * a.xq.rows + m + r;
      const int8_t* x = a.xq.digits + 2 * kBlock * ((m + r) * blocks + block);
      Sums sums[G];
#pragma GCC unroll 2
      for (int g = 0; g < G; ++g) sums[g].half[0] = sums[g].half[1] = _mm512_setzero_si512();
      add_digit<G>(runs, x, sums);
      if constexpr (D == 2) {
#pragma GCC unroll 2
        for (int g = 0; g < G; ++g) {
          sums[g].half[0] = _mm512_slli_epi32(sums[g].half[0], 8);
          sums[g].half[1] = _mm512_slli_epi32(sums[g].half[1], 8);
        }
        add_digit<G>(runs, x + kBlock, sums);
      }
#pragma GCC unroll 2
      for (int g = 0; g < G; ++g) y[r][g] = scaled(y[r][g], runs[g], sums[g], at);
    }
  }

  inline __attribute__((always_inline)) __m512 scaled(__m512 sum, const Run& run, const Sums& sums,
                                                      int64_t at) const {
    const __m512 x_scale = _mm512_set1_ps(a.xq.scale[at]);
    if constexpr (has_halves(kType)) {
      const float first = a.xq.half_sum[at], last = a.xq.sum[at] - first;
      const __m512 low = _mm512_mul_ps(run.scale[0], x_scale);
      const __m512 high = _mm512_mul_ps(run.scale[1], x_scale);
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.half[0]), low, sum);
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.half[1]), high, sum);
      sum = _mm512_fmadd_ps(run.offset[0], _mm512_set1_ps(first), sum);
      return _mm512_fmadd_ps(run.offset[1], _mm512_set1_ps(last), sum);
    }
    const float* x_sum = D == 2 ? a.xq.sum : a.xq.high_sum;
    const __m512i total = _mm512_add_epi32(sums.half[0], sums.half[1]);
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(run.scale[0], x_scale), sum);
    return _mm512_fmadd_ps(run.offset[0], _mm512_set1_ps(x_sum[at]), sum);
  }

  inline __attribute__((always_inline)) void store() const {
#pragma GCC unroll 2
    for (int g = 0; g < G; ++g) {
      const int64_t first = (group + g) * kTileRows, columns = a.n - first;
      const __mmask16 mask =
          columns >= kTileRows ? 0xffff : static_cast<__mmask16>((1u << columns) - 1u);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        _mm512_mask_storeu_ps(a.out.row(m + r) + first, mask, y[r][g]);
    }
  }
};

template <int64_t kType>
inline void prefetch_run(const uint8_t* tile, int64_t index) {
  constexpr int64_t runs = block_format(kType).columns / kBlock;
  const uint8_t* p = tile + index * (tile_bytes(kType) / runs) + kPrefetch;
#pragma GCC unroll 9
  for (int64_t line = 0; line < tile_bytes(kType) / runs; line += 64)
    _mm_prefetch(p + line, _MM_HINT_T0);
}

template <int64_t kType, int D, int G, int R>
void pass(const QuantLinearArgs& a, int64_t group, int64_t m) {
  constexpr int64_t bytes = tile_bytes(kType), runs = block_format(kType).columns / kBlock;
  const int64_t tiles = a.k / kBlock / runs;
  const uint8_t* tile = a.packed + group * tiles * bytes;
  Pass<kType, D, G, R> p{a, group, m, {}};
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int g = 0; g < G; ++g) p.y[r][g] = _mm512_setzero_ps();
  for (int64_t t = 0; t < tiles; ++t, tile += bytes)
    for (int64_t index = 0; index < runs; ++index) {
      Run weights[G];
#pragma GCC unroll 2
      for (int g = 0; g < G; ++g) {
        prefetch_run<kType>(tile + g * tiles * bytes, index);
        weights[g] = load_run<kType>(tile + g * tiles * bytes, index);
        if constexpr (D == 1)
          weights[g].scale[0] = _mm512_mul_ps(weights[g].scale[0], _mm512_set1_ps(256.0f));
      }
      p.add_block(weights, t * runs + index);
    }
  p.store();
}

template <int64_t kType, int D, int G>
void last_pass(const QuantLinearArgs& a, int64_t group, int64_t m, int64_t rows) {
  switch (rows) {
    case 1: return pass<kType, D, G, 1>(a, group, m);
    case 2: return pass<kType, D, G, 2>(a, group, m);
    case 3: return pass<kType, D, G, 3>(a, group, m);
    case 4: return pass<kType, D, G, 4>(a, group, m);
    case 5: return pass<kType, D, G, 5>(a, group, m);
    case 6: return pass<kType, D, G, 6>(a, group, m);
    case 7: return pass<kType, D, G, 7>(a, group, m);
    default: return;
  }
}

// Rows m0..m1 in passes of 8: their sums, 8 registers of weights, scales and temporaries fit into 32.
template <int64_t kType, int D>
void groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g) {
    int64_t m = m0;
    for (; m + 8 <= m1; m += 8) pass<kType, D, 1, 8>(a, g, m);
    last_pass<kType, D, 1>(a, g, m, m1 - m);
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

// The two digits of 16 activations, which are given in steps of the high one.
struct SplitDigits {
  __m128i high, low;
};

inline SplitDigits split(__m512 steps) {
  const __m512i high = _mm512_cvtps_epi32(steps);
  const __m512 rest = _mm512_sub_ps(steps, _mm512_cvtepi32_ps(high));
  __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(rest, _mm512_set1_ps(256.0f)));
  low = _mm512_max_epi32(_mm512_min_epi32(low, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
  return {_mm512_cvtsepi32_epi8(high), _mm512_cvtsepi32_epi8(low)};
}

struct DigitSums {
  int first, last, high;  // 256 high + low of either half, high of both
};

inline DigitSums add_up(__m256i high, __m256i low) {
  const __m256i ones = _mm256_set1_epi8(1), zero = _mm256_setzero_si256();
  const __m256i highs = _mm256_dpbusd_epi32(zero, ones, high);
  const __m256i both =
      _mm256_add_epi32(_mm256_slli_epi32(highs, 8), _mm256_dpbusd_epi32(zero, ones, low));
  // Lanes 0 and 1 of either half of the register: the sums over it of `both` and of `highs`.
  __m256i sums = _mm256_hadd_epi32(both, highs);
  sums = _mm256_hadd_epi32(sums, sums);
  const __m128i first = _mm256_castsi256_si128(sums), last = _mm256_extracti128_si256(sums, 1);
  return {_mm_cvtsi128_si32(first), _mm_cvtsi128_si32(last),
          _mm_extract_epi32(first, 1) + _mm_extract_epi32(last, 1)};
}

}  // namespace

void quantize_row(const Digits& out, const float* x, int64_t k) {
  for (int64_t b = 0; b < k / kBlock; ++b, x += kBlock) {
    const __m512 first = _mm512_loadu_ps(x), last = _mm512_loadu_ps(x + 16);
    const float max =
        _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(first), _mm512_abs_ps(last)));
    const __m512 inverse = _mm512_set1_ps(max > 0.0f ? 127.0f / max : 0.0f);
    const SplitDigits d0 = split(_mm512_mul_ps(first, inverse));
    const SplitDigits d1 = split(_mm512_mul_ps(last, inverse));
    const __m256i high = _mm256_set_m128i(d1.high, d0.high), low = _mm256_set_m128i(d1.low, d0.low);
    __m256i* const digits = reinterpret_cast<__m256i*>(out.digits + 2 * b * kBlock);
    _mm256_storeu_si256(digits, high);
    _mm256_storeu_si256(digits + 1, low);
    const DigitSums sums = add_up(high, low);
    const float scale = max / (127.0f * 256.0f);
    out.scale[b * out.rows] = scale;
    out.half_sum[b * out.rows] = scale * static_cast<float>(sums.first);
    out.sum[b * out.rows] = scale * static_cast<float>(sums.first + sums.last);
    out.high_sum[b * out.rows] = 256.0f * scale * static_cast<float>(sums.high);
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

}  // namespace vllm_kernels::avx512
