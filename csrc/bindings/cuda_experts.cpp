// SPDX-License-Identifier: Apache-2.0

// CUDA bindings of the mixture of experts.

#include <torch/csrc/stable/ops.h>

#include <array>
#include <optional>

#include "bindings/cuda_args.h"
#include "bindings/expert_checks.h"

namespace vllm_kernels {
namespace {

void check_expert_count(const Check& check, int64_t experts) {
  check.require(experts <= cuda::kMaxExperts, "there are ", experts,
                " experts, the CUDA kernel takes at most ", cuda::kMaxExperts);
}

void route_experts(const Tensor& ids, const Tensor& weights, const Tensor& logits,
                   const std::optional<Tensor>& bias, bool sigmoid, int64_t groups,
                   int64_t top_groups, int64_t group_best, bool renormalize, double factor) {
  const Check check("route_experts");
  check_rows(check, logits, "logits", {ScalarType::Float});
  const int64_t rows = logits.size(0), experts = logits.size(1);
  check_plain(check, ids, "ids", ScalarType::Int, {rows, -1});
  const int64_t top = ids.size(1);
  check_plain(check, weights, "weights", ScalarType::Float, {rows, top});
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {experts});
  check_groups(check, experts, top, groups, top_groups, group_best);
  check_expert_count(check, experts);
  const Launch launch(check, {{"logits", logits},
                              {"ids", ids},
                              {"weights", weights},
                              {"bias", bias.value_or(logits)}});
  launch.finish(vllm_cuda_route_experts(
      data_of<int32_t>(ids), data_of<float>(weights), data_of<const float>(logits),
      logits.stride(0), bias ? data_of<const float>(*bias) : nullptr, sigmoid, rows,
      static_cast<int>(experts), static_cast<int>(top), static_cast<int>(groups),
      static_cast<int>(top_groups), static_cast<int>(group_best), renormalize,
      static_cast<float>(factor), launch.stream()));
}

VllmCudaExperts matrices(const Check& check, const Tensor& t, const char* name, int64_t qtype,
                         ScalarType dense, int64_t experts, int64_t n, int64_t k) {
  check_expert_matrices(check, t, name, qtype, {dense, ScalarType::Byte}, experts, n, k);
  const bool packed = t.scalar_type() == ScalarType::Byte;
  if (packed) check_start16(check, t, name);
  return {t.const_data_ptr(), t.stride(0) * static_cast<int64_t>(t.element_size()),
          packed ? static_cast<int>(qtype) : 0};
}

Tensor new_scratch(const Tensor& x, int64_t top, int64_t experts, int64_t inner) {
  const std::array<int64_t, 1> size{vllm_cuda_experts_scratch(
      x.size(0), static_cast<int>(top), static_cast<int>(experts), static_cast<int>(x.size(1)),
      static_cast<int>(inner), dtype_number(x))};
  return torch::stable::new_empty(x, {size.data(), size.size()}, ScalarType::Byte);
}

void fused_experts(const Tensor& out, const Tensor& x, const Tensor& ids, const Tensor& weights,
                   const Tensor& gate_up, int64_t gate_up_type, const Tensor& down,
                   int64_t down_type, int64_t inner, const std::optional<Tensor>& addend) {
  const Check check("fused_experts");
  check_activation(check, x, "x");
  const int64_t rows = x.size(0), hidden = x.size(1);
  check_like(check, out, "out", x);
  check_plain(check, ids, "ids", ScalarType::Int, {rows, -1});
  const int64_t top = ids.size(1);
  check_plain(check, weights, "weights", ScalarType::Float, {rows, top});
  check.in_range(rows * top, "the number of rows x experts of each", 0, INT_MAX);
  check.in_range(hidden, "hidden", 1, INT_MAX);
  check.in_range(inner, "inner", 1, INT_MAX / 2);
  const int64_t experts = count_experts(check, gate_up);
  check_expert_count(check, experts);
  check.in_range(top, "the number of columns of ids", 0, experts);
  if (addend) check_like(check, *addend, "addend", x);
  const VllmCudaExperts gate_up_weights = matrices(check, gate_up, "gate_up", gate_up_type,
                                                   x.scalar_type(), experts, 2 * inner, hidden);
  const VllmCudaExperts down_weights =
      matrices(check, down, "down", down_type, x.scalar_type(), experts, hidden, inner);
  const Launch launch(check, {{"x", x},
                              {"out", out},
                              {"ids", ids},
                              {"weights", weights},
                              {"gate_up", gate_up},
                              {"down", down},
                              {"addend", addend.value_or(x)}});
  const Tensor scratch = new_scratch(x, top, experts, inner);
  launch.finish(vllm_cuda_fused_experts(
      out.mutable_data_ptr(), out.stride(0), x.const_data_ptr(), x.stride(0),
      addend ? addend->const_data_ptr() : nullptr, addend ? addend->stride(0) : 0,
      data_of<const int32_t>(ids), data_of<const float>(weights), &gate_up_weights, &down_weights,
      scratch.mutable_data_ptr(), rows, static_cast<int>(top), static_cast<int>(experts),
      static_cast<int>(hidden), static_cast<int>(inner), dtype_number(x), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("route_experts", TORCH_BOX(&route_experts));
  m.impl("fused_experts", TORCH_BOX(&fused_experts));
}

}  // namespace
}  // namespace vllm_kernels
