// SPDX-License-Identifier: Apache-2.0

// Scalar reference of the reductions over a row of logits.

#include "cpu/scalar/kernels.h"

#include <cmath>

namespace vllm_kernels::scalar {

int64_t argmax(const float* x, int64_t n) {
  float best = -INFINITY;
  int64_t index = -1;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] > best || (index < 0 && x[i] == best)) {
      best = x[i];
      index = i;
    }
  }
  return index < 0 ? 0 : index;
}

float total(const float* x, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

double exp_row(float* dst, const float* x, int64_t n, float max, float scale) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    const double e = std::exp((static_cast<double>(x[i]) - max) * scale);
    dst[i] = std::isnan(e) ? 0.0f : static_cast<float>(e);
    sum += dst[i];
  }
  return sum;
}

double exp_sum(const float* x, int64_t n, float max, float scale) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    const double e = std::exp((static_cast<double>(x[i]) - max) * scale);
    sum += std::isnan(e) ? 0.0 : e;
  }
  return sum;
}

int64_t next_above(const float* x, int64_t begin, int64_t n, float value) {
  while (begin < n && !(x[begin] > value)) ++begin;
  return begin;
}

int64_t count_above(const float* x, int64_t n, float value) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += x[i] > value;
  return count;
}

}  // namespace vllm_kernels::scalar
