// SPDX-License-Identifier: Apache-2.0

// CPU bindings of copies of heads and of products with one number.

#include "bindings/cpu_args.h"
#include "bindings/heads.h"

namespace vllm_kernels {
namespace {

void copy_heads(const Tensor& out, const Tensor& x) {
  const Check check("copy_heads");
  check.cpu(out, "out");
  check.cpu(x, "x");
  check_heads(check, out, "out", {ScalarType::Float});
  check_heads(check, x, "x", {ScalarType::Float});
  check.shape(x, "x", {out.size(0), out.size(1), out.size(2)});
  if (out.numel() == 0) return;
  check_apart(check, out);
  check_unshared(check, out, x);
  const ops::CopyHeads args{static_cast<float*>(out.mutable_data_ptr()), data_of<float>(x),
                            out.size(0), out.size(1), out.size(2),
                            out.stride(0), out.stride(1), x.stride(0), x.stride(1)};
  perform([args] { ops::copy_heads(args); });
}

void scale(const Tensor& x, double factor) {
  const Check check("scale");
  check_f32_rows(check, x, "x");
  perform([r = rows_of(x), rows = x.size(0), width = x.size(1), f = static_cast<float>(factor)] {
    ops::scale(r, rows, width, f);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("copy_heads", TORCH_BOX(&copy_heads));
  m.impl("scale", TORCH_BOX(&scale));
}

}  // namespace
}  // namespace vllm_kernels
