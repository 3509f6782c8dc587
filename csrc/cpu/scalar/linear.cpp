// SPDX-License-Identifier: Apache-2.0

// Scalar reference of the dense linear layer. Every output is summed as eight partial sums in
// double (partial sum j takes the columns with index mod 8 = j, in ascending order), added up as a
// tree: one fixed order that a compiler can still put into vector registers, several outputs to each.

#include "cpu/scalar/kernels.h"

namespace vllm_kernels::scalar {
namespace {

constexpr int64_t kPartials = 8;
constexpr int64_t kOutputs = 8;  // at a time

double add_up(const double* s) {
  return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

// Element of row r and column i of a tile.
template <DType D>
float weight_at(const uint8_t* tile, int64_t i, int64_t r) {
  constexpr int64_t columns = unit_columns(D);
  return load_element(tile, D, (i / columns * kDenseRows + r) * columns + i % columns);
}

// Partial sum j of x with rows r.. of a tile.
template <DType D>
void add_columns(double* sums, const uint8_t* tile, int64_t r, const float* x, int64_t j, int64_t k) {
  double s[kOutputs] = {};
  for (int64_t i = j; i < k; i += kPartials)
    for (int64_t o = 0; o < kOutputs; ++o)
      s[o] += static_cast<double>(x[i]) * static_cast<double>(weight_at<D>(tile, i, r + o));
  for (int64_t o = 0; o < kOutputs; ++o) sums[o * kPartials + j] = s[o];
}

template <DType D>
void multiply(const LinearArgs& a, int64_t t, int64_t m) {
  const uint8_t* tile = a.weight + t * dense_units(D, a.k) * unit_bytes(D);
  for (int64_t r = 0; r < kDenseRows; r += kOutputs) {
    double sums[kOutputs * kPartials];
    for (int64_t j = 0; j < kPartials; ++j) add_columns<D>(sums, tile, r, a.x.row(m), j, a.k);
    for (int64_t o = 0, n = t * kDenseRows + r; o < kOutputs && n < a.n; ++o, ++n)
      a.out.row(m)[n] = static_cast<float>(add_up(sums + o * kPartials) + (a.bias ? a.bias[n] : 0.0f));
  }
}

template <DType D>
void linear_as(const LinearArgs& a, int64_t t0, int64_t t1, int64_t m0, int64_t m1) {
  for (int64_t t = t0; t < t1; ++t)
    for (int64_t m = m0; m < m1; ++m) multiply<D>(a, t, m);
}

}  // namespace

void linear(const LinearArgs& a, int64_t t0, int64_t t1, int64_t m0, int64_t m1) {
  switch (a.dtype) {
    case DType::kF32: return linear_as<DType::kF32>(a, t0, t1, m0, m1);
    case DType::kF16: return linear_as<DType::kF16>(a, t0, t1, m0, m1);
    case DType::kBF16: return linear_as<DType::kBF16>(a, t0, t1, m0, m1);
  }
}

}  // namespace vllm_kernels::scalar
