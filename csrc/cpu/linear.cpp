// SPDX-License-Identifier: Apache-2.0

// Dense linear layer over threads: cut by columns of the output, and by rows where there are many.

#include <algorithm>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Rows of x that one piece of work takes: 128 rows x 1,536 columns of f32 are 768 KiB, an L2 cache.
constexpr int64_t kRowPiece = 128;
// Multiply-adds that are worth another thread.
constexpr int64_t kMinWork = 32768;

}  // namespace

void linear(const LinearArgs& a) {
  const auto kernel = kernels().linear;
  const int64_t row_pieces = (a.m + kRowPiece - 1) / kRowPiece;
  const int64_t work_per_column = std::min(a.m, kRowPiece) * a.k + 1;
  // Multiples of 8 columns keep the kernels' column tiles whole.
  int64_t columns = balanced_grain(a.n, kMinWork / work_per_column + 1);
  columns = (columns + 7) / 8 * 8;
  const int64_t column_pieces = (a.n + columns - 1) / columns;
  parallel_for(row_pieces * column_pieces, 1, [&](int64_t piece, int64_t) {
    const int64_t n0 = piece % column_pieces * columns, m0 = piece / column_pieces * kRowPiece;
    kernel(a, n0, std::min(n0 + columns, a.n), m0, std::min(m0 + kRowPiece, a.m));
  });
}

}  // namespace vllm_kernels::ops
