// SPDX-License-Identifier: Apache-2.0

// Dense linear layer over threads: cut by tiles of weights, and by rows where there are many.

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Rows of x that one piece of work takes: with 1,024 words of each they are half an L2 cache.
constexpr int64_t kRowPiece = 128;
// Multiply-adds that are worth another thread.
constexpr int64_t kMinWork = 32768;

// Lays the rows of x out as the kernel reads them, in memory of the calling thread.
void make_strips(LinearArgs& a, const KernelTable& table) {
  static thread_local std::vector<float> buffer;
  const int64_t words = table.strip_words(a.dtype, a.k), height = table.strip_rows;
  if (static_cast<int64_t>(buffer.size()) < a.m * words)
    buffer.resize(static_cast<size_t>(a.m * words));
  float* const strips = buffer.data();
  const int64_t count = (a.m + height - 1) / height;
  const int64_t grain = balanced_grain(count, kMinWork / (height * a.k + 1) + 1);
  parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin * height; m < std::min(end * height, a.m); m += height)
      table.make_strip(strips + m * words, {a.x.row(m), a.x.stride}, std::min(height, a.m - m), a.k,
                       a.dtype);
  });
  a.strips = strips;
}

}  // namespace

void linear(LinearArgs a) {
  if (a.m == 0 || a.n == 0) return;
  const KernelTable& table = kernels();
  if (table.strip_rows > 0) make_strips(a, table);
  const int64_t height = std::max<int64_t>(table.strip_rows, 1);
  const int64_t rows = (kRowPiece + height - 1) / height * height;  // whole strips
  const int64_t row_pieces = (a.m + rows - 1) / rows, tiles = dense_tiles(a.n);
  const int64_t work = std::min(a.m, rows) * a.k * kDenseRows + 1;
  const int64_t grain = balanced_grain(tiles, kMinWork / work + 1);
  const int64_t tile_pieces = (tiles + grain - 1) / grain;
  parallel_for(row_pieces * tile_pieces, 1, [&](int64_t piece, int64_t) {
    const int64_t t0 = piece % tile_pieces * grain, m0 = piece / tile_pieces * rows;
    table.linear(a, t0, std::min(t0 + grain, tiles), m0, std::min(m0 + rows, a.m));
  });
}

}  // namespace vllm_kernels::ops
