// SPDX-License-Identifier: Apache-2.0

// Runs of packed weights (16 rows x 32 columns, layouts in formats.h) in AVX-512 registers: quants as
// u8, one register for 4 columns of all rows, and scales as f32, one lane a row.

#pragma once

#include <immintrin.h>

#include "formats.h"

namespace vllm_kernels::avx512 {
namespace {

// w = scale * quant + offset; `halves` formats have two of each, for columns 0-15 and 16-31. Of 4 bits
// `bytes` are the quants of columns c and 16 + c as they lie in memory.
struct Run {
  __m512i quants[8], bytes[4];
  __m512 scale[2], offset[2];
};

inline __m512 load_halves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

inline __m512 load_unsigned(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

inline __m512 load_signed(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

// Fifth bits: bit s of each byte to bit 4 of register s.
inline void add_fifth_bits(const uint8_t* p, __m512i* quants) {
  const __m512i bits = _mm512_loadu_si512(p), fifth = _mm512_set1_epi8(16);
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s) {
    const __m512i moved =
        s < 4 ? _mm512_slli_epi16(bits, 4 - s) : _mm512_srli_epi16(bits, s - 4);
    quants[s] = _mm512_or_si512(quants[s], _mm512_and_si512(moved, fifth));
  }
}

// Bits 2 (s % 4) and up of each byte to bits 4 and 5 of register s.
inline void add_sixth_bits(const uint8_t* p, __m512i* quants) {
  const __m512i both = _mm512_set1_epi8(48);
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s) {
    const __m512i bits = _mm512_loadu_si512(p + s / 4 * 64);
    const int place = 2 * (s % 4);
    const __m512i moved =
        place < 4 ? _mm512_slli_epi16(bits, 4 - place) : _mm512_srli_epi16(bits, place - 4);
    quants[s] = _mm512_or_si512(quants[s], _mm512_and_si512(moved, both));
  }
}

template <int kBits>
inline void load_quants(const uint8_t* p, __m512i* quants, __m512i* bytes) {
  if constexpr (kBits == 8) {
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s) quants[s] = _mm512_loadu_si512(p + 64 * s);
    return;
  }
  const __m512i low_bits = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    bytes[s] = _mm512_loadu_si512(p + 64 * s);
    quants[s] = _mm512_and_si512(bytes[s], low_bits);
    quants[4 + s] = _mm512_and_si512(_mm512_srli_epi16(bytes[s], 4), low_bits);
  }
  if constexpr (kBits == 5) add_fifth_bits(p + 256, quants);
  if constexpr (kBits == 6) add_sixth_bits(p + 256, quants);
}

// `scales` follow the quants of a block of 32 columns.
template <int64_t kType>
inline void load_narrow_scales(const uint8_t* scales, Run& run) {
  run.scale[0] = load_halves(scales);
  run.offset[0] = kType == kQ8_0 ? _mm512_mul_ps(run.scale[0], _mm512_set1_ps(-128.0f))
                                 : load_halves(scales + 32);
}

template <int64_t kType>
inline void load_wide_scales(const uint8_t* header, int64_t index, Run& run) {
  const uint8_t* s = header + 64 + 32 * index;
  const __m512 d = load_halves(header);
  if constexpr (has_halves(kType)) {
    const __m512 middle = _mm512_set1_ps(-32.0f);
    run.scale[0] = _mm512_mul_ps(d, load_signed(s));
    run.scale[1] = _mm512_mul_ps(d, load_signed(s + 16));
    run.offset[0] = _mm512_mul_ps(run.scale[0], middle);
    run.offset[1] = _mm512_mul_ps(run.scale[1], middle);
  } else {
    const __m512 dm = _mm512_sub_ps(_mm512_setzero_ps(), load_halves(header + 32));
    run.scale[0] = _mm512_mul_ps(d, load_unsigned(s));
    run.offset[0] = _mm512_mul_ps(dm, load_unsigned(s + 16));
  }
}

// Run `index` of a tile.
template <int64_t kType>
inline Run load_run(const uint8_t* tile, int64_t index) {
  constexpr BlockFormat format = block_format(kType);
  Run run;
  if constexpr (format.columns == 256) {
    load_quants<format.bits>(tile + kTileHeader + index * run_bytes(kType), run.quants, run.bytes);
    load_wide_scales<kType>(tile, index, run);
  } else {
    load_quants<format.bits>(tile, run.quants, run.bytes);
    load_narrow_scales<kType>(tile + run_bytes(kType), run);
  }
  return run;
}

}  // namespace
}  // namespace vllm_kernels::avx512
