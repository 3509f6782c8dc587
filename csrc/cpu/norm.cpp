// SPDX-License-Identifier: Apache-2.0

// RMS norm over threads: rows are independent.

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Elements that are worth another thread: some 2 us of work against the cost of a hand-out.
constexpr int64_t kMinElements = 16384;

int64_t row_grain(int64_t rows, int64_t width) {
  return balanced_grain(rows, kMinElements / (width + 1) + 1);
}

}  // namespace

void rms_norm(Rows out, ConstRows x, const float* weight, int64_t rows, int64_t hidden, float eps) {
  const auto kernel = kernels().rms_norm;
  parallel_for(rows, row_grain(rows, hidden), [&](int64_t begin, int64_t end) {
    kernel({out.row(begin), out.stride}, {x.row(begin), x.stride}, weight, end - begin, hidden,
           eps);
  });
}

void fused_add_rms_norm(Rows x, Rows residual, const float* weight, int64_t rows, int64_t hidden,
                        float eps) {
  const auto kernel = kernels().fused_add_rms_norm;
  parallel_for(rows, row_grain(rows, hidden), [&](int64_t begin, int64_t end) {
    kernel({x.row(begin), x.stride}, {residual.row(begin), residual.stride}, weight, end - begin,
           hidden, eps);
  });
}

}  // namespace vllm_kernels::ops
