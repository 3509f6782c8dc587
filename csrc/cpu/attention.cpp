// SPDX-License-Identifier: Apache-2.0

// Paged attention over threads: cut into items (a few query tokens of one sequence x one KV head),
// handed out one by one, long ones first, because their cost differs by the length of the context.

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/ops.h"
#include "cpu/thread_pool.h"

namespace vllm_kernels::ops {
namespace {

std::vector<AttentionItem> cut(const AttentionArgs& a, const KernelTable& table,
                               const int32_t* seq_lens, const int32_t* query_start,
                               int64_t sequences) {
  std::vector<AttentionItem> items;
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t start = query_start[s], tokens = query_start[s + 1] - start;
    const int64_t computed = seq_lens[s] - tokens;  // positions before this step
    for (int64_t t = 0; t < tokens; t += table.attention_tokens)
      for (int64_t h = 0; h < a.kv_heads; ++h)
        items.push_back(
            {s, start + t, std::min(table.attention_tokens, tokens - t), computed + t, h});
  }
  const auto cost = [&a](const AttentionItem& i) {
    return (i.position + i.tokens - a.first_visible(i.position)) * i.tokens;
  };
  std::stable_sort(items.begin(), items.end(), [&](const AttentionItem& x, const AttentionItem& y) {
    return cost(x) > cost(y);
  });
  return items;
}

// Items below this many (key, query) pairs together are not worth another thread.
constexpr int64_t kMinPairs = 64;

}  // namespace

void paged_attention(const AttentionArgs& a, const int32_t* seq_lens, const int32_t* query_start,
                     int64_t sequences) {
  const KernelTable& best = kernels();
  const KernelTable& table = best.attention_takes(a.head_dim) ? best : scalar::kernel_table();
  const std::vector<AttentionItem> items = cut(a, table, seq_lens, query_start, sequences);
  if (items.empty()) return;
  const int64_t longest = items[0].position + items[0].tokens;
  const int64_t grain = std::max<int64_t>(1, kMinPairs / longest);
  parallel_for(static_cast<int64_t>(items.size()), grain, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch;
    for (int64_t i = begin; i < end; ++i) {
      if (table.attention_needs_scratch)
        scratch.resize(static_cast<size_t>(items[i].position + items[i].tokens));
      table.attention(a, items[i], scratch.data());
    }
  });
}

}  // namespace vllm_kernels::ops
