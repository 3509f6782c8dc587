// SPDX-License-Identifier: Apache-2.0

// CPU bindings of the norm ops.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, double eps) {
  const Check check("rms_norm");
  check_f32_rows(check, x, "x");
  check_f32_rows(check, out, "out");
  check.shape(out, "out", {x.size(0), x.size(1)});
  check_plain(check, weight, "weight", ScalarType::Float, {x.size(1)});
  ops::rms_norm(rows_of(out), const_rows_of(x), data_of<float>(weight), x.size(0), x.size(1),
                static_cast<float>(eps));
}

void fused_add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  const Check check("fused_add_rms_norm");
  check_f32_rows(check, x, "x");
  check_f32_rows(check, residual, "residual");
  check.shape(residual, "residual", {x.size(0), x.size(1)});
  check.distinct(x, "x", residual, "residual");
  check_plain(check, weight, "weight", ScalarType::Float, {x.size(1)});
  ops::fused_add_rms_norm(rows_of(x), rows_of(residual), data_of<float>(weight), x.size(0),
                          x.size(1), static_cast<float>(eps));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("rms_norm", TORCH_BOX(&rms_norm));
  m.impl("fused_add_rms_norm", TORCH_BOX(&fused_add_rms_norm));
}

}  // namespace
}  // namespace vllm_kernels
