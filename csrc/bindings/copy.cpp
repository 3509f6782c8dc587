// SPDX-License-Identifier: Apache-2.0

// CPU bindings of copies of heads and of products with one number.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void check_heads(const Check& check, const Tensor& t, const char* name) {
  check.cpu(t, name);
  check.dtype(t, name, {ScalarType::Float});
  check.require(t.dim() == 3, name, " has shape ", Check::sizes_text(t),
                ", expected three dimensions (rows, heads, width)");
  check.require(t.size(2) <= 1 || t.stride(2) == 1, name,
                " must have adjacent elements in each head, but has strides ",
                Check::strides_text(t));
}

void copy_heads(const Tensor& out, const Tensor& x) {
  const Check check("copy_heads");
  check_heads(check, out, "out");
  check_heads(check, x, "x");
  check.shape(x, "x", {out.size(0), out.size(1), out.size(2)});
  check.require(out.size(1) <= 1 || out.stride(1) >= out.size(2),
                "the heads of out overlap: its strides are ", Check::strides_text(out));
  check.require(out.size(0) <= 1 || out.stride(0) >= out.size(2),
                "the rows of out overlap: its strides are ", Check::strides_text(out));
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
