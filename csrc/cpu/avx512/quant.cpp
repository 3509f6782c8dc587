// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AVX-512 VNNI: activations in two 8-bit digits, weights as they lie in
// memory.
//
// One register holds 16 rows x 4 columns of weights as u8; vpdpbusd multiplies them with 4 signed
// activations broadcast to all rows and adds up, exactly, in the row's 32-bit lane. Eight of them
// are a tile of 32 columns; the sums of the high digits are shifted up by 8 bits and those of the low
// digits added. Per tile and row m of x, with the tile's f16 scales d and minima min:
//   out += (x_scale * d) * sum(q * xq)  +  min * x_sum                  4 bits
//   out += (x_scale * d) * sum((q + 128) * xq)  -  128 * d * x_sum      8 bits
// Integer sums are exact (255 * 127 * 32 * 257 < 2^31) and the f32 additions are in tile order for every m, so that a row's
// result does not depend on how many rows are computed together.

#include "cpu/avx512/quant.h"

#include <immintrin.h>

namespace vllm_kernels::avx512 {
namespace {

// Rows of x per pass: 8 sums, 8 registers of weights, scales and temporaries fit into 32 registers.
constexpr int kPassRows = 8;
// Distance of the software prefetch, beyond what the hardware fetches over a 4 KiB page. Passes of
// 8 rows need it as much as one row does: weights that come from memory (the head's 30 MB) took
// 1.6 times as long without.
constexpr int64_t kPrefetch = 8192;

struct Tile {
  __m512i weights[8];
  __m512 scale, offset;  // of 16 rows; offset is multiplied with x_sum
};

inline __m512 load_halves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline Tile load_q4(const uint8_t* p) {
  const __m512i low_bits = _mm512_set1_epi8(15);
  Tile t;
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    const __m512i bytes = _mm512_loadu_si512(p + 64 * s);
    t.weights[s] = _mm512_and_si512(bytes, low_bits);
    t.weights[4 + s] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low_bits);
  }
  t.scale = load_halves(p + 256);
  t.offset = load_halves(p + 288);
  return t;
}

inline Tile load_q8(const uint8_t* p) {
  Tile t;
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s) t.weights[s] = _mm512_loadu_si512(p + 64 * s);
  t.scale = load_halves(p + 512);
  t.offset = _mm512_mul_ps(t.scale, _mm512_set1_ps(-128.0f));
  return t;
}

// 4 activations in every lane.
inline __m512i spread(const int8_t* x) {
  int v;
  __builtin_memcpy(&v, x, 4);
  return _mm512_set1_epi32(v);
}

// x: 32 high digits, 32 low ones. Two chains, because each vpdpbusd waits for the one before it.
inline __m512i dot(const Tile& t, const int8_t* x) {
  __m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    a = _mm512_dpbusd_epi32(a, t.weights[s], spread(x + 4 * s));
    b = _mm512_dpbusd_epi32(b, t.weights[4 + s], spread(x + 16 + 4 * s));
  }
  a = _mm512_slli_epi32(a, 8);
  b = _mm512_slli_epi32(b, 8);
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    a = _mm512_dpbusd_epi32(a, t.weights[s], spread(x + 32 + 4 * s));
    b = _mm512_dpbusd_epi32(b, t.weights[4 + s], spread(x + 48 + 4 * s));
  }
  return _mm512_add_epi32(a, b);
}

