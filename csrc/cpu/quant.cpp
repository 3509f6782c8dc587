// SPDX-License-Identifier: Apache-2.0

// Quantized weights: repacking, the linear layer over threads, and widening back to f32.

#include <algorithm>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

constexpr int64_t kRowPiece = 128;
// Bytes of weights that are worth another thread: 16 KiB take about 1 us at 16 GB/s.
constexpr int64_t kMinBytes = 16384;

// Exact for the values it is used on, eight times an f16 (formats.h).
uint16_t exact_f16(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = std::fabs(f);
  if (magnitude < 6.103515625e-05f)  // 2^-14: subnormal, in units of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(magnitude * 16777216.0f));
  return static_cast<uint16_t>(sign | ((((bits >> 23) & 0xffu) - 112u) << 10) |
                               ((bits >> 13) & 0x3ffu));
}

uint16_t q4_0_minimum(uint16_t d, int64_t row, int64_t block) {
  const float min = -8.0f * f16_to_f32(d);
  if (!(std::fabs(min) <= 65504.0f))
    throw std::runtime_error("quant_repack: Q4_0 scale " + std::to_string(f16_to_f32(d)) +
                             " in row " + std::to_string(row) + ", block " + std::to_string(block) +
                             " is outside +-8188; the weights are damaged");
  return exact_f16(min);
}

void put_u16(uint8_t* p, uint16_t v) { memcpy(p, &v, 2); }

// One GGUF block into row r of a tile; layouts in formats.h.
void pack_block(uint8_t* tile, const uint8_t* block, int64_t qtype, int64_t r, int64_t row,
                int64_t index) {
  uint8_t* scales = tile + tile_scale_offset(qtype) + 2 * r;
  const uint16_t d = load_u16(block);
  put_u16(scales, d);
  if (qtype == kQ8_0) {
    for (int64_t c = 0; c < kBlock; ++c)
      tile[c / 4 * 64 + r * 4 + c % 4] = static_cast<uint8_t>(block[2 + c] ^ 0x80u);
    return;
  }
  const bool has_min = qtype == kQ4_1;
  put_u16(scales + 2 * kTileRows, has_min ? load_u16(block + 2) : q4_0_minimum(d, row, index));
  const uint8_t* nibbles = block + (has_min ? 4 : 2);
  for (int64_t c = 0; c < 16; ++c) tile[c / 4 * 64 + r * 4 + c % 4] = nibbles[c];
}

void pack_group(uint8_t* packed, const uint8_t* raw, int64_t qtype, int64_t n, int64_t k,
                int64_t g) {
  const int64_t tiles = k / kBlock, bytes = block_bytes(qtype);
  uint8_t* first = packed + g * tiles * tile_bytes(qtype);
  memset(first, 0, static_cast<size_t>(tiles * tile_bytes(qtype)));
  const int64_t rows = std::min(kTileRows, n - g * kTileRows);
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t row = g * kTileRows + r;
      pack_block(first + t * tile_bytes(qtype), raw + (row * tiles + t) * bytes, qtype, r, row, t);
    }
}

// Quantized activations of the op in progress in this thread; kept, because every layer needs them
// again. 64-byte alignment lets kernels load whole cache lines.
struct Activations {
  std::unique_ptr<uint8_t[]> memory;
  size_t capacity = 0;

  uint8_t* reserve(size_t bytes) {
    if (bytes + 64 > capacity) {
      memory.reset(new uint8_t[bytes + 64]);
      capacity = bytes + 64;
    }
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory.get());
    return memory.get() + (64 - address % 64) % 64;
  }
};

void quantize_activations(QuantLinearArgs& a) {
  static thread_local Activations buffer;
  const int64_t blocks = a.k / kBlock, count = a.m * blocks;
  const int64_t quant_bytes = (2 * a.m * a.k + 63) / 64 * 64;
  uint8_t* const memory = buffer.reserve(static_cast<size_t>(quant_bytes + 2 * count * 4));
  int8_t* const q = reinterpret_cast<int8_t*>(memory);
  float* const scale = reinterpret_cast<float*>(memory + quant_bytes);
  float* const sum = scale + count;
  const auto kernel = kernels().quantize_row;
  parallel_for(a.m, balanced_grain(a.m, 16384 / a.k + 1), [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m)
      kernel(a.x.row(m), a.k, q + 2 * m * a.k, scale + m * blocks, sum + m * blocks);
  });
  a.xq = q;
  a.x_scale = scale;
  a.x_sum = sum;
}

