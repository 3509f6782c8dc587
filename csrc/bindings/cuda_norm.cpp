// SPDX-License-Identifier: Apache-2.0

// CUDA bindings of the norm ops.

#include "bindings/cuda_args.h"

namespace vllm_kernels {
namespace {

void check_weight(const Check& check, const Tensor& weight, const Tensor& x) {
  check.dtype(weight, "weight", {x.scalar_type(), ScalarType::Float});
  check.shape(weight, "weight", {x.size(1)});
  check.contiguous(weight, "weight");
}

void rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, double eps) {
  const Check check("rms_norm");
  check_activation(check, x, "x");
  check_like(check, out, "out", x);
  check_weight(check, weight, x);
  const Launch launch(check, {{"x", x}, {"out", out}, {"weight", weight}});
  launch.finish(vllm_cuda_rms_norm(
      out.mutable_data_ptr(), out.stride(0), x.const_data_ptr(), x.stride(0),
      weight.const_data_ptr(), x.size(0), static_cast<int>(x.size(1)), static_cast<float>(eps),
      dtype_number(x), dtype_number(weight), launch.stream()));
}

void fused_add_rms_norm(const Tensor& x, const Tensor& residual, const Tensor& weight, double eps) {
  const Check check("fused_add_rms_norm");
  check_activation(check, x, "x");
  check_like(check, residual, "residual", x);
  check.distinct(x, "x", residual, "residual");
  check_weight(check, weight, x);
  const Launch launch(check, {{"x", x}, {"residual", residual}, {"weight", weight}});
  launch.finish(vllm_cuda_fused_add_rms_norm(
      x.mutable_data_ptr(), x.stride(0), residual.mutable_data_ptr(), residual.stride(0),
      weight.const_data_ptr(), x.size(0), static_cast<int>(x.size(1)), static_cast<float>(eps),
      dtype_number(x), dtype_number(weight), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("rms_norm", TORCH_BOX(&rms_norm));
  m.impl("fused_add_rms_norm", TORCH_BOX(&fused_add_rms_norm));
}

}  // namespace
}  // namespace vllm_kernels
