// SPDX-License-Identifier: Apache-2.0

// CPU binding of the rotary embedding.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void check_heads(const Check& check, const Tensor& t, const char* name, int64_t tokens,
                 int64_t head_dim) {
  check_f32_rows(check, t, name);
  check.shape(t, name, {tokens, -1});
  check.require(t.size(1) % head_dim == 0, name, " has shape ", Check::sizes_text(t),
                ", its second size must be a multiple of head_dim ", head_dim);
}

void check_positions(const Check& check, const int64_t* p, int64_t count, int64_t limit) {
  for (int64_t i = 0; i < count; ++i)
    check.require(p[i] >= 0 && p[i] < limit, "positions[", i, "] is ", p[i], ", expected 0 to ",
                  limit - 1, " (rows of cos_sin_cache)");
}

void rotary_embedding(const Tensor& positions, const Tensor& q, const Tensor& k, int64_t head_dim,
                      const Tensor& cos_sin_cache, bool is_neox) {
  const Check check("rotary_embedding");
  check.in_range(head_dim, "head_dim", 2, 65536);
  check_plain(check, positions, "positions", ScalarType::Long, {-1});
  check_heads(check, q, "q", positions.size(0), head_dim);
  check_heads(check, k, "k", positions.size(0), head_dim);
  check_plain(check, cos_sin_cache, "cos_sin_cache", ScalarType::Float, {-1, -1});
  const int64_t rot_dim = cos_sin_cache.size(1);
  check.require(rot_dim % 2 == 0 && rot_dim <= head_dim, "cos_sin_cache has shape ",
                Check::sizes_text(cos_sin_cache), ", its second size must be even and at most ",
                "head_dim ", head_dim);
  const ops::Rotary args{data_of<int64_t>(positions),   positions.size(0), head_dim,
                         data_of<float>(cos_sin_cache), rot_dim,           is_neox};
  perform([=, limit = cos_sin_cache.size(0), q_rows = rows_of(q), k_rows = rows_of(k),
           q_heads = q.size(1) / head_dim, k_heads = k.size(1) / head_dim] {
    check_positions(check, args.positions, args.rows, limit);
    ops::rotary_embedding(args, q_rows, q_heads, k_rows, k_heads);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("rotary_embedding", TORCH_BOX(&rotary_embedding));
}

}  // namespace
}  // namespace vllm_kernels
