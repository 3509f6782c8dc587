// SPDX-License-Identifier: Apache-2.0

// CPU binding of the KV cache write.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void check_cache(const Check& check, const Tensor& cache, const char* name) {
  check.cpu(cache, name);
  check.dtype(cache, name, {ScalarType::Float, ScalarType::BFloat16});
  check.shape(cache, name, {-1, -1, -1, -1});
  check.contiguous(cache, name);
}

void check_slots(const Check& check, const int64_t* s, int64_t count, int64_t limit) {
  for (int64_t i = 0; i < count; ++i)
    check.require(s[i] >= -1 && s[i] < limit, "slot_mapping[", i, "] is ", s[i],
                  ", expected -1 (skip) to ", limit - 1, " (blocks x block size)");
}

void kv_write(const Tensor& k, const Tensor& v, const Tensor& k_cache, const Tensor& v_cache,
              const Tensor& slot_mapping) {
  const Check check("kv_write");
  check_cache(check, k_cache, "k_cache");
  check_cache(check, v_cache, "v_cache");
  check.dtype(v_cache, "v_cache", {k_cache.scalar_type()});
  const int64_t blocks = k_cache.size(0), heads = k_cache.size(1), block_size = k_cache.size(2);
  const int64_t head_dim = k_cache.size(3);
  check.shape(v_cache, "v_cache", {blocks, heads, block_size, head_dim});
  check_plain(check, slot_mapping, "slot_mapping", ScalarType::Long, {-1});
  const int64_t tokens = slot_mapping.size(0);
  check_f32_rows(check, k, "k");
  check_f32_rows(check, v, "v");
  check.shape(k, "k", {tokens, heads * head_dim});
  check.shape(v, "v", {tokens, heads * head_dim});
  const ops::KvWrite args{k_cache.mutable_data_ptr(),
                          v_cache.mutable_data_ptr(),
                          dense_type(k_cache),
                          heads,
                          block_size,
                          head_dim};
  perform([=, k_rows = const_rows_of(k), v_rows = const_rows_of(v),
           slots = data_of<int64_t>(slot_mapping)] {
    check_slots(check, slots, tokens, blocks * block_size);
    ops::kv_write(args, k_rows, v_rows, slots, tokens);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) { m.impl("kv_write", TORCH_BOX(&kv_write)); }

}  // namespace
}  // namespace vllm_kernels
