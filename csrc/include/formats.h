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
  kQ8_0 = 8,
  kGgmlBF16 = 30
};

// GGUF quantization block: 32 consecutive columns of one row.
//   Q4_0: f16 d, 16 bytes of nibbles           w = d * (q - 8)      18 bytes
//   Q4_1: f16 d, f16 m, 16 bytes of nibbles    w = d * q + m        20 bytes
//   Q8_0: f16 d, 32 x int8                     w = d * q            34 bytes
// Nibbles: byte j holds column j in its low half and column j + 16 in its high half.
constexpr int64_t kBlock = 32;

static inline int64_t block_bytes(int64_t qtype) {
  switch (qtype) {
    case kQ4_0: return 18;
    case kQ4_1: return 20;
    case kQ8_0: return 34;
    default: return 0;
  }
}

// Interleaved layout of a repacked matrix [n, k]: groups of 16 rows, each a run of k/32 tiles of
// 16 rows x 32 columns, each tile contiguous. Rows beyond n are zero.
//   4 bits: 4 x 64 bytes of nibbles, 16 x f16 scale, 16 x f16 minimum     256 + 32 + 32 = 320 bytes
//   8 bits: 8 x 64 bytes of w + 128 as u8, 16 x f16 scale                       512 + 32 = 544
//   bytes
// 4 bits: byte 64 * s + 4 * r + j holds row r; low half column 4 * s + j, high half 16 columns on.
// 8 bits: byte 64 * s + 4 * r + j holds row r, column 4 * s + j.
// Q4_0 is stored as Q4_1 with minimum -8 * d, which f16 holds exactly (a power of two times d)
// unless |d| > 8188; such a block is refused when repacking.
constexpr int64_t kTileRows = 16;

static inline int64_t tile_bytes(int64_t qtype) { return qtype == kQ8_0 ? 544 : 320; }
static inline int64_t tile_scale_offset(int64_t qtype) { return qtype == kQ8_0 ? 512 : 256; }

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

static inline int64_t dtype_bytes(DType d) { return d == DType::kF32 ? 4 : 2; }

// Element i of a dense buffer, as f32.
static inline float load_element(const void* p, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kF32: return static_cast<const float*>(p)[i];
    case DType::kF16: return f16_to_f32(static_cast<const uint16_t*>(p)[i]);
    default: return bf16_to_f32(static_cast<const uint16_t*>(p)[i]);
  }
}

}  // namespace vllm_kernels
