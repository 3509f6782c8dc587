// SPDX-License-Identifier: Apache-2.0
//
// Owns: reading repacked quantized weights (layout in include/formats.h) as operands of the tensor
// cores. Must not know: what they are multiplied with.
//
// A tile's 16 rows are the 16 rows of an mma: row 2 g of the tile is row g of the operand, row 2 g + 1
// is row g + 8, so that lane 4 g + t finds both side by side. Of a run of 32 columns, the low halves of
// its bytes are columns 4 t ... 4 t + 3, the high ones 16 columns more: two steps of 16 columns, whose
// columns 2 t, 2 t + 1, 2 t + 8, 2 t + 9 are 4 t ... 4 t + 3 (a sum takes its columns in any order, if
// both operands take the same one). A warp reads a run's nibbles as 256 bytes in a row.
//
// Quants are integers up to 255 and hence exact in bfloat16. Sums of a run are formed of them, then
// multiplied with its scale: no weight is ever rounded.
#pragma once

#include "formats.h"
#include "linear_shape.cuh"
#include "mma.cuh"

namespace vllm_kernels::cuda {

template <int Q>
struct Packed {
  static constexpr BlockFormat kFormat = block_format(Q);
  static constexpr int kColumns = static_cast<int>(kFormat.columns);
  static constexpr int kBits = kFormat.bits;
  static constexpr bool kWide = kColumns == 256;
  static constexpr int kRunBytes = static_cast<int>(run_bytes(Q));
  static constexpr int kTileBytes = static_cast<int>(tile_bytes(Q));
  static constexpr int kHeader = static_cast<int>(kTileHeader);
  static constexpr int kRunsPerTile = kColumns / 32;
  // Formats with a minimum, given or stored in place of the middle of the range.
  static constexpr bool kHasMinimum = Q != kQ8_0 && Q != kQ6_K;
  // The two halves of a run have scales of their own.
  static constexpr bool kRowScales = false;
  static constexpr bool kTwoScales = Q == kQ6_K;
  // What a quant stands for is less by this.
  static constexpr int kMiddle = Q == kQ8_0 ? 128 : Q == kQ6_K ? 32 : 0;
  static constexpr int kHighWords = kBits == 5 ? 2 : kBits == 6 ? 4 : 0;
};

// One lane's share of a run as it lies in memory.
template <int Q>
struct RawRun {
  unsigned low[Packed<Q>::kBits == 8 ? 4 : 2];                        // rows 2 g, 2 g + 1
  unsigned high[Packed<Q>::kHighWords == 0 ? 1 : Packed<Q>::kHighWords];  // bits five and six
  unsigned scale;         // float16 of both rows
  unsigned minimum;       // likewise
  unsigned short steps[2];  // integer scales and minima (Q6_K: of either half) of both rows
};

__device__ inline void load_words(const std::uint8_t* from, unsigned& first, unsigned& second) {
  const uint2 pair = *reinterpret_cast<const uint2*>(from);
  first = pair.x;
  second = pair.y;
}

__device__ inline unsigned load_word(const std::uint8_t* from) {
  return *reinterpret_cast<const unsigned*>(from);
}

// `group`: the first tile of 16 rows.
template <int Q>
__device__ RawRun<Q> load_run(const std::uint8_t* group, int run) {
  using P = Packed<Q>;
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const std::uint8_t* tile = group + static_cast<std::int64_t>(run / P::kRunsPerTile) * P::kTileBytes;
  const int index = run % P::kRunsPerTile;
  const std::uint8_t* quants = tile + (P::kWide ? P::kHeader + index * P::kRunBytes : 0);
  const std::uint8_t* scales = tile + (P::kWide ? 0 : P::kRunBytes);
  RawRun<Q> raw{};
  load_words(quants + 64 * t + 8 * g, raw.low[0], raw.low[1]);
  if constexpr (P::kBits == 8) load_words(quants + 256 + 64 * t + 8 * g, raw.low[2], raw.low[3]);
  if constexpr (P::kHighWords >= 2) load_words(quants + 256 + 8 * g, raw.high[0], raw.high[1]);
  if constexpr (P::kHighWords == 4) load_words(quants + 320 + 8 * g, raw.high[2], raw.high[3]);
  raw.scale = load_word(scales + 4 * g);
  if constexpr (P::kHasMinimum) raw.minimum = load_word(scales + 32 + 4 * g);
  if constexpr (P::kWide) {
    const std::uint8_t* steps = tile + 64 + 32 * index + 2 * g;
    raw.steps[0] = *reinterpret_cast<const unsigned short*>(steps);
    raw.steps[1] = *reinterpret_cast<const unsigned short*>(steps + 16);
  }
  return raw;
}

// Four quants of row `row` (0 or 1) and half `half` (0: columns below 16), one a byte.
template <int Q>
__device__ unsigned quants_of(const RawRun<Q>& raw, int row, int half) {
  using P = Packed<Q>;
  const int t = threadIdx.x % 4;
  if constexpr (P::kBits == 8) return raw.low[2 * half + row];
  unsigned quants = raw.low[row] >> (4 * half) & 0x0f0f0f0fu;
  if constexpr (P::kBits == 5) quants |= (raw.high[row] >> (4 * half + t) & 0x01010101u) << 4;
  if constexpr (P::kBits == 6) quants |= (raw.high[2 * half + row] >> (2 * t) & 0x03030303u) << 4;
  return quants;
}

__device__ inline unsigned subtract(unsigned a, unsigned b) {
  __nv_bfloat162 x, y;
  memcpy(&x, &a, sizeof(x));
  memcpy(&y, &b, sizeof(y));
  return bits_of(__hsub2(x, y));
}

// Bytes 0 and 1 (`selector` 0x4140) or 2 and 3 (0x4342) of `quants`, each below a byte 0x43: the
// bfloat16 of 128 + q for q < 128.
__device__ inline unsigned above_128(unsigned quants, unsigned selector) {
  return __byte_perm(quants, 0x43434343u, selector);
}

// q - kMiddle of four quants. q may have eight bits: then 128 + (q mod 128) less 128 or 256.
template <int Q>
__device__ void widen(unsigned (&pairs)[2], unsigned quants) {
  constexpr unsigned kSelectors[2] = {0x4140u, 0x4342u};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if constexpr (Packed<Q>::kBits == 8) {
      const unsigned base = above_128(~quants & 0x80808080u, kSelectors[i]);
      pairs[i] = subtract(above_128(quants & 0x7f7f7f7fu, kSelectors[i]), base);
    } else {
      constexpr unsigned kBase = 0x4300u + Packed<Q>::kMiddle;  // 128 + kMiddle
      pairs[i] = subtract(above_128(quants, kSelectors[i]), kBase * 0x10001u);
    }
  }
}

