// SPDX-License-Identifier: Apache-2.0

// Rotary embedding over threads: rows are independent.

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {

void rotary_embedding(const Rotary& a, Rows q, int64_t q_heads, Rows k, int64_t k_heads) {
  const auto kernel = kernels().rotary;
  const int64_t width = (q_heads + k_heads) * a.head_dim;
  const int64_t grain = balanced_grain(a.rows, 16384 / (width + 1) + 1);
  parallel_for(a.rows, grain, [&](int64_t begin, int64_t end) {
    kernel({q.row(begin), q.stride}, q_heads, a.head_dim, a.positions + begin, end - begin,
           a.cos_sin, a.rot_dim, a.is_neox);
    kernel({k.row(begin), k.stride}, k_heads, a.head_dim, a.positions + begin, end - begin,
           a.cos_sin, a.rot_dim, a.is_neox);
  });
}

}  // namespace vllm_kernels::ops
