// SPDX-License-Identifier: Apache-2.0

// Gated activations and the soft cap over threads: rows are independent.

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Elements that are worth another thread.
constexpr int64_t kMinElements = 4096;

using Gated = void (*)(Rows out, ConstRows x, int64_t rows, int64_t inner);

void gated(Gated kernel, Rows out, ConstRows x, int64_t rows, int64_t inner) {
  const int64_t grain = balanced_grain(rows, kMinElements / (inner + 1) + 1);
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    kernel({out.row(begin), out.stride}, {x.row(begin), x.stride}, end - begin, inner);
  });
}

}  // namespace

void silu_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner) {
  gated(kernels().silu_and_mul, out, x, rows, inner);
}

void gelu_tanh_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner) {
  gated(kernels().gelu_tanh_and_mul, out, x, rows, inner);
}

void soft_cap(Rows x, int64_t rows, int64_t width, float cap) {
  const auto kernel = kernels().soft_cap;
  const int64_t grain = balanced_grain(rows, kMinElements / (width + 1) + 1);
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    kernel({x.row(begin), x.stride}, end - begin, width, cap);
  });
}

}  // namespace vllm_kernels::ops
