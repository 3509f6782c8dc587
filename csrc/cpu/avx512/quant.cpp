// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AVX-512 VNNI: activations in 8-bit digits, weights as they lie in memory.
//
// One register holds 16 rows x 4 columns of weights as u8; vpdpbusd multiplies them with 4 signed
// activations broadcast to all rows and adds up, exactly, in the row's 32-bit lane. Eight of them are
// a run of 32 columns and one digit of each; a low digit that two columns share takes four more, one of
// its own eight. The sums of high digits are shifted up by 8 bits and those of low ones added. Per run and
// row of x, w being scale * quant + offset:
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

// Two parts of the sums over a run of one digit of x: of either half of its columns, unless the low digit
// is shared.
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

// The low digits x of columns c and 16 + c. They have a sum of their own, so that they need not wait for
// the high ones.
inline void add_shared_digit(const Run& run, const int8_t* x, Sums& sums) {
  sums.half[0] = _mm512_slli_epi32(_mm512_add_epi32(sums.half[0], sums.half[1]), 8);
  sums.half[1] = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s)
    sums.half[1] = _mm512_dpbusd_epi32(sums.half[1], run.bytes[s], spread(x + 4 * s));
}

template <int G>
inline void add_low_digit(const Run (&runs)[G], const int8_t* x, Sums (&sums)[G]) {
#pragma GCC unroll 2
  for (int g = 0; g < G; ++g) {
    sums[g].half[0] = _mm512_slli_epi32(sums[g].half[0], 8);
    sums[g].half[1] = _mm512_slli_epi32(sums[g].half[1], 8);
  }
  add_digit<G>(runs, x, sums);
}

// G groups of rows of weights, R rows of x from row m.
template <int64_t kType, DigitForm kForm, int G, int R>
struct Pass {
  const QuantLinearArgs& a;
  const Digits& xq;
  int64_t group, m;
  __m512 y[R][G];

  // Block `block` of x against one run of each group.
  inline __attribute__((always_inline)) void add_block(const Run (&runs)[G], int64_t block) {
    const int64_t blocks = a.k / kBlock;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int64_t at = block * xq.rows + m + r;
      const int8_t* x = xq.digits + digit_bytes(kForm) * ((m + r) * blocks + block);
      Sums sums[G];
#pragma GCC unroll 2
      for (int g = 0; g < G; ++g) sums[g].half[0] = sums[g].half[1] = _mm512_setzero_si512();
      add_digit<G>(runs, x, sums);
      if constexpr (kForm == DigitForm::kTwo) add_low_digit<G>(runs, x + kBlock, sums);
      if constexpr (kForm == DigitForm::kShared)
#pragma GCC unroll 2
        for (int g = 0; g < G; ++g) add_shared_digit(runs[g], x + kBlock, sums[g]);
#pragma GCC unroll 2
      for (int g = 0; g < G; ++g) y[r][g] = scaled(y[r][g], runs[g], sums[g], at);
    }
  }

  inline __attribute__((always_inline)) __m512 scaled(__m512 sum, const Run& run, const Sums& sums,
                                                      int64_t at) const {
    const __m512 x_scale = _mm512_set1_ps(xq.scale[at]);
    if constexpr (has_halves(kType)) {
      const float first = xq.half_sum[at], last = xq.sum[at] - first;
      const __m512 low = _mm512_mul_ps(run.scale[0], x_scale);
      const __m512 high = _mm512_mul_ps(run.scale[1], x_scale);
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.half[0]), low, sum);
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums.half[1]), high, sum);
      sum = _mm512_fmadd_ps(run.offset[0], _mm512_set1_ps(first), sum);
      return _mm512_fmadd_ps(run.offset[1], _mm512_set1_ps(last), sum);
    }
    const __m512i total = _mm512_add_epi32(sums.half[0], sums.half[1]);
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(run.scale[0], x_scale), sum);
    return _mm512_fmadd_ps(run.offset[0], _mm512_set1_ps(xq.sum[at]), sum);
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

// `fetch`: whether weights are to be prefetched, as the first pass over them does.
template <int64_t kType, DigitForm kForm, int G, int R>
void pass(const QuantLinearArgs& a, int64_t group, int64_t m, bool fetch) {
  constexpr int64_t bytes = tile_bytes(kType), runs = block_format(kType).columns / kBlock;
  const int64_t tiles = a.k / kBlock / runs;
  const uint8_t* tile = a.packed + group * tiles * bytes;
  Pass<kType, kForm, G, R> p{a, kForm == DigitForm::kOne ? a.one : a.fine, group, m, {}};
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int g = 0; g < G; ++g) p.y[r][g] = _mm512_setzero_ps();
  for (int64_t t = 0; t < tiles; ++t, tile += bytes)
    for (int64_t index = 0; index < runs; ++index) {
      Run weights[G];
#pragma GCC unroll 2
      for (int g = 0; g < G; ++g) {
        if (fetch) prefetch_run<kType>(tile + g * tiles * bytes, index);
        weights[g] = load_run<kType>(tile + g * tiles * bytes, index);
      }
      p.add_block(weights, t * runs + index);
    }
  p.store();
}

template <int64_t kType, DigitForm kForm>
void last_pass(const QuantLinearArgs& a, int64_t group, int64_t m, int64_t rows, bool fetch) {
  switch (rows) {
    case 1: return pass<kType, kForm, 1, 1>(a, group, m, fetch);
    case 2: return pass<kType, kForm, 1, 2>(a, group, m, fetch);
    case 3: return pass<kType, kForm, 1, 3>(a, group, m, fetch);
    case 4: return pass<kType, kForm, 1, 4>(a, group, m, fetch);
    case 5: return pass<kType, kForm, 1, 5>(a, group, m, fetch);
    case 6: return pass<kType, kForm, 1, 6>(a, group, m, fetch);
    case 7: return pass<kType, kForm, 1, 7>(a, group, m, fetch);
    default: return;
  }
}

// Rows m0..m1 in passes of 8: their sums, 8 or 12 registers of weights, scales and temporaries fit into 32.
template <int64_t kType, DigitForm kForm>
void groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g) {
    int64_t m = m0;
    for (; m + 8 <= m1; m += 8) pass<kType, kForm, 1, 8>(a, g, m, m == m0);
    last_pass<kType, kForm>(a, g, m, m1 - m, m == m0);
  }
}

// One digit: two groups at a time by 4 rows, since loads of x would be the limit, not products.
template <int64_t kType>
void coarse_groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  constexpr DigitForm kForm = DigitForm::kOne;
  const int64_t even = g0 + (g1 - g0) / 2 * 2, whole = m0 + (m1 - m0) / 4 * 4;
  for (int64_t g = g0; g < even; g += 2) {
    for (int64_t m = m0; m < whole; m += 4) pass<kType, kForm, 2, 4>(a, g, m, m == m0);
    groups<kType, kForm>(a, g, g + 2, whole, m1);
  }
  groups<kType, kForm>(a, even, g1, m0, m1);
}

// The groups that see one digit, then the others.
template <int64_t kType>
void linear_as(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  const int64_t coarse = (a.coarse + kTileRows - 1) / kTileRows, end = coarse < g1 ? coarse : g1;
  if constexpr (!has_halves(kType))
    if (g0 < end) coarse_groups<kType>(a, g0, end, m0, m1);
  groups<kType, fine_form(kType)>(a, g0 < end ? end : g0, g1, m0, m1);
}

}  // namespace

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