void dequantize_block(float* out, const uint8_t* block, int64_t qtype) {
  const float d = f16_to_f32(load_u16(block));
  if (qtype == kQ8_0) {
    for (int64_t c = 0; c < kBlock; ++c)
      out[c] = d * static_cast<float>(static_cast<int8_t>(block[2 + c]));
    return;
  }
  const float min = qtype == kQ4_1 ? f16_to_f32(load_u16(block + 2)) : -8.0f * d;
  const uint8_t* nibbles = block + (qtype == kQ4_1 ? 4 : 2);
  for (int64_t c = 0; c < 16; ++c) {
    out[c] = d * static_cast<float>(nibbles[c] & 15) + min;
    out[c + 16] = d * static_cast<float>(nibbles[c] >> 4) + min;
  }
}

// Columns n0..n1 of rows m0..m1, while they are in the cache.
void add_bias(const QuantLinearArgs& a, int64_t n0, int64_t n1, int64_t m0, int64_t m1) {
  for (int64_t m = m0; m < m1; ++m) {
    float* out = a.out.row(m);
    for (int64_t n = n0; n < n1; ++n) out[n] += a.bias[n];
  }
}

}  // namespace

int64_t packed_bytes(int64_t qtype, int64_t n, int64_t k) {
  return (n + kTileRows - 1) / kTileRows * (k / kBlock) * tile_bytes(qtype);
}

void quant_repack(uint8_t* packed, const uint8_t* raw, int64_t qtype, int64_t n, int64_t k) {
  for (int64_t g = 0; g < (n + kTileRows - 1) / kTileRows; ++g)
    pack_group(packed, raw, qtype, n, k, g);
}

void quant_linear(QuantLinearArgs a) {
  if (a.m == 0 || a.n == 0) return;
  const KernelTable& table = kernels();
  if (table.quantizes_activations) quantize_activations(a);
  const int64_t groups = (a.n + kTileRows - 1) / kTileRows;
  const int64_t group_bytes = a.k / kBlock * tile_bytes(a.qtype) * std::min<int64_t>(a.m, 16) + 1;
  const int64_t grain = balanced_grain(groups, kMinBytes / group_bytes + 1);
  const int64_t column_pieces = (groups + grain - 1) / grain;
  const int64_t row_pieces = (a.m + kRowPiece - 1) / kRowPiece;
  parallel_for(column_pieces * row_pieces, 1, [&](int64_t piece, int64_t) {
    const int64_t g0 = piece % column_pieces * grain, m0 = piece / column_pieces * kRowPiece;
    const int64_t g1 = std::min(g0 + grain, groups), m1 = std::min(m0 + kRowPiece, a.m);
    table.quant_linear(a, g0, g1, m0, m1);
    if (a.bias) add_bias(a, g0 * kTileRows, std::min(g1 * kTileRows, a.n), m0, m1);
  });
}

void dequantize(float* out, const uint8_t* raw, int64_t qtype, int64_t blocks) {
  parallel_for(blocks, balanced_grain(blocks, 512), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b)
      dequantize_block(out + b * kBlock, raw + b * block_bytes(qtype), qtype);
  });
}

void embedding_quantized(float* out, const int64_t* ids, int64_t rows, const uint8_t* raw,
                         int64_t qtype, int64_t hidden) {
  const int64_t blocks = hidden / kBlock, row_bytes = blocks * block_bytes(qtype);
  parallel_for(rows, balanced_grain(rows, 16), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t b = 0; b < blocks; ++b)
        dequantize_block(out + r * hidden + b * kBlock,
                         raw + ids[r] * row_bytes + b * block_bytes(qtype), qtype);
  });
}

void embedding_dense(float* out, const int64_t* ids, int64_t rows, const void* table, DType dtype,
                     int64_t hidden) {
  const auto load = kernels().load_row;
  const int64_t row_bytes = hidden * dtype_bytes(dtype);
  parallel_for(rows, balanced_grain(rows, 16), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      load(out + r * hidden, static_cast<const uint8_t*>(table) + ids[r] * row_bytes, dtype,
           hidden);
  });
}

}  // namespace vllm_kernels::ops
