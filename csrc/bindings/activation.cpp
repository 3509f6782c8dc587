// SPDX-License-Identifier: Apache-2.0

// CPU bindings of the gated activations and the soft cap.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

using Gated = void (*)(Rows out, ConstRows x, int64_t rows, int64_t inner);

void gated(const char* name, Gated op, const Tensor& out, const Tensor& x) {
  const Check check(name);
  check_f32_rows(check, x, "x");
  check.require(x.size(1) % 2 == 0, "x has shape ", Check::sizes_text(x),
                ", its second size must be even (gate and up halves)");
  check_f32_rows(check, out, "out");
  check.shape(out, "out", {x.size(0), x.size(1) / 2});
  perform([op, o = rows_of(out), i = const_rows_of(x), rows = x.size(0), inner = x.size(1) / 2] {
    op(o, i, rows, inner);
  });
}

void silu_and_mul(const Tensor& out, const Tensor& x) {
  gated("silu_and_mul", &ops::silu_and_mul, out, x);
}

void gelu_tanh_and_mul(const Tensor& out, const Tensor& x) {
  gated("gelu_tanh_and_mul", &ops::gelu_tanh_and_mul, out, x);
}

void soft_cap(const Tensor& x, double cap) {
  const Check check("soft_cap");
  check_f32_rows(check, x, "x");
  check.require(cap > 0.0, "cap is ", cap, ", expected a number above 0");
  perform([r = rows_of(x), rows = x.size(0), width = x.size(1), c = static_cast<float>(cap)] {
    ops::soft_cap(r, rows, width, c);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("silu_and_mul", TORCH_BOX(&silu_and_mul));
  m.impl("gelu_tanh_and_mul", TORCH_BOX(&gelu_tanh_and_mul));
  m.impl("soft_cap", TORCH_BOX(&soft_cap));
}

}  // namespace
}  // namespace vllm_kernels
