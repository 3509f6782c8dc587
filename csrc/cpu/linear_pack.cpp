// SPDX-License-Identifier: Apache-2.0

// Dense weights: rows to tiles (formats.h).

#include <algorithm>

#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Units at a time: of 32 rows they are 8 KiB at most, and stay in an L1 cache until all rows are there.
constexpr int64_t kUnits = 64;
// Bytes that are worth another thread.
constexpr int64_t kMinBytes = 65536;

// Row `row` of units u0..u1 of its tile. kBytes: of a row in a unit.
template <int64_t kBytes>
void pack_units(uint8_t* tile, const uint8_t* source, int64_t row, int64_t u0, int64_t u1) {
  uint8_t* to = tile + (u0 * kDenseRows + row) * kBytes;
  for (int64_t u = u0; u < u1; ++u, to += kDenseRows * kBytes) memcpy(to, source + u * kBytes, kBytes);
}

// Rows r0..r1 of a tile, from the rows of `source`, `bytes` long.
template <int64_t kBytes>
void pack_tile(uint8_t* tile, const uint8_t* source, int64_t bytes, int64_t r0, int64_t r1) {
  const int64_t whole = bytes / kBytes, rest = bytes % kBytes;
  for (int64_t u0 = 0; u0 < whole; u0 += kUnits)
    for (int64_t r = r0; r < r1; ++r)
      pack_units<kBytes>(tile, source + (r - r0) * bytes, r, u0, std::min(u0 + kUnits, whole));
  for (int64_t r = r0; r < r1 && rest > 0; ++r) {
    uint8_t* last = tile + (whole * kDenseRows + r) * kBytes;
    memset(last, 0, kBytes);
    memcpy(last, source + (r - r0) * bytes + whole * kBytes, static_cast<size_t>(rest));
  }
}

}  // namespace

void linear_pack(uint8_t* packed, const uint8_t* weight, DType dtype, int64_t row, int64_t n,
                 int64_t k) {
  const int64_t bytes = k * dtype_bytes(dtype);
  const int64_t tile_bytes = dense_units(dtype, k) * unit_bytes(dtype);
  const int64_t first = row / kDenseRows, tiles = dense_tiles(row + n) - first;
  parallel_for(tiles, balanced_grain(tiles, kMinBytes / (tile_bytes + 1) + 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = first + begin; t < first + end; ++t) {
                   const int64_t r0 = std::max(row, t * kDenseRows);
                   const int64_t r1 = std::min(row + n, (t + 1) * kDenseRows);
                   const auto pack = dtype == DType::kF16 ? pack_tile<2> : pack_tile<4>;
                   pack(packed + t * tile_bytes, weight + (r0 - row) * bytes, bytes,
                        r0 - t * kDenseRows, r1 - t * kDenseRows);
                 }
               });
}

}  // namespace vllm_kernels::ops
