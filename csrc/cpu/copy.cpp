// SPDX-License-Identifier: Apache-2.0

// Copies of pieces of rows over threads, and products with one number: what lies between ops that
// want their heads laid out differently.

#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Elements that are worth another thread.
constexpr int64_t kMinElements = 16384;

int64_t row_grain(int64_t rows, int64_t width) {
  return balanced_grain(rows, kMinElements / (width + 1) + 1);
}

}  // namespace

void copy_heads(const CopyHeads& a) {
  parallel_for(a.rows, row_grain(a.rows, a.heads * a.width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t h = 0; h < a.heads; ++h)
        memcpy(a.out + r * a.out_row + h * a.out_head, a.x + r * a.x_row + h * a.x_head,
               static_cast<size_t>(a.width) * sizeof(float));
  });
}

void scale(Rows x, int64_t rows, int64_t width, float factor) {
  parallel_for(rows, row_grain(rows, width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = x.row(r);
      for (int64_t i = 0; i < width; ++i) row[i] *= factor;
    }
  });
}

}  // namespace vllm_kernels::ops
