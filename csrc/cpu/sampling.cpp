// SPDX-License-Identifier: Apache-2.0

// From logits to tokens and log probabilities. Rows are independent and handed out one by one.
//
// Ties are broken in one way throughout: among equal logits the lower token id comes first.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

struct Candidate {
  float logit;
  int64_t id;
};

bool precedes(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// log(sum(exp(row))), with the largest logit taken out first.
struct Normalizer {
  float max;
  double log_sum;
};

Normalizer normalizer(const float* row, int64_t vocab) {
  const float max = row[kernels().argmax(row, vocab)];
  return {max, std::log(kernels().exp_sum(row, vocab, max, 1.0f))};
}

float logprob(float logit, const Normalizer& n) {
  return static_cast<float>(static_cast<double>(logit) - n.max - n.log_sum);
}

// The first k candidates in order; NaN and -inf come last.
std::vector<Candidate> best(const float* row, int64_t vocab, int64_t k) {
  std::vector<Candidate> heap;  // the worst of the kept ones on top
  heap.reserve(static_cast<size_t>(k));
  for (int64_t id = 0; id < vocab; ++id) {
    const float logit = std::isnan(row[id]) ? -INFINITY : row[id];
    if (static_cast<int64_t>(heap.size()) < k) {
      heap.push_back({logit, id});
      std::push_heap(heap.begin(), heap.end(), precedes);
    } else if (logit > heap.front().logit) {
      std::pop_heap(heap.begin(), heap.end(), precedes);
      heap.back() = {logit, id};
      std::push_heap(heap.begin(), heap.end(), precedes);
    }
  }
  std::sort_heap(heap.begin(), heap.end(), precedes);
  return heap;
}

// Temperatures below this are greedy: dividing by them would leave f32.
constexpr float kGreedyBelow = 1e-5f;

struct RowSampling {
  float temperature;
  int64_t top_k;
  float top_p;
  float min_p;
  double uniform;
};

// All tokens whose weight exp((logit - max) / temperature) reaches the floor min_p sets, in order
// of ids; weights are relative to the most likely token, so the floor is min_p itself.
void keep_min_p(std::vector<Candidate>& kept, const float* weights, int64_t vocab, float min_p) {
  for (int64_t id = 0; id < vocab; ++id)
    if (weights[id] > 0.0f && weights[id] >= min_p) kept.push_back({weights[id], id});
}

void keep_top_k(std::vector<Candidate>& kept, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(kept.size())) return;
  std::nth_element(kept.begin(), kept.begin() + (k - 1), kept.end(), precedes);
  kept.resize(static_cast<size_t>(k));
}

// The smallest set of likeliest tokens whose share of the weight reaches top_p. Sorts no more than
// it needs: 64 tokens first, then eight times as many.
void keep_top_p(std::vector<Candidate>& kept, float top_p) {
  if (top_p >= 1.0f) return;
  double total = 0.0;
  for (const Candidate& c : kept) total += c.logit;
  const double wanted = total * top_p;
  double sum = 0.0;
  size_t done = 0;
  for (size_t sorted = 64; done < kept.size(); sorted *= 8) {
    const size_t end = std::min(sorted, kept.size());
    std::partial_sort(kept.begin() + done, kept.begin() + end, kept.end(), precedes);
    for (; done < end; ++done) {
      sum += kept[done].logit;
      if (sum >= wanted) return kept.resize(done + 1);
    }
  }
}

