// SPDX-License-Identifier: Apache-2.0

// CUDA binding of the rotary embedding.

#include "bindings/cuda_args.h"

namespace vllm_kernels {
namespace {

void check_heads(const Check& check, const Tensor& t, const char* name, int64_t tokens,
                 int64_t head_dim) {
  check.shape(t, name, {tokens, -1});
  check.require(t.size(1) % head_dim == 0, name, " has shape ", Check::sizes_text(t),
                ", its second size must be a multiple of head_dim ", head_dim);
}

void rotary_embedding(const Tensor& positions, const Tensor& q, const Tensor& k, int64_t head_dim,
                      const Tensor& cos_sin_cache, bool is_neox) {
  const Check check("rotary_embedding");
  check.in_range(head_dim, "head_dim", 2, 65536);
  check_plain(check, positions, "positions", ScalarType::Long, {-1});
  check_activation(check, q, "q");
  check_rows(check, k, "k", {q.scalar_type()});
  check_heads(check, q, "q", positions.size(0), head_dim);
  check_heads(check, k, "k", positions.size(0), head_dim);
  check_plain(check, cos_sin_cache, "cos_sin_cache", ScalarType::Float, {-1, -1});
  const int64_t rot_dim = cos_sin_cache.size(1);
  check.require(rot_dim % 2 == 0 && rot_dim <= head_dim, "cos_sin_cache has shape ",
                Check::sizes_text(cos_sin_cache), ", its second size must be even and at most ",
                "head_dim ", head_dim);
  as_int(check, q.size(1) + k.size(1), "the width of q and k together");
  const Launch launch(
      check, {{"q", q}, {"k", k}, {"positions", positions}, {"cos_sin_cache", cos_sin_cache}});
  launch.finish(vllm_cuda_rotary_embedding(
      data_of<const int64_t>(positions), q.mutable_data_ptr(), k.mutable_data_ptr(),
      positions.size(0), q.stride(0), k.stride(0), static_cast<int>(q.size(1) / head_dim),
      static_cast<int>(k.size(1) / head_dim), static_cast<int>(head_dim),
      static_cast<int>(rot_dim), data_of<const float>(cos_sin_cache), cos_sin_cache.size(0),
      is_neox, dtype_number(q), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("rotary_embedding", TORCH_BOX(&rotary_embedding));
}

}  // namespace
}  // namespace vllm_kernels
