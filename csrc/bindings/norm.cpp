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
  perform([e = static_cast<float>(eps), o = rows_of(out), i = const_rows_of(x),
           w = data_of<float>(weight), rows = x.size(0),
           hidden = x.size(1)] { ops::rms_norm(o, i, w, rows, hidden, e); });
}

void fused_add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  const Check check("fused_add_rms_norm");
  check_f32_rows(check, x, "x");
  check_f32_rows(check, residual, "residual");
  check.shape(residual, "residual", {x.size(0), x.size(1)});
  check.distinct(x, "x", residual, "residual");
  check_plain(check, weight, "weight", ScalarType::Float, {x.size(1)});
  perform([e = static_cast<float>(eps), i = rows_of(x), r = rows_of(residual),
           w = data_of<float>(weight), rows = x.size(0),
           hidden = x.size(1)] { ops::fused_add_rms_norm(i, r, w, rows, hidden, e); });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("rms_norm", TORCH_BOX(&rms_norm));
  m.impl("fused_add_rms_norm", TORCH_BOX(&fused_add_rms_norm));
}

}  // namespace
}  // namespace vllm_kernels
