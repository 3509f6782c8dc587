// SPDX-License-Identifier: Apache-2.0

// Writes this step's keys and values into the paged cache.

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

void write_row(const KvWrite& a, void* cache, const float* row, int64_t slot) {
  const auto store = kernels().store_row;
  const int64_t block = slot / a.block_size, offset = slot % a.block_size;
  for (int64_t h = 0; h < a.kv_heads; ++h) {
    const int64_t index = ((block * a.kv_heads + h) * a.block_size + offset) * a.head_dim;
    store(static_cast<uint8_t*>(cache) + index * dtype_bytes(a.dtype), a.dtype,
          row + h * a.head_dim, a.head_dim);
  }
}

}  // namespace

void kv_write(const KvWrite& a, ConstRows k, ConstRows v, const int64_t* slots, int64_t rows) {
  const int64_t grain = balanced_grain(rows, 8192 / (a.kv_heads * a.head_dim + 1) + 1);
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      if (slots[r] < 0) continue;
      write_row(a, a.k_cache, k.row(r), slots[r]);
      write_row(a, a.v_cache, v.row(r), slots[r]);
    }
  });
}

}  // namespace vllm_kernels::ops