template <bool Q8, int R>
void pass(const QuantLinearArgs& a, int64_t group, int64_t m0) {
  constexpr int64_t bytes = Q8 ? 544 : 320;
  const int64_t tiles = a.k / kBlock;
  const uint8_t* p = a.packed + group * tiles * bytes;
  const int8_t* x = a.xq + 2 * m0 * a.k;
  const float* scale = a.x_scale + m0 * tiles;
  const float* sum = a.x_sum + m0 * tiles;
  __m512 y[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) y[r] = _mm512_setzero_ps();
  for (int64_t t = 0; t < tiles; ++t, p += bytes) {
#pragma GCC unroll 9
    for (int64_t line = 0; line < bytes; line += 64)
      _mm_prefetch(p + kPrefetch + line, _MM_HINT_T0);
    const Tile tile = Q8 ? load_q8(p) : load_q4(p);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const __m512 product = _mm512_cvtepi32_ps(dot(tile, x + 2 * (r * a.k + t * kBlock)));
      const __m512 d = _mm512_mul_ps(tile.scale, _mm512_set1_ps(scale[r * tiles + t]));
      y[r] = _mm512_fmadd_ps(product, d, y[r]);
      y[r] = _mm512_fmadd_ps(tile.offset, _mm512_set1_ps(sum[r * tiles + t]), y[r]);
    }
  }
  const int64_t columns = a.n - group * kTileRows;
  const __mmask16 mask =
      columns >= kTileRows ? 0xffff : static_cast<__mmask16>((1u << columns) - 1u);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    _mm512_mask_storeu_ps(a.out.row(m0 + r) + group * kTileRows, mask, y[r]);
}

template <bool Q8>
void last_pass(const QuantLinearArgs& a, int64_t group, int64_t m, int64_t rows) {
  switch (rows) {
    case 1: return pass<Q8, 1>(a, group, m);
    case 2: return pass<Q8, 2>(a, group, m);
    case 3: return pass<Q8, 3>(a, group, m);
    case 4: return pass<Q8, 4>(a, group, m);
    case 5: return pass<Q8, 5>(a, group, m);
    case 6: return pass<Q8, 6>(a, group, m);
    case 7: return pass<Q8, 7>(a, group, m);
    default: return;
  }
}

template <bool Q8>
void groups(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  for (int64_t g = g0; g < g1; ++g) {
    int64_t m = m0;
    for (; m + kPassRows <= m1; m += kPassRows) pass<Q8, kPassRows>(a, g, m);
    last_pass<Q8>(a, g, m, m1 - m);
  }
}

// Writes the high digits of 16 activations, in steps of the high digit, to q and the low ones 32
// bytes on; returns 256 high + low.
inline __m512i put_digits(int8_t* q, __m512 steps) {
  const __m512i high = _mm512_cvtps_epi32(steps);
  const __m512 rest = _mm512_sub_ps(steps, _mm512_cvtepi32_ps(high));
  __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(rest, _mm512_set1_ps(256.0f)));
  low = _mm512_max_epi32(_mm512_min_epi32(low, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q), _mm512_cvtsepi32_epi8(high));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(q + kBlock), _mm512_cvtsepi32_epi8(low));
  return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
}

}  // namespace

void quantize_row(const float* x, int64_t k, int8_t* q, float* scale, float* sum) {
  for (int64_t b = 0; b < k / kBlock; ++b) {
    const __m512 low = _mm512_loadu_ps(x + b * kBlock), high = _mm512_loadu_ps(x + b * kBlock + 16);
    const float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    const __m512 inverse = _mm512_set1_ps(max > 0.0f ? 127.0f / max : 0.0f);
    const __m512i total = _mm512_add_epi32(put_digits(q + 2 * b * kBlock, _mm512_mul_ps(low, inverse)),
                                           put_digits(q + 2 * b * kBlock + 16,
                                                      _mm512_mul_ps(high, inverse)));
    scale[b] = max / (127.0f * 256.0f);
    sum[b] = scale[b] * static_cast<float>(_mm512_reduce_add_epi32(total));
  }
}

void quant_linear(const QuantLinearArgs& a, int64_t g0, int64_t g1, int64_t m0, int64_t m1) {
  if (a.qtype == kQ8_0)
    groups<true>(a, g0, g1, m0, m1);
  else
    groups<false>(a, g0, g1, m0, m1);
}

}  // namespace vllm_kernels::avx512
