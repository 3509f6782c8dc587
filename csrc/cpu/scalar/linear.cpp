// SPDX-License-Identifier: Apache-2.0

// Scalar reference of the dense linear layer. Every output is summed as eight partial sums in
// double (partial sum j takes the columns with index mod 8 = j, in ascending order), added up as a
// tree: one fixed order that a compiler can still put into vector registers.

#include "cpu/scalar/kernels.h"

namespace vllm_kernels::scalar {
namespace {

constexpr int64_t kPartials = 8;

double add_up(const double* s) {
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

double dot(const float* x, const float* w, int64_t k) {
  double sums[kPartials] = {};
  int64_t i = 0;
  for (; i + kPartials <= k; i += kPartials)
    for (int64_t j = 0; j < kPartials; ++j)
      sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(w[i + j]);
  for (int64_t j = 0; i + j < k; ++j)
    sums[j] += static_cast<double>(x[i + j]) * static_cast<double>(w[i + j]);
  return add_up(sums);
}

double dot_narrow(const float* x, const void* w, DType dtype, int64_t offset, int64_t k) {
  double sums[kPartials] = {};
  for (int64_t i = 0; i < k; ++i)
    sums[i % kPartials] += static_cast<double>(x[i]) * load_element(w, dtype, offset + i);
  return add_up(sums);
}

}  // namespace

void linear(const LinearArgs& a, int64_t n0, int64_t n1, int64_t m0, int64_t m1) {
  for (int64_t n = n0; n < n1; ++n) {
    for (int64_t m = m0; m < m1; ++m) {
      const double sum = a.dtype == DType::kF32
                             ? dot(a.x.row(m), static_cast<const float*>(a.weight) + n * a.k, a.k)
                             : dot_narrow(a.x.row(m), a.weight, a.dtype, n * a.k, a.k);
      a.out.row(m)[n] = static_cast<float>(sum + (a.bias ? a.bias[n] : 0.0f));
    }
  }
}

}  // namespace vllm_kernels::scalar
