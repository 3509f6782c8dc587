// SPDX-License-Identifier: Apache-2.0

// Repacking: GGUF rows to interleaved tiles (formats.h).

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "cpu/ggml_blocks.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Exact for the values it is used on, a power of two times an f16 (formats.h).
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

// Steps between the least quant and zero.
float middle(int64_t qtype) { return qtype == kQ4_0 ? 8.0f : 16.0f; }

void refuse_scale(float scale, int64_t qtype, int64_t row, int64_t block) {
  throw std::runtime_error("quant_repack: " + std::string(qtype == kQ4_0 ? "Q4_0" : "Q5_0") +
                           " scale " + std::to_string(scale) + " in row " + std::to_string(row) +
                           ", block " + std::to_string(block) + " is outside +-" +
                           (qtype == kQ4_0 ? "8188" : "4094") + "; the weights are damaged");
}

// Throws where a minimum that stands for the middle of the range would not fit into an f16.
void check_scales(const uint8_t* raw, int64_t qtype, int64_t n, int64_t blocks) {
  const int64_t bytes = block_format(qtype).bytes;
  for (int64_t i = 0; i < n * blocks; ++i) {
    const float scale = f16_to_f32(block_scale(raw + i * bytes, qtype));
    if (!(std::fabs(middle(qtype) * scale) <= 65504.0f))
      refuse_scale(scale, qtype, i / blocks, i % blocks);
  }
}

void put_u16(uint8_t* p, uint16_t v) { memcpy(p, &v, 2); }

// Quants of one run into row r of a tile; fifth and sixth bits are zeros there.
void pack_quants(uint8_t* run, const uint8_t q[kBlock], int bits, int64_t r) {
  uint8_t* const lanes = run + 4 * r;
  for (int64_t c = 0; c < kBlock && bits == 8; ++c) lanes[c / 4 * 64 + c % 4] = q[c];
  for (int64_t c = 0; c < 16 && bits < 8; ++c)
    lanes[c / 4 * 64 + c % 4] = static_cast<uint8_t>((q[c] & 15) | q[c + 16] << 4);
  for (int64_t c = 0; c < kBlock && bits == 5; ++c) lanes[256 + c % 4] |= (q[c] >> 4) << (c / 4);
  for (int64_t c = 0; c < kBlock && bits == 6; ++c)
    lanes[256 + c / 16 * 64 + c % 4] |= (q[c] >> 4) << (c / 4 % 4 * 2);
}

void pack_run(uint8_t* run, const uint8_t* block, int64_t qtype, int64_t index, int64_t r) {
  uint8_t q[kBlock];
  read_quants(q, block, qtype, index);
  pack_quants(run, q, block_format(qtype).bits, r);
}

// A block of 256 columns into row r of a tile.
void pack_wide(uint8_t* tile, const uint8_t* block, int64_t qtype, int64_t r) {
  put_u16(tile + 2 * r, block_scale(block, qtype));
  put_u16(tile + 32 + 2 * r, block_minimum(block, qtype));
  for (int64_t i = 0; i < 8; ++i) {
    const RunScales scales = read_scales(block, qtype, i);
    tile[64 + 32 * i + r] = scales.first;
    tile[64 + 32 * i + 16 + r] = scales.second;
    pack_run(tile + kTileHeader + i * run_bytes(qtype), block, qtype, i, r);
  }
}

void pack_block(uint8_t* tile, const uint8_t* block, int64_t qtype, int64_t r) {
  if (block_format(qtype).columns == 256) return pack_wide(tile, block, qtype, r);
  pack_run(tile, block, qtype, 0, r);
  uint8_t* scales = tile + run_bytes(qtype) + 2 * r;
  const uint16_t d = block_scale(block, qtype);
  put_u16(scales, d);
  if (qtype == kQ8_0) return;
  const uint16_t minimum = block_format(qtype).has_min ? block_minimum(block, qtype)
                                                       : exact_f16(-middle(qtype) * f16_to_f32(d));
  put_u16(scales + 2 * kTileRows, minimum);
}

void pack_group(uint8_t* packed, const uint8_t* raw, int64_t qtype, int64_t n, int64_t k,
                int64_t g) {
  const BlockFormat format = block_format(qtype);
  const int64_t tiles = k / format.columns;
  uint8_t* first = packed + g * tiles * tile_bytes(qtype);
  memset(first, 0, static_cast<size_t>(tiles * tile_bytes(qtype)));
  const int64_t rows = std::min(kTileRows, n - g * kTileRows);
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t r = 0; r < rows; ++r)
      pack_block(first + t * tile_bytes(qtype),
                 raw + ((g * kTileRows + r) * tiles + t) * format.bytes, qtype, r);
}

}  // namespace

void quant_repack(uint8_t* packed, const uint8_t* raw, int64_t qtype, int64_t n, int64_t k) {
  if (qtype == kQ4_0 || qtype == kQ5_0) check_scales(raw, qtype, n, k / kBlock);
  const int64_t groups = (n + kTileRows - 1) / kTileRows;
  parallel_for(groups, balanced_grain(groups, 1), [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g) pack_group(packed, raw, qtype, n, k, g);
  });
}

}  // namespace vllm_kernels::ops
