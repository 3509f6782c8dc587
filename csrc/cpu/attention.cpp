// SPDX-License-Identifier: Apache-2.0

// Paged attention over threads: cut into items (a few query tokens of one sequence x one KV head),
// long ones first, and handed out in runs of about the same cost, which depends on the context.

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

// (key, query token) pairs.
int64_t cost(const AttentionArgs& a, const AttentionItem& i) {
  return (i.position + i.tokens - a.first_visible(i.position)) * i.tokens;
}

std::vector<AttentionItem> cut(const AttentionArgs& a, const KernelTable& table,
                               const int32_t* seq_lens, const int32_t* query_start,
                               int64_t sequences) {
  const int64_t most = std::max<int64_t>(1, table.attention_rows / (a.q_heads / a.kv_heads));
  std::vector<AttentionItem> items;
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t start = query_start[s], tokens = query_start[s + 1] - start;
    const int64_t computed = seq_lens[s] - tokens;  // positions before this step
    for (int64_t t = 0; t < tokens; t += most)
      for (int64_t h = 0; h < a.kv_heads; ++h)
        items.push_back({s, start + t, std::min(most, tokens - t), computed + t, h});
  }
  std::stable_sort(items.begin(), items.end(), [&](const AttentionItem& x, const AttentionItem& y) {
    return cost(a, x) > cost(a, y);
  });
  return items;
}

// Pairs below this many are not worth another thread.
constexpr int64_t kMinPairs = 64;

// Where runs of items begin, and the end of the last. About four for each thread, so that one that
// was preempted holds up little; within a run each item's first keys are fetched during the last.
std::vector<size_t> runs(const AttentionArgs& a, const std::vector<AttentionItem>& items) {
  int64_t total = 0;
  for (const AttentionItem& item : items) total += cost(a, item);
  const int64_t enough = std::max(kMinPairs, total / (4 * num_threads()));
  std::vector<size_t> starts{0};
  int64_t run = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    run += cost(a, items[i]);
    if (run < enough && i + 1 < items.size()) continue;
    starts.push_back(i + 1);
    run = 0;
  }
  return starts;
}

}  // namespace

void paged_attention(const AttentionArgs& a, const int32_t* seq_lens, const int32_t* query_start,
                     int64_t sequences) {
  const KernelTable& best = kernels();
  const KernelTable& table = best.attention_takes(a.head_dim) ? best : scalar::kernel_table();
  const std::vector<AttentionItem> items = cut(a, table, seq_lens, query_start, sequences);
  if (items.empty()) return;
  const std::vector<size_t> starts = runs(a, items);
  const auto work = [&](int64_t begin, int64_t end) {
    std::vector<float> scratch;
    if (table.attention_needs_scratch)
      scratch.resize(static_cast<size_t>(*std::max_element(seq_lens, seq_lens + sequences)));
    const size_t first = starts[begin];
    table.attention(a, items.data() + first, static_cast<int64_t>(starts[end] - first),
                    scratch.data());
  };
  parallel_for(static_cast<int64_t>(starts.size()) - 1, 1, work);
}

}  // namespace vllm_kernels::ops
