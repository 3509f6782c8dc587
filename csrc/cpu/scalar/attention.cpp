// SPDX-License-Identifier: Apache-2.0

// Scalar reference of paged attention: softmax in two passes over the context, sums in double in
// ascending key order. A token sees the keys up to its own position, the last `window` of them where
// there is a window, so a result does not depend on which other tokens are in the step.

#include "cpu/scalar/kernels.h"

#include <cmath>

namespace vllm_kernels::scalar {
namespace {

// Offset in a cache of the row of `position` of this item's sequence and KV head.
int64_t cache_row(const AttentionArgs& a, const AttentionItem& item, int64_t position) {
  const int32_t* table = a.block_tables + item.sequence * a.max_blocks;
  const int64_t block = table[position / a.block_size];
  const int64_t slot = (block * a.kv_heads + item.kv_head) * a.block_size + position % a.block_size;
  return slot * a.head_dim;
}

float score(const AttentionArgs& a, const float* q, int64_t row) {
  double sum = 0.0;
  for (int64_t d = 0; d < a.head_dim; ++d)
    sum += static_cast<double>(q[d]) * load_element(a.k_cache, a.dtype, row + d);
  sum *= a.scale;
  if (a.soft_cap > 0.0f) sum = a.soft_cap * std::tanh(sum / a.soft_cap);
  return static_cast<float>(sum);
}

// Turns scores, of the first visible key on, into exp(score - max) and returns their sum.
double exponentiate(float* scores, int64_t n) {
  float max = scores[0];
  for (int64_t i = 1; i < n; ++i) max = scores[i] > max ? scores[i] : max;
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) {
    scores[i] = static_cast<float>(std::exp(static_cast<double>(scores[i]) - max));
    sum += scores[i];
  }
  return sum;
}

// Dimensions are summed eight at a time: each sum runs over all keys before the next begins.
constexpr int64_t kDims = 8;

// `weights` begin with the first visible key.
void weigh_values(const AttentionArgs& a, const AttentionItem& item, const float* weights,
                  int64_t first, int64_t context, double total, float* out) {
  for (int64_t d0 = 0; d0 < a.head_dim; d0 += kDims) {
    const int64_t dims = a.head_dim - d0 < kDims ? a.head_dim - d0 : kDims;
    double sums[kDims] = {};
    for (int64_t p = first; p < context; ++p) {
      const int64_t row = cache_row(a, item, p) + d0;
      for (int64_t d = 0; d < dims; ++d)
        sums[d] += static_cast<double>(weights[p - first]) * load_element(a.v_cache, a.dtype, row + d);
    }
    for (int64_t d = 0; d < dims; ++d) out[d0 + d] = static_cast<float>(sums[d] / total);
  }
}

void attend(const AttentionArgs& a, const AttentionItem& item, float* scratch) {
  const int64_t group = a.q_heads / a.kv_heads;
  for (int64_t t = 0; t < item.tokens; ++t) {
    const int64_t context = item.position + t + 1, first = a.first_visible(context - 1);
    for (int64_t g = 0; g < group; ++g) {
      const int64_t column = (item.kv_head * group + g) * a.head_dim;
      const float* q = a.q.row(item.token + t) + column;
      for (int64_t p = first; p < context; ++p)
        scratch[p - first] = score(a, q, cache_row(a, item, p));
      const double total = exponentiate(scratch, context - first);
      weigh_values(a, item, scratch, first, context, total, a.out.row(item.token + t) + column);
    }
  }
}

}  // namespace

void attention(const AttentionArgs& a, const AttentionItem* items, int64_t count, float* scratch) {
  for (int64_t i = 0; i < count; ++i) attend(a, items[i], scratch);
}

}  // namespace vllm_kernels::scalar
