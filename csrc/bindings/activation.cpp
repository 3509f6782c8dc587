// SPDX-License-Identifier: Apache-2.0

// CPU binding of the gated activation.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void silu_and_mul(const Tensor& out, const Tensor& x) {
  const Check check("silu_and_mul");
  check_f32_rows(check, x, "x");
  check.require(x.size(1) % 2 == 0, "x has shape ", Check::sizes_text(x),
                ", its second size must be even (gate and up halves)");
  check_f32_rows(check, out, "out");
  check.shape(out, "out", {x.size(0), x.size(1) / 2});
  perform([o = rows_of(out), i = const_rows_of(x), rows = x.size(0), inner = x.size(1) / 2] {
    ops::silu_and_mul(o, i, rows, inner);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("silu_and_mul", TORCH_BOX(&silu_and_mul));
}

}  // namespace
}  // namespace vllm_kernels
