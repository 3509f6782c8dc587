// SPDX-License-Identifier: Apache-2.0

// CUDA binding of the dense linear layer.

#include <optional>

#include "bindings/cuda_args.h"

namespace vllm_kernels {
namespace {

void linear(const Tensor& out, const Tensor& x, const Tensor& weight,
            const std::optional<Tensor>& bias) {
  const Check check("linear");
  check_activation(check, x, "x");
  check_plain(check, weight, "weight", x.scalar_type(), {-1, x.size(1)});
  check_rows(check, out, "out", {x.scalar_type()});
  check.shape(out, "out", {x.size(0), weight.size(0)});
  check.distinct(out, "out", x, "x");
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {weight.size(0)});
  const Launch launch(check,
                      {{"x", x}, {"out", out}, {"weight", weight}, {"bias", bias.value_or(x)}});
  launch.finish(vllm_cuda_linear(out.mutable_data_ptr(), out.stride(0), x.const_data_ptr(),
                                 x.stride(0), weight.const_data_ptr(),
                                 bias ? data_of<const float>(*bias) : nullptr,
                                 static_cast<int>(x.size(0)), static_cast<int>(weight.size(0)),
                                 static_cast<int>(x.size(1)), dtype_number(x), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) { m.impl("linear", TORCH_BOX(&linear)); }

}  // namespace
}  // namespace vllm_kernels