// The operand of columns 16 * half ... of the run.
template <int Q>
__device__ void operand(unsigned (&a)[4], const RawRun<Q>& raw, int half) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    unsigned pairs[2];
    widen<Q>(pairs, quants_of(raw, row, half));
    a[row] = pairs[0];
    a[row + 2] = pairs[1];
  }
}

__device__ inline float half_of(unsigned pair, int index) {
  const unsigned short bits = static_cast<unsigned short>(pair >> (16 * index));
  __half value;
  memcpy(&value, &bits, sizeof(value));
  return __half2float(value);
}

template <int Q>
__device__ RunScales scales_of(const RawRun<Q>& raw, int row) {
  using P = Packed<Q>;
  const float d = half_of(raw.scale, row);
  if constexpr (!P::kWide) return {{d, d}, P::kHasMinimum ? half_of(raw.minimum, row) : 0.0f};
  const int first = raw.steps[0] >> (8 * row) & 255, second = raw.steps[1] >> (8 * row) & 255;
  if constexpr (P::kTwoScales) {
    return {{d * static_cast<signed char>(first), d * static_cast<signed char>(second)}, 0.0f};
  }
  return {{d * first, d * first}, -half_of(raw.minimum, row) * second};
}

// Weights as quant_linear's kernel takes them.
template <int Q>
struct PackedWeights {
  using Element = __nv_bfloat16;
  using Raw = RawRun<Q>;
  static constexpr int kDigits = 1;
  static constexpr int kUnit = 4;  // runs that a warp loads before it multiplies: 1 KiB of 4 bits
  static constexpr bool kHasScale = true;
  static constexpr bool kHasMinimum = Packed<Q>::kHasMinimum;
  static constexpr bool kRowScales = false;
  static constexpr bool kTwoScales = Packed<Q>::kTwoScales;

  static __device__ Raw load(const std::uint8_t* matrix, int group, int run,
                             const LinearShape& shape) {
    const std::int64_t bytes =
        static_cast<std::int64_t>(shape.k / Packed<Q>::kColumns) * Packed<Q>::kTileBytes;
    return load_run<Q>(matrix + group * bytes, run);
  }
  static __device__ void operand(unsigned (&a)[1][4], const Raw& raw, int half) {
    vllm_kernels::cuda::operand<Q>(a[0], raw, half);
  }
  static __device__ RunScales scales(const Raw& raw, int row) { return scales_of(raw, row); }
};

}  // namespace vllm_kernels::cuda
