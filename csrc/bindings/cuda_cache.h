// SPDX-License-Identifier: Apache-2.0

// Checks of the paged KV cache, shared by its writer and its reader.

#pragma once

#include "bindings/cuda_args.h"

namespace vllm_kernels {

// Two contiguous caches of one shape [num_blocks, kv_heads, block_size, head_dim] and type.
inline void check_caches(const Check& check, const Tensor& k_cache, const Tensor& v_cache) {
  check.dtype(k_cache, "k_cache", {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16});
  check.dtype(v_cache, "v_cache", {k_cache.scalar_type()});
  check.shape(k_cache, "k_cache", {-1, -1, -1, -1});
  check.shape(v_cache, "v_cache",
              {k_cache.size(0), k_cache.size(1), k_cache.size(2), k_cache.size(3)});
  check.contiguous(k_cache, "k_cache");
  check.contiguous(v_cache, "v_cache");
  check.require(k_cache.size(1) > 0 && k_cache.size(2) > 0 && k_cache.size(3) > 0,
                "k_cache has shape ", Check::sizes_text(k_cache), ", only its first size may be 0");
  as_int(check, k_cache.size(1) * k_cache.size(3), "kv heads x head dim");
  as_int(check, k_cache.size(2), "the block size");
}

}  // namespace vllm_kernels
