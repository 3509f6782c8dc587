// SPDX-License-Identifier: Apache-2.0

// Number formats that kernels read and write: f16, bf16 and the GGUF blocks. Owns the bit layouts
// and their arithmetic; knows no kernel, no ISA and no framework. Everything here has internal
// linkage, because the same header is compiled with different ISA flags in different files.

#pragma once

#include <stdint.h>
#include <string.h>

namespace vllm_kernels {

// Element type of a dense buffer.
enum class DType : int { kF32 = 0, kF16 = 1, kBF16 = 2 };

// GGML type numbers (ggml.h, enum ggml_type), as they stand in a GGUF tensor table.
enum QType : int64_t {
  kGgmlF32 = 0,
  kGgmlF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kGgmlBF16 = 30
};

// Columns that share one scale of the activations, and that kernels compute as one run.
constexpr int64_t kBlock = 32;

// GGUF quantization block: consecutive columns of one row (ggml-common.h).
//   32 columns
//     Q4_0: f16 d, 16 bytes of nibbles                    w = d * (q - 8)      18 bytes
//     Q4_1: f16 d, f16 m, 16 bytes of nibbles             w = d * q + m        20
//     Q5_0: f16 d, 32 fifth bits, 16 bytes of nibbles     w = d * (q - 16)     22
//     Q5_1: f16 d, f16 m, 32 fifth bits, nibbles          w = d * q + m        24
//     Q8_0: f16 d, 32 x int8                              w = d * q            34
//     Nibbles: byte j holds column j in its low half and column j + 16 in its high half.
//   256 columns, each run of 32 (Q6_K: of 16) with an integer scale s of its own, and a minimum
//     Q4_K: f16 d, f16 dm, 12 bytes of s and m (6 bits each), 128 bytes of nibbles   144
//     Q5_K: the same, then 32 bytes of fifth bits before the nibbles                 176
//           w = d * s * q - dm * m
//     Q6_K: 128 bytes of low bits, 64 of bits five and six, 16 x int8 s, f16 d       210
//           w = d * s * (q - 32)
struct BlockFormat {
  int64_t columns, bytes;
  int bits;      // of a quant
  bool has_min;  // w = scale * q + minimum with a minimum of the file's own
};

static constexpr BlockFormat block_format(int64_t qtype) {
  switch (qtype) {
    case kQ4_0: return {32, 18, 4, false};
    case kQ4_1: return {32, 20, 4, true};
    case kQ5_0: return {32, 22, 5, false};
    case kQ5_1: return {32, 24, 5, true};
    case kQ8_0: return {32, 34, 8, false};
    case kQ4_K: return {256, 144, 4, true};
    case kQ5_K: return {256, 176, 5, true};
    case kQ6_K: return {256, 210, 6, false};
    default: return {0, 0, 0, false};
  }
}

// Whether the first and the last 16 columns of a run have scales of their own.
static constexpr bool has_halves(int64_t qtype) { return qtype == kQ6_K; }

static constexpr bool is_quantized(int64_t qtype) { return block_format(qtype).bytes > 0; }

// Interleaved layout of a repacked matrix [n, k]: groups of 16 rows, each a row of tiles of 16 rows x
// one block, each tile contiguous. Rows beyond n are zero.
//
//   quants of a run of 32 columns:
//     4 x 64 bytes of nibbles: byte 64 * s + 4 * r + j holds row r; low half column 4 * s + j, high
//     half 16 columns on. 5 bits: 64 bytes more, byte 4 * r + j; bit s < 4 is the fifth bit of
//     column 4 * s + j, bit s >= 4 that of column 16 + 4 * (s - 4) + j. 6 bits: 2 x 64 bytes, bits 2
//     * (s % 4) and up of byte 64 * (s / 4) + 4 * r + j are bits five and six of the same columns.
//     8 bits: 8 x 64 bytes of w + 128 as u8, byte 64 * s + 4 * r + j holds row r, column 4 * s + j.
//   blocks of 32 columns: quants, 16 x f16 scale, 16 x f16 minimum (not Q8_0)
//     Q4 256 + 64 = 320 bytes, Q5 320 + 64 = 384, Q8_0 512 + 32 = 544
//   blocks of 256 columns: 16 x f16 d, 16 x f16 dm (Q6_K: zeros), 8 x (16 bytes of s, 16 of m) or,
//     in Q6_K, 8 x (16 x int8 s of the first 16 columns of the run, 16 of the last); 8 x quants
//     Q4_K 320 + 8 * 256 = 2,368 bytes, Q5_K 320 + 8 * 320 = 2,880, Q6_K 320 + 8 * 384 = 3,392
// Q4_0 is stored as Q4_1 with minimum -8 * d and Q5_0 as Q5_1 with -16 * d, which f16 holds exactly
// (a power of two times d) unless |d| > 8188 or 4094; such a block is refused when repacking.
constexpr int64_t kTileRows = 16;
constexpr int64_t kTileHeader = 320;  // of tiles of 256 columns

static constexpr int64_t run_bytes(int64_t qtype) {
  const int bits = block_format(qtype).bits;
  return bits == 8 ? 512 : 256 + 64 * (bits - 4);
}

static constexpr int64_t tile_bytes(int64_t qtype) {
  if (block_format(qtype).columns == 256) return kTileHeader + 8 * run_bytes(qtype);
  return run_bytes(qtype) + (qtype == kQ8_0 ? 32 : 64);
}

// Bytes of a repacked matrix [n, k].
static constexpr int64_t packed_bytes(int64_t qtype, int64_t n, int64_t k) {
  return (n + kTileRows - 1) / kTileRows * (k / block_format(qtype).columns) * tile_bytes(qtype);
}

static inline float bf16_to_f32(uint16_t h) {
  const uint32_t bits = static_cast<uint32_t>(h) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

// Rounds to nearest even; NaN stays a quiet NaN.
static inline uint16_t f32_to_bf16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// IEEE 754 binary16, subnormals included: a normal number gets its exponent re-biased by
// 127 - 15 = 112; a subnormal one is its mantissa times 2^-24.
static inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1fu;
  const uint32_t mantissa = h & 0x3ffu;
  float f;
  if (exponent == 0) {
    f = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -f : f;
  }
  const uint32_t biased = exponent == 31 ? 255u : exponent + 112u;
  const uint32_t bits = sign | (biased << 23) | (mantissa << 13);
  memcpy(&f, &bits, 4);
  return f;
}

static inline uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return v;
}

