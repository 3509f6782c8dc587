// SPDX-License-Identifier: Apache-2.0

// CPU bindings of copies of heads and of products with one number.

#include <functional>

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

// Heads within rows or rows within heads: the inner ones end before the next outer one begins.
bool nested(const Tensor& t, int64_t inner, int64_t outer) {
  const int64_t step = t.size(inner) <= 1 ? 0 : t.stride(inner);
  if (t.size(inner) > 1 && step < t.size(2)) return false;
  return t.size(outer) <= 1 || t.stride(outer) >= (t.size(inner) - 1) * step + t.size(2);
}

void check_apart(const Check& check, const Tensor& out) {
  check.require(nested(out, 1, 0) || nested(out, 0, 1), "the heads of out overlap: it has shape ",
                Check::sizes_text(out), " and strides ", Check::strides_text(out));
}

// One past the last element. Strides of what is read may be 0.
const float* end_of(const Tensor& t) {
  return data_of<float>(t) + (t.size(0) - 1) * t.stride(0) + (t.size(1) - 1) * t.stride(1) +
         t.size(2);
}

// Rows are copied by several threads in any order, so a shared element would be read old or new.
void check_unshared(const Check& check, const Tensor& out, const Tensor& x) {
  const std::less_equal<const float*> before;
  check.require(before(end_of(out), data_of<float>(x)) || before(end_of(x), data_of<float>(out)),
                "out and x must not lie in the same memory");
}

void copy_heads(const Tensor& out, const Tensor& x) {
  const Check check("copy_heads");
  check_heads(check, out, "out");
  check_heads(check, x, "x");
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
