// SPDX-License-Identifier: Apache-2.0

// Gated activation over threads: rows are independent.

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {

void silu_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner) {
  const auto kernel = kernels().silu_and_mul;
  const int64_t grain = balanced_grain(rows, 4096 / (inner + 1) + 1);
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    kernel({out.row(begin), out.stride}, {x.row(begin), x.stride}, end - begin, inner);
  });
}

}  // namespace vllm_kernels::ops
