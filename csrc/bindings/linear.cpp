// SPDX-License-Identifier: Apache-2.0

// CPU binding of the dense linear layer.

#include <optional>

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void linear(const Tensor& out, const Tensor& x, const Tensor& weight,
            const std::optional<Tensor>& bias) {
  const Check check("linear");
  check_f32_rows(check, x, "x");
  check.cpu(weight, "weight");
  check.dtype(weight, "weight", {ScalarType::Float, ScalarType::BFloat16, ScalarType::Half});
  check.shape(weight, "weight", {-1, x.size(1)});
  check.contiguous(weight, "weight");
  const int64_t n = weight.size(0);
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {n});
  check_f32_rows(check, out, "out");
  check.shape(out, "out", {x.size(0), n});
  check.distinct(out, "out", x, "x");
  const LinearArgs args{rows_of(out),       const_rows_of(x),
                        weight.const_data_ptr(), dense_type(weight),
                        bias ? data_of<float>(*bias) : nullptr, x.size(0), n, x.size(1)};
  perform([args] { ops::linear(args); });
}

void fp8_linear(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                const std::optional<Tensor>&) {
  Check("fp8_linear").require(false, "not implemented on the CPU; widen the weights and use linear");
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("fp8_linear", TORCH_BOX(&fp8_linear));
}

}  // namespace
}  // namespace vllm_kernels
