// SPDX-License-Identifier: Apache-2.0

// Mixture of experts: which experts a token goes to, and their feed-forward layers. Tokens are
// grouped by expert, so that the weights of an expert are read once per step; a token's sum runs
// over its experts in ascending order, so it does not depend on the other tokens.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// Rows of one expert at a time: what bounds the scratch memory of a long prompt.
constexpr int64_t kExpertRows = 256;
constexpr double kNever = -std::numeric_limits<double>::infinity();

// Indices of the `count` largest of n values, the first among equals. NaN is the smallest.
template <class Visit>
void visit_largest(const double* values, int64_t n, int64_t count, std::vector<char>& taken,
                   const Visit& visit) {
  taken.assign(static_cast<size_t>(n), 0);
  for (int64_t j = 0; j < count; ++j) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; ++i)
      if (!taken[i] && (best < 0 || values[i] > values[best] || std::isnan(values[best]))) best = i;
    taken[best] = 1;
    visit(j, best);
  }
}

class Router {
 public:
  explicit Router(const Routing& args)
      : a_(args), scores_(args.experts), choice_(args.experts), groups_(args.groups) {}

  void route(int32_t* ids, float* weights, const float* logits) {
    score(logits);
    for (int64_t e = 0; e < a_.experts; ++e) choice_[e] = scores_[e] + (a_.bias ? a_.bias[e] : 0);
    if (a_.groups > 1) drop_groups();
    double total = 0.0;
    visit_largest(choice_.data(), a_.experts, a_.top, taken_, [&](int64_t j, int64_t e) {
      ids[j] = static_cast<int32_t>(e);
      total += scores_[e];
    });
    const double factor = a_.renormalize ? a_.factor / (total + 1e-20) : a_.factor;
    for (int64_t j = 0; j < a_.top; ++j)
      weights[j] = static_cast<float>(scores_[ids[j]] * factor);
  }

 private:
  void score(const float* logits) {
    if (a_.sigmoid) {
      for (int64_t e = 0; e < a_.experts; ++e)
        scores_[e] = 1.0 / (1.0 + std::exp(-static_cast<double>(logits[e])));
      return;
    }
    const double max = *std::max_element(logits, logits + a_.experts);
    double total = 0.0;
    for (int64_t e = 0; e < a_.experts; ++e) total += scores_[e] = std::exp(logits[e] - max);
    for (int64_t e = 0; e < a_.experts; ++e) scores_[e] /= total;
  }

  void drop_groups() {
    const int64_t size = a_.experts / a_.groups;
    for (int64_t g = 0; g < a_.groups; ++g) {
      const double* members = choice_.data() + g * size;
      groups_[g] = 0.0;
      visit_largest(members, size, a_.group_best, taken_,
                    [&](int64_t, int64_t e) { groups_[g] += members[e]; });
    }
    kept_.assign(static_cast<size_t>(a_.groups), 0);
    visit_largest(groups_.data(), a_.groups, a_.top_groups, taken_,
                  [&](int64_t, int64_t g) { kept_[g] = 1; });
    for (int64_t e = 0; e < a_.experts; ++e)
      if (!kept_[e / size]) choice_[e] = kNever;
  }

  const Routing& a_;
  std::vector<double> scores_, choice_, groups_;
  std::vector<char> taken_, kept_;
};

// (token, place among its experts) pairs in the order of experts; those of e are at start[e] on.
struct Assignment {
  std::vector<int64_t> start, pair;

  explicit Assignment(const Experts& a) : start(a.experts + 1, 0), pair(a.rows * a.top) {
    const int64_t pairs = a.rows * a.top;
    for (int64_t p = 0; p < pairs; ++p) ++start[a.ids[p] + 1];
    for (int64_t e = 0; e < a.experts; ++e) start[e + 1] += start[e];
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t p = 0; p < pairs; ++p) pair[next[a.ids[p]]++] = p;
  }
};

// Activations of the experts, kept by the thread that calls the op.
struct Scratch {
  std::vector<float> in, inner, gated, sum;

  void reserve(int64_t rows, int64_t hidden, int64_t width, int64_t tokens) {
    grow(in, rows * hidden);
    grow(inner, rows * 2 * width);
    grow(gated, rows * width);
    grow(sum, tokens * hidden);
  }

  static void grow(std::vector<float>& v, int64_t size) {
    if (static_cast<int64_t>(v.size()) < size) v.resize(static_cast<size_t>(size));
  }
};

void multiply(Rows out, ConstRows x, const ExpertMatrices& w, int64_t expert, int64_t rows) {
  if (w.quantized)
    quant_linear({out, x, w.of(expert), nullptr, w.qtype, rows, w.n, w.k, 0, {}, {}});
  else
    linear({out, x, w.of(expert), w.dtype, nullptr, rows, w.n, w.k, nullptr});
}

void begin_sums(const Experts& a, float* sum, int64_t hidden) {
  for (int64_t t = 0; t < a.rows; ++t) {
    float* row = sum + t * hidden;
    if (a.addend)
      memcpy(row, a.addend + t * a.addend_stride, static_cast<size_t>(hidden) * sizeof(float));
    else
      std::fill(row, row + hidden, 0.0f);
  }
}

// Rows `pairs` of one expert: gathered, through its layers, added to the sums of their tokens.
void run_expert(const Experts& a, Scratch& s, int64_t expert, const int64_t* pairs, int64_t rows) {
  const int64_t hidden = a.down.n, width = a.down.k;
  const Rows in{s.in.data(), hidden}, inner{s.inner.data(), 2 * width},
      gated{s.gated.data(), width};
  const auto row_bytes = static_cast<size_t>(hidden) * sizeof(float);
  for (int64_t r = 0; r < rows; ++r) memcpy(in.row(r), a.x.row(pairs[r] / a.top), row_bytes);
  multiply(inner, {in.data, in.stride}, a.gate_up, expert, rows);
  silu_and_mul(gated, {inner.data, inner.stride}, rows, width);
  multiply(in, {gated.data, gated.stride}, a.down, expert, rows);
  parallel_for(rows, balanced_grain(rows, 16384 / hidden + 1), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float weight = a.weights[pairs[r]];
      float* sum = s.sum.data() + pairs[r] / a.top * hidden;
      for (int64_t i = 0; i < hidden; ++i) sum[i] += weight * in.row(r)[i];
    }
  });
}

}  // namespace

void route_experts(int32_t* ids, float* weights, const Routing& a, ConstRows logits, int64_t rows) {
  parallel_for(rows, balanced_grain(rows, 2048 / a.experts + 1), [&](int64_t begin, int64_t end) {
    Router router(a);
    for (int64_t r = begin; r < end; ++r)
      router.route(ids + r * a.top, weights + r * a.top, logits.row(r));
  });
}

void fused_experts(const Experts& a) {
  static thread_local Scratch scratch;
  const int64_t hidden = a.down.n;
  const Assignment assigned(a);
  scratch.reserve(std::min(kExpertRows, a.rows), hidden, a.down.k, a.rows);
  begin_sums(a, scratch.sum.data(), hidden);
  for (int64_t e = 0; e < a.experts; ++e)
    for (int64_t p = assigned.start[e]; p < assigned.start[e + 1]; p += kExpertRows)
      run_expert(a, scratch, e, assigned.pair.data() + p,
                 std::min(kExpertRows, assigned.start[e + 1] - p));
  for (int64_t t = 0; t < a.rows; ++t)
    memcpy(a.out.row(t), scratch.sum.data() + t * hidden,
           static_cast<size_t>(hidden) * sizeof(float));
}

}  // namespace vllm_kernels::ops
