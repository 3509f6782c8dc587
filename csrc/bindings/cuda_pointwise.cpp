// SPDX-License-Identifier: Apache-2.0

// CUDA bindings of the soft cap, of products with one number and of copies of heads.

#include "bindings/cuda_args.h"
#include "bindings/heads.h"

namespace vllm_kernels {
namespace {

using OneNumber = decltype(&vllm_cuda_scale);

void in_place(const Check& check, OneNumber op, const Tensor& x, double number) {
  check_activation(check, x, "x");
  const Launch launch(check, {{"x", x}});
  launch.finish(op(x.mutable_data_ptr(), x.stride(0), x.size(0), x.size(1),
                   static_cast<float>(number), dtype_number(x), launch.stream()));
}

void soft_cap(const Tensor& x, double cap) {
  const Check check("soft_cap");
  check.require(cap > 0.0, "cap is ", cap, ", expected a number above 0");
  in_place(check, &vllm_cuda_soft_cap, x, cap);
}

void scale(const Tensor& x, double factor) {
  in_place(Check("scale"), &vllm_cuda_scale, x, factor);
}

void copy_heads(const Tensor& out, const Tensor& x) {
  const Check check("copy_heads");
  check_heads(check, out, "out", {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16});
  check_heads(check, x, "x", {out.scalar_type()});
  check.shape(x, "x", {out.size(0), out.size(1), out.size(2)});
  if (out.numel() == 0) return;
  check_apart(check, out);
  check_unshared(check, out, x);
  const Launch launch(check, {{"out", out}, {"x", x}});
  launch.finish(vllm_cuda_copy_heads(
      out.mutable_data_ptr(), out.stride(0), out.stride(1), x.const_data_ptr(), x.stride(0),
      x.stride(1), out.size(0), as_int(check, out.size(1), "the number of heads"),
      as_int(check, out.size(2), "the width of a head"), dtype_number(out), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("soft_cap", TORCH_BOX(&soft_cap));
  m.impl("scale", TORCH_BOX(&scale));
  m.impl("copy_heads", TORCH_BOX(&copy_heads));
}

}  // namespace
}  // namespace vllm_kernels
