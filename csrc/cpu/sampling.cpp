// SPDX-License-Identifier: Apache-2.0

// From logits to tokens and log probabilities. Rows are independent and handed out one by one.
//
// Ties are broken in one way throughout: among equal logits the lower token id comes first.

#include <algorithm>
#include <atomic>
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
  float weight;  // logit, or exp of it: the larger the likelier
  int64_t id;
};

bool precedes(const Candidate& a, const Candidate& b) {
  return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
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

// The first k candidates in order, 1 <= k <= vocab; NaN counts as -inf.
std::vector<Candidate> best(const float* row, int64_t vocab, int64_t k) {
  const auto next_above = kernels().next_above;
  std::vector<Candidate> heap;  // the worst of the kept ones on top
  heap.reserve(static_cast<size_t>(k));
  for (int64_t id = 0; id < k; ++id)
    heap.push_back({std::isnan(row[id]) ? -INFINITY : row[id], id});
  std::make_heap(heap.begin(), heap.end(), precedes);
  // A later token of equal logit comes after the ones kept, so that only larger ones are taken.
  for (int64_t id = next_above(row, k, vocab, heap.front().weight); id < vocab;
       id = next_above(row, id + 1, vocab, heap.front().weight)) {
    std::pop_heap(heap.begin(), heap.end(), precedes);
    heap.back() = {row[id], id};
    std::push_heap(heap.begin(), heap.end(), precedes);
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

// Replaces `kept` by the tokens of weight >= floor, in order of ids. Weights are
// exp((logit - max) / temperature), so that the likeliest token has weight 1.
void keep_above(std::vector<Candidate>& kept, const float* weights, int64_t vocab, float floor) {
  const auto next_above = kernels().next_above;
  const float below = std::nextafter(floor, -1.0f);
  kept.clear();
  for (int64_t id = next_above(weights, 0, vocab, below); id < vocab;
       id = next_above(weights, id + 1, vocab, below))
    kept.push_back({weights[id], id});
}

double total_weight(const std::vector<Candidate>& kept) {
  double total = 0.0;
  for (const Candidate& c : kept) total += c.weight;
  return total;
}

// The tokens that top_k and top_p choose from. A few hundred of the likeliest mostly settle both:
// as many as top_k, or a share of top_p. Only if they don't, lighter tokens are looked at. Returns
// the weight of all tokens that min_p leaves.
double choose_from(std::vector<Candidate>& kept, const float* weights, int64_t vocab, double total,
                   const RowSampling& s) {
  if (s.min_p > 0.0f) {
    keep_above(kept, weights, vocab, s.min_p);
    return total_weight(kept);
  }
  for (const float floor : {1e-2f, 1e-4f, 1e-6f}) {
    keep_above(kept, weights, vocab, floor);
    const bool enough = s.top_k > 0 ? static_cast<int64_t>(kept.size()) >= s.top_k
                                    : total_weight(kept) >= s.top_p * total;
    if (enough) return total;
  }
  keep_above(kept, weights, vocab, std::numeric_limits<float>::denorm_min());
  return total;
}

void keep_top_k(std::vector<Candidate>& kept, int64_t k) {
  if (k <= 0 || k >= static_cast<int64_t>(kept.size())) return;
  std::nth_element(kept.begin(), kept.begin() + (k - 1), kept.end(), precedes);
  kept.resize(static_cast<size_t>(k));
}

// The smallest set of likeliest tokens that make up top_p of `total`. Sorts no more than it needs:
// 64 tokens first, then eight times as many.
void keep_top_p(std::vector<Candidate>& kept, float top_p, double total) {
  if (top_p >= 1.0f) return;
  const double wanted = total * top_p;
  double sum = 0.0;
  size_t done = 0;
  for (size_t sorted = 64; done < kept.size(); sorted *= 8) {
    const size_t end = std::min(sorted, kept.size());
    std::partial_sort(kept.begin() + done, kept.begin() + end, kept.end(), precedes);
    for (; done < end; ++done) {
      sum += kept[done].weight;
      if (sum >= wanted) return kept.resize(done + 1);
    }
  }
}

// Inverse of the cumulative distribution over ascending ids.
int64_t pick(std::vector<Candidate>& kept, double uniform) {
  std::sort(kept.begin(), kept.end(),
            [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  const double wanted = uniform * total_weight(kept);
  double sum = 0.0;
  for (const Candidate& c : kept) {
    sum += c.weight;
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

// Memory of one thread for one row; kept, because a fresh 200 KB per row would be page faults.
struct Workspace {
  std::vector<float> weights;
  std::vector<Candidate> kept;
};

int64_t sample_row(const float* row, int64_t vocab, const RowSampling& s, Workspace& w) {
  const int64_t likeliest = kernels().argmax(row, vocab);
  if (s.temperature < kGreedyBelow || s.top_k == 1 || !std::isfinite(row[likeliest]))
    return likeliest;
  w.weights.resize(static_cast<size_t>(vocab));
  const double total =
      kernels().exp_row(w.weights.data(), row, vocab, row[likeliest], 1.0f / s.temperature);
  if (s.top_k <= 0 && s.top_p >= 1.0f && s.min_p <= 0.0f)
    return pick_any(w.weights.data(), vocab, total, s.uniform);
  const double left = choose_from(w.kept, w.weights.data(), vocab, total, s);
  keep_top_k(w.kept, s.top_k);
  keep_top_p(w.kept, s.top_p, s.top_k > 0 ? total_weight(w.kept) : left);
  return w.kept.empty() ? likeliest : pick(w.kept, s.uniform);
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

void choose_greedy(const Greedy& a) {
  const KernelTable& table = kernels();
  std::atomic<bool> suspect{false};
  parallel_for(a.rows, 1, [&](int64_t r, int64_t) {
    a.out[r] = table.argmax(a.logits.row(r), a.vocab);
    // A weight of the head that is NaN shows in the same column of every row: one row is enough.
    const bool bad = !std::isfinite(table.total(a.hidden.row(r), a.hidden_size)) ||
                     (r == 0 && std::isnan(table.total(a.logits.row(0), a.vocab)));
    if (bad) suspect.store(true, std::memory_order_relaxed);
  });
  *a.suspect = suspect.load(std::memory_order_relaxed);
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
      out[r * k + i] = logprob(kept[i].weight, n);
      ids[r * k + i] = kept[i].id;
    }
  });
}

void sample(int64_t* out, const Sampling& a, ConstRows logits, int64_t rows, int64_t vocab) {
  parallel_for(rows, 1, [&](int64_t r, int64_t) {
    static thread_local Workspace workspace;
    const RowSampling s{a.temperature[r], a.top_k[r], a.top_p[r], a.min_p[r], a.uniform[r]};
    out[r] = sample_row(logits.row(r), vocab, s, workspace);
  });
}

}  // namespace vllm_kernels::ops
