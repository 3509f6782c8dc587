// SPDX-License-Identifier: Apache-2.0

// CUDA bindings of the gated activations.

#include "bindings/cuda_args.h"

namespace vllm_kernels {
namespace {

using Gated = decltype(&vllm_cuda_silu_and_mul);

void gated(const char* name, Gated op, const Tensor& out, const Tensor& x) {
  const Check check(name);
  check_activation(check, x, "x");
  check.require(x.size(1) % 2 == 0, "x has shape ", Check::sizes_text(x),
                ", its second size must be even (gate and up halves)");
  check_rows(check, out, "out", {x.scalar_type()});
  check.shape(out, "out", {x.size(0), x.size(1) / 2});
  const Launch launch(check, {{"x", x}, {"out", out}});
  launch.finish(op(out.mutable_data_ptr(), out.stride(0), x.const_data_ptr(), x.stride(0),
                   x.size(0), x.size(1) / 2, dtype_number(x), launch.stream()));
}

void silu_and_mul(const Tensor& out, const Tensor& x) {
  gated("silu_and_mul", &vllm_cuda_silu_and_mul, out, x);
}

void gelu_tanh_and_mul(const Tensor& out, const Tensor& x) {
  gated("gelu_tanh_and_mul", &vllm_cuda_gelu_tanh_and_mul, out, x);
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("silu_and_mul", TORCH_BOX(&silu_and_mul));
  m.impl("gelu_tanh_and_mul", TORCH_BOX(&gelu_tanh_and_mul));
}

}  // namespace
}  // namespace vllm_kernels