// Inverse of the cumulative distribution over ascending ids.
int64_t pick(std::vector<Candidate>& kept, double uniform) {
  std::sort(kept.begin(), kept.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double total = 0.0;
  for (const Candidate& c : kept) total += c.logit;
  const double wanted = uniform * total;
  double sum = 0.0;
  for (const Candidate& c : kept) {
    sum += c.logit;
    if (sum > wanted) return c.id;
  }
  return kept.back().id;
}

// The same without any filter, on the weights of the whole vocabulary.
int64_t pick_any(const float* weights, int64_t vocab, double total, double uniform) {
  const double wanted = uniform * total;
  double sum = 0.0;
  int64_t last = 0;
  for (int64_t id = 0; id < vocab; ++id) {
    if (weights[id] == 0.0f) continue;
    sum += weights[id];
    last = id;
    if (sum > wanted) break;
  }
  return last;
}

int64_t sample_row(const float* row, int64_t vocab, const RowSampling& s,
                   std::vector<float>& weights) {
  const int64_t likeliest = kernels().argmax(row, vocab);
  if (s.temperature < kGreedyBelow || s.top_k == 1 || !std::isfinite(row[likeliest]))
    return likeliest;
  weights.resize(static_cast<size_t>(vocab));
  const double total =
      kernels().exp_row(weights.data(), row, vocab, row[likeliest], 1.0f / s.temperature);
  if (s.top_k <= 0 && s.top_p >= 1.0f && s.min_p <= 0.0f)
    return pick_any(weights.data(), vocab, total, s.uniform);
  std::vector<Candidate> kept;
  keep_min_p(kept, weights.data(), vocab, s.min_p);
  keep_top_k(kept, s.top_k);
  keep_top_p(kept, s.top_p);
  return kept.empty() ? likeliest : pick(kept, s.uniform);
}

float penalized(float logit, int32_t count, bool in_prompt, const Penalties& a, int64_t row) {
  const float repetition = a.repetition[row];
  if (count > 0 || in_prompt) logit = logit > 0.0f ? logit / repetition : logit * repetition;
  if (count > 0) logit -= a.frequency[row] * static_cast<float>(count) + a.presence[row];
  return logit;
}

}  // namespace

void argmax(int64_t* out, ConstRows logits, int64_t rows, int64_t vocab) {
  parallel_for(rows, 1,
               [&](int64_t r, int64_t) { out[r] = kernels().argmax(logits.row(r), vocab); });
}

void apply_logit_bias(Rows logits, const int64_t* rows, const int64_t* ids, const float* bias,
                      int64_t entries) {
  for (int64_t i = 0; i < entries; ++i) logits.row(rows[i])[ids[i]] += bias[i];
}

void apply_penalties(const Penalties& a, Rows logits, int64_t rows) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = a.row_offsets[r]; i < a.row_offsets[r + 1]; ++i) {
      float& logit = logits.row(r)[a.ids[i]];
      logit = penalized(logit, a.output_counts[i], a.in_prompt[i], a, r);
    }
}

void token_logprobs(float* out, int64_t* ranks, ConstRows logits, const int64_t* ids, int64_t rows,
                    int64_t per_row, int64_t vocab) {
  parallel_for(rows, 1, [&](int64_t r, int64_t) {
    const float* row = logits.row(r);
    const Normalizer n = normalizer(row, vocab);
    for (int64_t i = r * per_row; i < (r + 1) * per_row; ++i) {
      out[i] = ids[i] < 0 ? NAN : logprob(row[ids[i]], n);
      ranks[i] = std::isnan(out[i]) ? 0 : 1 + kernels().count_above(row, vocab, row[ids[i]]);
    }
  });
}

void topk_logprobs(float* out, int64_t* ids, ConstRows logits, int64_t rows, int64_t k,
                   int64_t vocab) {
  if (k == 0) return;
  parallel_for(rows, 1, [&](int64_t r, int64_t) {
    const Normalizer n = normalizer(logits.row(r), vocab);
    const std::vector<Candidate> kept = best(logits.row(r), vocab, k);
    for (int64_t i = 0; i < k; ++i) {
      out[r * k + i] = logprob(kept[i].logit, n);
      ids[r * k + i] = kept[i].id;
    }
  });
}

void sample(int64_t* out, const Sampling& a, ConstRows logits, int64_t rows, int64_t vocab) {
  parallel_for(rows, 1, [&](int64_t r, int64_t) {
    static thread_local std::vector<float> weights;
    const RowSampling s{a.temperature[r], a.top_k[r], a.top_p[r], a.min_p[r], a.uniform[r]};
    out[r] = sample_row(logits.row(r), vocab, s, weights);
  });
}

}  // namespace vllm_kernels::ops
