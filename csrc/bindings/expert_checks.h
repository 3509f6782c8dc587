// SPDX-License-Identifier: Apache-2.0

// Checks of routing and of experts' matrices, shared by the CPU and the CUDA bindings.

#pragma once

#include "bindings/quant_checks.h"

namespace vllm_kernels {

inline void check_groups(const Check& check, int64_t experts, int64_t top, int64_t groups,
                         int64_t top_groups, int64_t group_best) {
  check.in_range(groups, "groups", 1, experts);
  check.require(experts % groups == 0, "groups is ", groups, ", which does not divide ", experts,
                " experts");
  check.in_range(top_groups, "top_groups", 1, groups);
  check.in_range(group_best, "group_best", 1, experts / groups);
  check.require(top >= 1 && top <= top_groups * (experts / groups), "ids has ", top,
                " columns, expected 1 to ", top_groups * (experts / groups),
                " (experts that a token may go to)");
}

// Packed [experts, bytes].
inline void check_packed_experts(const Check& check, const Tensor& t, const char* name,
                                 int64_t qtype, int64_t experts, int64_t n, int64_t k) {
  check.require(is_quantized(qtype), name, " has type ", qtype, ", which is not a packed one");
  const int64_t columns = block_format(qtype).columns;
  check.require(k % columns == 0, name, " has rows of ", k, ", expected a multiple of ", columns);
  check.shape(t, name, {experts, packed_bytes(qtype, n, k)});
}

// Dense [experts, n, k] of one of the accepted types, or packed [experts, bytes].
inline void check_expert_matrices(const Check& check, const Tensor& t, const char* name,
                                  int64_t qtype, std::initializer_list<ScalarType> accepted,
                                  int64_t experts, int64_t n, int64_t k) {
  check.contiguous(t, name);
  if (t.scalar_type() != ScalarType::Byte) {
    check.dtype(t, name, accepted);
    check.shape(t, name, {experts, n, k});
    return;
  }
  check_packed_experts(check, t, name, qtype, experts, n, k);
}

inline int64_t count_experts(const Check& check, const Tensor& gate_up) {
  check.require(gate_up.dim() >= 2 && gate_up.size(0) >= 1, "gate_up has shape ",
                Check::sizes_text(gate_up), ", expected one matrix for each expert");
  return gate_up.size(0);
}

}  // namespace vllm_kernels
