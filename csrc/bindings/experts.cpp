// SPDX-License-Identifier: Apache-2.0

// CPU bindings of the mixture of experts.

#include <optional>
#include <vector>

#include "bindings/cpu_args.h"
#include "bindings/expert_checks.h"

namespace vllm_kernels {
namespace {

void route_experts(const Tensor& ids, const Tensor& weights, const Tensor& logits,
                   const std::optional<Tensor>& bias, bool sigmoid, int64_t groups,
                   int64_t top_groups, int64_t group_best, bool renormalize, double factor) {
  const Check check("route_experts");
  check_f32_rows(check, logits, "logits");
  const int64_t rows = logits.size(0), experts = logits.size(1);
  check_plain(check, ids, "ids", ScalarType::Int, {rows, -1});
  const int64_t top = ids.size(1);
  check_plain(check, weights, "weights", ScalarType::Float, {rows, top});
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {experts});
  check_groups(check, experts, top, groups, top_groups, group_best);
  const ops::Routing args{bias ? data_of<float>(*bias) : nullptr, sigmoid, experts, top, groups,
                          top_groups, group_best, renormalize, static_cast<float>(factor)};
  perform([args, rows, i = static_cast<int32_t*>(ids.mutable_data_ptr()),
           w = static_cast<float*>(weights.mutable_data_ptr()), l = const_rows_of(logits)] {
    ops::route_experts(i, w, args, l, rows);
  });
}

ops::ExpertMatrices matrices(const Check& check, const Tensor& t, const char* name, int64_t qtype,
                             int64_t experts, int64_t n, int64_t k) {
  check.cpu(t, name);
  check.contiguous(t, name);
  const uint8_t* data = data_of<uint8_t>(t);
  if (t.scalar_type() == ScalarType::Byte) {
    check_packed_experts(check, t, name, qtype, experts, n, k);
    return {data, t.size(1), true, DType::kF32, qtype, n, k};
  }
  check.dtype(t, name,
              {ScalarType::Float, ScalarType::BFloat16, ScalarType::Half, ScalarType::Byte});
  const DType dtype = dense_type(t);
  const int64_t tiles = dense_tiles(n), units = dense_units(dtype, k);
  check.shape(t, name, {experts, tiles, units, kDenseRows, unit_columns(dtype)});
  return {data, tiles * units * unit_bytes(dtype), false, dtype, 0, n, k};
}

// In range, and distinct within a row: a row goes through an expert once.
void check_expert_ids(const Check& check, const int32_t* ids, int64_t rows, int64_t top,
                      int64_t experts) {
  std::vector<int64_t> last(static_cast<size_t>(experts), -1);  // the row that names it last
  for (int64_t i = 0; i < rows * top; ++i) {
    const int64_t row = i / top;
    check.require(ids[i] >= 0 && ids[i] < experts, "ids[", row, ", ", i % top, "] is ", ids[i],
                  ", expected 0 to ", experts - 1);
    check.require(last[ids[i]] != row, "ids[", row, ", ", i % top, "] is ", ids[i],
                  " again, expected distinct experts in a row");
    last[ids[i]] = row;
  }
}

void fused_experts(const Tensor& out, const Tensor& x, const Tensor& ids, const Tensor& weights,
                   const Tensor& gate_up, int64_t gate_up_type, const Tensor& down,
                   int64_t down_type, int64_t inner, const std::optional<Tensor>& addend) {
  const Check check("fused_experts");
  check_f32_rows(check, x, "x");
  const int64_t rows = x.size(0), hidden = x.size(1);
  check_f32_rows(check, out, "out");
  check.shape(out, "out", {rows, hidden});
  check_plain(check, ids, "ids", ScalarType::Int, {rows, -1});
  const int64_t top = ids.size(1);
  check_plain(check, weights, "weights", ScalarType::Float, {rows, top});
  check.in_range(hidden, "hidden", 1, int64_t{1} << 31);
  check.in_range(inner, "inner", 1, int64_t{1} << 31);
  const int64_t experts = count_experts(check, gate_up);
  if (addend) {
    check_f32_rows(check, *addend, "addend");
    check.shape(*addend, "addend", {rows, hidden});
  }
  const ops::Experts args{
      rows_of(out), const_rows_of(x), addend ? data_of<float>(*addend) : nullptr,
      addend ? addend->stride(0) : 0, data_of<int32_t>(ids), data_of<float>(weights), rows, top,
      experts, matrices(check, gate_up, "gate_up", gate_up_type, experts, 2 * inner, hidden),
      matrices(check, down, "down", down_type, experts, hidden, inner)};
  perform([=] {
    check_expert_ids(check, args.ids, rows, top, experts);
    ops::fused_experts(args);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("route_experts", TORCH_BOX(&route_experts));
  m.impl("fused_experts", TORCH_BOX(&fused_experts));
}

}  // namespace
}  // namespace vllm_kernels
