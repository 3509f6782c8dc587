// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AVX2: activations in 8-bit digits, weights as they lie in memory. The formulas
// are those of cpu/avx512/quant.cpp; here a run is computed in two halves of 8 rows, since a
// register holds 8 rows x 4 columns of weights.
//
// vpmaddubsw adds two products u8 x s8 in 16 bits, saturating at 32,767, so only a few are added up
// before they are widened. 4 bits: 15 * 128 * 2 = 3,840 each, eight fit; 5 bits: 7,874, four; 6 bits:
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

// The low digits of columns c and 16 + c, 16 of them. A product with a whole byte of weights would not
// fit into 16 bits; taken apart it gives the same integers.
inline __m256i dot_shared(const HalfRun& run, const int8_t* x) {
  const __m256i first = dot_part<4, 0, 4>(run, x), last = dot_part<4, 4, 4>(run, x - 16);
  return _mm256_add_epi32(first, _mm256_slli_epi32(last, 4));
}

// x: digits of a block. Exact: 128 * 127 * 32 * 257 < 2^31.
template <int kBits, DigitForm kForm, int kFirst, int kCount>
inline __m256 dot(const HalfRun& run, const int8_t* x) {
  __m256i sum = dot_part<kBits, kFirst, kCount>(run, x);
  if constexpr (kForm != DigitForm::kOne) sum = _mm256_slli_epi32(sum, 8);
  if constexpr (kForm == DigitForm::kTwo)
    sum = _mm256_add_epi32(sum, dot_part<kBits, kFirst, kCount>(run, x + kBlock));
  if constexpr (kForm == DigitForm::kShared)
    sum = _mm256_add_epi32(sum, dot_shared(run, x + kBlock));
  return _mm256_cvtepi32_ps(sum);
}

// sum + one run against block `block` of row m of x.
template <int64_t kType, DigitForm kForm>
inline __m256 add_block(__m256 sum, const QuantLinearArgs& a, const HalfRun& run, int64_t m,
                        int64_t block) {
  constexpr int kBits = block_format(kType).bits;
  const Digits& xq = kForm == DigitForm::kOne ? a.one : a.fine;
  const int8_t* x = xq.digits + digit_bytes(kForm) * (m * (a.k / kBlock) + block);
  const int64_t at = block * xq.rows + m;
  const __m256 x_scale = _mm256_set1_ps(xq.scale[at]);
  const __m256 scale = _mm256_mul_ps(run.scale[0], x_scale);
  if constexpr (has_halves(kType)) {
    const float first = xq.half_sum[at], last = xq.sum[at] - first;
    const __m256 scale1 = _mm256_mul_ps(run.scale[1], x_scale);
    sum = _mm256_fmadd_ps(dot<kBits, kForm, 0, 4>(run, x), scale, sum);
    sum = _mm256_fmadd_ps(dot<kBits, kForm, 4, 4>(run, x), scale1, sum);
    sum = _mm256_fmadd_ps(run.offset[0], _mm256_set1_ps(first), sum);
    return _mm256_fmadd_ps(run.offset[1], _mm256_set1_ps(last), sum);
  }
  sum = _mm256_fmadd_ps(dot<kBits, kForm, 0, 8>(run, x), scale, sum);
  if constexpr (kBits == 8) return sum;
  return _mm256_fmadd_ps(run.offset[0], _mm256_set1_ps(xq.sum[at]), sum);
}

// Stores 8 columns from `column` of a row that has n.
inline void store_columns(float* row, int64_t column, int64_t n, __m256 v) {
  if (column + 8 <= n) return _mm256_storeu_ps(row + column, v);
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, v);
  for (int64_t i = 0; column + i < n; ++i) row[column + i] = lanes[i];
}

template <int64_t kType, DigitForm kForm, int R>
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
        y[r] = add_block<kType, kForm>(y[r], a, run, m + r, t * runs + index);
    }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
    store_columns(a.out.row(m + r), group * kTileRows + 8 * half, a.n, y[r]);
}

template <int64_t kType, DigitForm kForm>
void groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g)
    for (int64_t half = 0; half < 2; ++half) {
      int64_t m = m0;
      for (; m + kPassRows <= m1; m += kPassRows) pass<kType, kForm, kPassRows>(a, g, half, m);
      for (; m < m1; ++m) pass<kType, kForm, 1>(a, g, half, m);
    }
}

// The groups that see one digit, then the others.
template <int64_t kType>
void linear_as(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  const int64_t coarse = (a.coarse + kTileRows - 1) / kTileRows, end = coarse < g1 ? coarse : g1;
  if constexpr (!has_halves(kType))
    if (g0 < end) groups<kType, DigitForm::kOne>(a, g0, end, m0, m1);
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

}  // namespace vllm_kernels::avx2
