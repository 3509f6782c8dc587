// SPDX-License-Identifier: Apache-2.0

// CUDA bindings of the dense linear layer and of that with FP8 weights.

#include <optional>

#include "bindings/cuda_args.h"

namespace vllm_kernels {
namespace {

void linear_pack(const Tensor&, const Tensor&, int64_t) {
  Check("linear_pack")
      .require(false, "not implemented on CUDA; the kernels there read weights as they are");
}

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

void fp8_linear(const Tensor& out, const Tensor& x, const Tensor& weight, const Tensor& scales,
                const std::optional<Tensor>& bias) {
  const Check check("fp8_linear");
  check_activation(check, x, "x");
  check_plain(check, weight, "weight", ScalarType::Float8_e4m3fn, {-1, x.size(1)});
  const int64_t n = weight.size(0);
  check_plain(check, scales, "scales", ScalarType::Float, {-1});
  check.require(scales.size(0) == n || scales.size(0) == 1, "scales has ", scales.size(0),
                " elements, expected ", n, " (rows of weight) or 1");
  check_rows(check, out, "out", {x.scalar_type()});
  check.shape(out, "out", {x.size(0), n});
  check.distinct(out, "out", x, "x");
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {n});
  const Launch launch(check, {{"x", x},
                              {"out", out},
                              {"weight", weight},
                              {"scales", scales},
                              {"bias", bias.value_or(x)}});
  launch.finish(vllm_cuda_fp8_linear(
      out.mutable_data_ptr(), out.stride(0), x.const_data_ptr(), x.stride(0),
      weight.const_data_ptr(), data_of<const float>(scales), static_cast<int>(scales.size(0)),
      bias ? data_of<const float>(*bias) : nullptr, static_cast<int>(x.size(0)),
      static_cast<int>(n), static_cast<int>(x.size(1)), dtype_number(x), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("linear_pack", TORCH_BOX(&linear_pack));
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("fp8_linear", TORCH_BOX(&fp8_linear));
}

}  // namespace
}  // namespace vllm_kernels
