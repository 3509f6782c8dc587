// SPDX-License-Identifier: Apache-2.0

// Runs of packed weights (layouts in formats.h) in AVX2 registers, 8 of the 16 rows at a time: quants
// as u8 (Q8_0: signed), one register for 4 columns of 8 rows, and scales as f32, one lane a row.

#pragma once

#include <immintrin.h>

#include "formats.h"

namespace vllm_kernels::avx2 {
namespace {

// w = scale * quant + offset for rows 8 * half and up of a tile; formats with halves have two of each,
// for columns 0-15 and 16-31.
struct HalfRun {
  __m256i quants[8];
  __m256 scale[2], offset[2];
};

inline __m256i load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

inline __m256 load_halves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

inline __m256 load_unsigned(const uint8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

inline __m256 load_signed(const uint8_t* p) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

// Fifth bits: bit s of each byte to bit 4 of register s.
inline void add_fifth_bits(const uint8_t* p, __m256i* quants) {
  const __m256i bits = load_bytes(p), fifth = _mm256_set1_epi8(16);
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s) {
    const __m256i moved =
        s < 4 ? _mm256_slli_epi16(bits, 4 - s) : _mm256_srli_epi16(bits, s - 4);
    quants[s] = _mm256_or_si256(quants[s], _mm256_and_si256(moved, fifth));
  }
}

// Bits 2 (s % 4) and up of each byte to bits 4 and 5 of register s.
inline void add_sixth_bits(const uint8_t* p, __m256i* quants) {
  const __m256i both = _mm256_set1_epi8(48);
#pragma GCC unroll 8
  for (int s = 0; s < 8; ++s) {
    const __m256i bits = load_bytes(p + s / 4 * 64);
    const int place = 2 * (s % 4);
    const __m256i moved =
        place < 4 ? _mm256_slli_epi16(bits, 4 - place) : _mm256_srli_epi16(bits, place - 4);
    quants[s] = _mm256_or_si256(quants[s], _mm256_and_si256(moved, both));
  }
}

// p: of the first of the 8 rows.
template <int kBits>
inline void load_quants(const uint8_t* p, __m256i* quants) {
  if constexpr (kBits == 8) {
    const __m256i bias = _mm256_set1_epi8(-128);
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s) quants[s] = _mm256_xor_si256(load_bytes(p + 64 * s), bias);
    return;
  }
  const __m256i low_bits = _mm256_set1_epi8(15);
#pragma GCC unroll 4
  for (int s = 0; s < 4; ++s) {
    const __m256i bytes = load_bytes(p + 64 * s);
    quants[s] = _mm256_and_si256(bytes, low_bits);
    quants[4 + s] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_bits);
  }
  if constexpr (kBits == 5) add_fifth_bits(p + 256, quants);
  if constexpr (kBits == 6) add_sixth_bits(p + 256, quants);
}

// `scales` of a block of 32 columns, of the first of the 8 rows.
template <int64_t kType>
inline void load_narrow_scales(const uint8_t* scales, HalfRun& run) {
  run.scale[0] = load_halves(scales);
  run.offset[0] = kType == kQ8_0 ? _mm256_setzero_ps() : load_halves(scales + 32);
}

template <int64_t kType>
inline void load_wide_scales(const uint8_t* header, int64_t index, int64_t half, HalfRun& run) {
  const uint8_t* s = header + 64 + 32 * index + 8 * half;
  const __m256 d = load_halves(header + 16 * half);
  if constexpr (has_halves(kType)) {
    const __m256 middle = _mm256_set1_ps(-32.0f);
    run.scale[0] = _mm256_mul_ps(d, load_signed(s));
    run.scale[1] = _mm256_mul_ps(d, load_signed(s + 16));
    run.offset[0] = _mm256_mul_ps(run.scale[0], middle);
    run.offset[1] = _mm256_mul_ps(run.scale[1], middle);
  } else {
    const __m256 dm = _mm256_sub_ps(_mm256_setzero_ps(), load_halves(header + 32 + 16 * half));
    run.scale[0] = _mm256_mul_ps(d, load_unsigned(s));
    run.offset[0] = _mm256_mul_ps(dm, load_unsigned(s + 16));
  }
}

// Rows 8 * half and up of run `index` of a tile.
template <int64_t kType>
inline HalfRun load_run(const uint8_t* tile, int64_t index, int64_t half) {
  constexpr BlockFormat format = block_format(kType);
  HalfRun run;
  if constexpr (format.columns == 256) {
    const uint8_t* quants = tile + kTileHeader + index * run_bytes(kType);
    load_quants<format.bits>(quants + 32 * half, run.quants);
    load_wide_scales<kType>(tile, index, half, run);
  } else {
    load_quants<format.bits>(tile + 32 * half, run.quants);
    load_narrow_scales<kType>(tile + run_bytes(kType) + 16 * half, run);
  }
  return run;
}

}  // namespace
}  // namespace vllm_kernels::avx2
