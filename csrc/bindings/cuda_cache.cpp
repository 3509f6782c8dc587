// SPDX-License-Identifier: Apache-2.0

// CUDA binding of the KV cache write.

#include "bindings/cuda_cache.h"

namespace vllm_kernels {
namespace {

void kv_write(const Tensor& k, const Tensor& v, const Tensor& k_cache, const Tensor& v_cache,
              const Tensor& slot_mapping) {
  const Check check("kv_write");
  check_caches(check, k_cache, v_cache);
  const int64_t heads = k_cache.size(1), head_dim = k_cache.size(3);
  check_plain(check, slot_mapping, "slot_mapping", ScalarType::Long, {-1});
  check_activation(check, k, "k");
  check.shape(k, "k", {slot_mapping.size(0), heads * head_dim});
  check_like(check, v, "v", k);
  const Launch launch(check, {{"k", k},
                              {"v", v},
                              {"k_cache", k_cache},
                              {"v_cache", v_cache},
                              {"slot_mapping", slot_mapping}});
  launch.finish(vllm_cuda_kv_write(
      k.const_data_ptr(), v.const_data_ptr(), k.size(0), k.stride(0), v.stride(0),
      k_cache.mutable_data_ptr(), v_cache.mutable_data_ptr(), data_of<const int64_t>(slot_mapping),
      k_cache.size(0), static_cast<int>(heads), static_cast<int>(k_cache.size(2)),
      static_cast<int>(head_dim), dtype_number(k), dtype_number(k_cache), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) { m.impl("kv_write", TORCH_BOX(&kv_write)); }

}  // namespace
}  // namespace vllm_kernels