static constexpr int64_t dtype_bytes(DType d) { return d == DType::kF32 ? 4 : 2; }

// Interleaved layout of a dense matrix [n, k]: tiles of 32 rows, one behind the other. A tile is a run
// of units, each one column (bf16: two) of all 32 rows: [n / 32, units, 32, columns of a unit], both
// divisions rounded up. Rows beyond n and the second column of an odd bf16 k are zero.
//   f32: 128 bytes a unit    f16: 64    bf16: 128, a 32-bit word being a row's pair of columns
constexpr int64_t kDenseRows = 32;

static constexpr int64_t unit_columns(DType d) { return d == DType::kBF16 ? 2 : 1; }
static constexpr int64_t unit_bytes(DType d) { return kDenseRows * unit_columns(d) * dtype_bytes(d); }
static constexpr int64_t dense_tiles(int64_t n) { return (n + kDenseRows - 1) / kDenseRows; }
static constexpr int64_t dense_units(DType d, int64_t k) {
  return (k + unit_columns(d) - 1) / unit_columns(d);
}

// Element i of a dense buffer, as f32.
static inline float load_element(const void* p, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32: return static_cast<const float*>(p)[i];
    case DType::kF16: return f16_to_f32(static_cast<const uint16_t*>(p)[i]);
    default: return bf16_to_f32(static_cast<const uint16_t*>(p)[i]);
  }
}

}  // namespace vllm_kernels
