// SPDX-License-Identifier: Apache-2.0

// Checks of [rows, heads, width] tensors whose heads lie anywhere, shared by the CPU and the CUDA
// bindings of copy_heads.

#pragma once

#include <functional>

#include "bindings/check.h"

namespace vllm_kernels {

inline void check_heads(const Check& check, const Tensor& t, const char* name,
                        std::initializer_list<ScalarType> accepted) {
  check.dtype(t, name, accepted);
  check.require(t.dim() == 3, name, " has shape ", Check::sizes_text(t),
                ", expected three dimensions (rows, heads, width)");
  check.require(t.size(2) <= 1 || t.stride(2) == 1, name,
                " must have adjacent elements in each head, but has strides ",
                Check::strides_text(t));
}

// Heads within rows or rows within heads: the inner ones end before the next outer one begins.
inline bool nested(const Tensor& t, int64_t inner, int64_t outer) {
  const int64_t step = t.size(inner) <= 1 ? 0 : t.stride(inner);
  if (t.size(inner) > 1 && step < t.size(2)) return false;
  return t.size(outer) <= 1 || t.stride(outer) >= (t.size(inner) - 1) * step + t.size(2);
}

inline void check_apart(const Check& check, const Tensor& out) {
  check.require(nested(out, 1, 0) || nested(out, 0, 1), "the heads of out overlap: it has shape ",
                Check::sizes_text(out), " and strides ", Check::strides_text(out));
}

// One past the last byte. Strides of what is read may be 0.
inline const char* end_of(const Tensor& t) {
  const int64_t elements =
      (t.size(0) - 1) * t.stride(0) + (t.size(1) - 1) * t.stride(1) + t.size(2);
  return static_cast<const char*>(t.const_data_ptr()) + elements * t.element_size();
}

// Rows are copied by several threads in any order, so a shared element would be read old or new.
inline void check_unshared(const Check& check, const Tensor& out, const Tensor& x) {
  const std::less_equal<const void*> before;
  check.require(before(end_of(out), x.const_data_ptr()) || before(end_of(x), out.const_data_ptr()),
                "out and x must not lie in the same memory");
}

}  // namespace vllm_kernels
