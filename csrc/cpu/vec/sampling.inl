// SPDX-License-Identifier: Apache-2.0

// Reductions over a row of logits in vectors; see common.inl for how this is included.

// Finds the largest value first, then its first place: two passes that a vector does without
// branches beat one that carries indices.
int64_t argmax(const float* x, int64_t n) {
  F best = set1(-__builtin_inff());
  int64_t i = 0;
  // max(value, best) keeps best where the value is NaN.
  for (; i + kLanes <= n; i += kLanes) best = max(load(x + i), best);
  float value = largest(best);
  for (; i < n; ++i) value = x[i] > value ? x[i] : value;
  for (int64_t j = 0; j < n; ++j)
    if (x[j] == value) return j;
  return 0;
}

float total(const float* x, int64_t n) {
  F s0 = zero(), s1 = zero();
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    s0 = add(s0, load(x + i));
    s1 = add(s1, load(x + i + kLanes));
  }
  for (; i < n; i += kLanes) s0 = add(s0, load_some(x + i, n - i));
  return sum(add(s0, s1));
}

inline F shifted_exp(F x, F max, F scale) { return exp_of(mul(sub(x, max), scale)); }

double exp_row(float* dst, const float* x, int64_t n, float max, float scale) {
  const F m = set1(max), s = set1(scale);
  double total = 0.0;
  for (int64_t i = 0; i < n; i += kLanes) {
    const F e = keep_first(shifted_exp(load_some(x + i, n - i), m, s), zero(), n - i);
    store_some(dst + i, e, n - i);
    total += sum_as_double(e);
  }
  return total;
}

double exp_sum(const float* x, int64_t n, float max, float scale) {
  const F m = set1(max), s = set1(scale);
  double total = 0.0;
  for (int64_t i = 0; i < n; i += kLanes)
    total += sum_as_double(keep_first(shifted_exp(load_some(x + i, n - i), m, s), zero(), n - i));
  return total;
}

int64_t next_above(const float* x, int64_t begin, int64_t n, float value) {
  const F limit = set1(value);
  for (; begin + kLanes <= n && !any_greater(load(x + begin), limit); begin += kLanes) continue;
  while (begin < n && !(x[begin] > value)) ++begin;
  return begin;
}

int64_t count_above(const float* x, int64_t n, float value) {
  const F limit = set1(value);
  int64_t count = 0, i = 0;
  for (; i + kLanes <= n; i += kLanes) count += count_greater(load(x + i), limit);
  for (; i < n; ++i) count += x[i] > value;
  return count;
}
