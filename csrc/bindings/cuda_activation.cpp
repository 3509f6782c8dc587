// SPDX-License-Identifier: Apache-2.0

// CUDA binding of the gated activation.

#include "bindings/cuda_args.h"

namespace vllm_kernels {
namespace {

void silu_and_mul(const Tensor& out, const Tensor& x) {
  const Check check("silu_and_mul");
  check_activation(check, x, "x");
  check.require(x.size(1) % 2 == 0, "x has shape ", Check::sizes_text(x),
                ", its second size must be even (gate and up halves)");
  check_rows(check, out, "out", {x.scalar_type()});
  check.shape(out, "out", {x.size(0), x.size(1) / 2});
  const Launch launch(check, {{"x", x}, {"out", out}});
  launch.finish(vllm_cuda_silu_and_mul(out.mutable_data_ptr(), out.stride(0), x.const_data_ptr(),
                                       x.stride(0), x.size(0), x.size(1) / 2, dtype_number(x),
                                       launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("silu_and_mul", TORCH_BOX(&silu_and_mul));
}

}  // namespace
}  // namespace vllm_kernels
