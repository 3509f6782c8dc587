// SPDX-License-Identifier: Apache-2.0

// CUDA binding of paged attention.

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>

#include "bindings/cuda_cache.h"

namespace vllm_kernels {
namespace {

// What the kernel was compiled for.
void check_supported(const Check& check, const Tensor& q, const Tensor& k_cache,
                     const Tensor& v_cache) {
  const int64_t head_dim = k_cache.size(3);
  check.require(cuda::takes_head_dim(head_dim), "head dim is ", head_dim, " (k_cache has shape ",
                Check::sizes_text(k_cache), "), the CUDA kernel takes multiples of 8 up to ",
                cuda::kMaxHeadDim, " and of 24 up to ", cuda::kMaxWideHeadDim);
  check.require(
      q.scalar_type() == k_cache.scalar_type() || q.scalar_type() == ScalarType::Float,
      "q has dtype ", Check::type_name(q.scalar_type()), " and k_cache ",
      Check::type_name(k_cache.scalar_type()),
      ", expected the same dtype for both, or float32 for q");
  check_start16(check, k_cache, "k_cache");
  check_start16(check, v_cache, "v_cache");
}

void check_query(const Check& check, const Tensor& out, const Tensor& q, int64_t kv_width) {
  check_activation(check, q, "q");
  check_like(check, out, "out", q);
  check.distinct(out, "out", q, "q");
  check.require(q.size(1) % kv_width == 0 && q.size(1) > 0, "q has shape ", Check::sizes_text(q),
                ", its second size must be a multiple of kv heads x head dim = ", kv_width);
}

void check_sequences(const Check& check, const Tensor& block_tables, const Tensor& seq_lens,
                     const Tensor& query_start_loc) {
  check_plain(check, seq_lens, "seq_lens", ScalarType::Int, {-1});
  check_plain(check, query_start_loc, "query_start_loc", ScalarType::Int, {seq_lens.size(0) + 1});
  check_plain(check, block_tables, "block_tables", ScalarType::Int, {seq_lens.size(0), -1});
  as_int(check, seq_lens.size(0), "the number of sequences");
}

// States of keys that several blocks share, from torch's allocator: its memory follows the stream, and
// in a graph it is the graph's.
Tensor new_scratch(const Tensor& q, const Tensor& k_cache, const Tensor& block_tables) {
  const std::array<int64_t, 1> size{vllm_cuda_attention_scratch(
      q.size(0), static_cast<int>(block_tables.size(0)), block_tables.size(1),
      static_cast<int>(q.size(1) / k_cache.size(3)), static_cast<int>(k_cache.size(1)),
      static_cast<int>(k_cache.size(2)), static_cast<int>(k_cache.size(3)))};
  return torch::stable::new_empty(q, {size.data(), size.size()}, ScalarType::Float);
}

void paged_attention(const Tensor& out, const Tensor& q, const Tensor& k_cache,
                     const Tensor& v_cache, const Tensor& block_tables, const Tensor& seq_lens,
                     const Tensor& query_start_loc, double scale, int64_t window,
                     double soft_cap) {
  const Check check("paged_attention");
  check.require(window >= 0, "window is ", window, ", expected 0 (none) or more");
  check.require(soft_cap >= 0.0, "soft_cap is ", soft_cap, ", expected 0 (off) or more");
  check_caches(check, k_cache, v_cache);
  const int64_t kv_heads = k_cache.size(1), head_dim = k_cache.size(3);
  check_query(check, out, q, kv_heads * head_dim);
  check_sequences(check, block_tables, seq_lens, query_start_loc);
  check_supported(check, q, k_cache, v_cache);
  const Launch launch(check, {{"q", q},
                              {"out", out},
                              {"k_cache", k_cache},
                              {"v_cache", v_cache},
                              {"block_tables", block_tables},
                              {"seq_lens", seq_lens},
                              {"query_start_loc", query_start_loc}});
  const Tensor scratch = new_scratch(q, k_cache, block_tables);
  launch.finish(vllm_cuda_paged_attention(
      out.mutable_data_ptr(), out.stride(0), q.const_data_ptr(), q.stride(0),
      k_cache.const_data_ptr(), v_cache.const_data_ptr(), data_of<const int32_t>(block_tables),
      data_of<const int32_t>(seq_lens), data_of<const int32_t>(query_start_loc),
      data_of<float>(scratch), q.size(0), static_cast<int>(seq_lens.size(0)), block_tables.size(1),
      static_cast<int>(q.size(1) / head_dim), static_cast<int>(kv_heads),
      static_cast<int>(k_cache.size(2)), static_cast<int>(head_dim), static_cast<float>(scale),
      static_cast<int>(std::min<int64_t>(window, INT_MAX)), static_cast<float>(soft_cap),
      dtype_number(q), dtype_number(k_cache), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("paged_attention", TORCH_BOX(&paged_attention));
}

}  // namespace
}  // namespace vllm_kernels
