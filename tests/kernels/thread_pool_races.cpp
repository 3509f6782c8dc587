// SPDX-License-Identifier: Apache-2.0

// Three callers and one that resizes, on the thread pool alone: compiled with a sanitizer by
// test_threads.py. Exits with 0 when every caller had each of its chunks run exactly once.

#include <atomic>
#include <thread>
#include <vector>

#include "cpu/thread_pool.h"

namespace {

constexpr int kRounds = 300;
constexpr int64_t kItems = 37;

// Plain memory on purpose: the pool alone must order these writes before the reads of the caller.
bool one_round(std::vector<int>& hits) {
  hits.assign(kItems, 0);
  vllm_kernels::parallel_for(kItems, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
  });
  for (int hit : hits)
    if (hit != 1) return false;
  return true;
}

}  // namespace

int main() {
  vllm_kernels::set_num_threads(4);
  std::atomic<bool> stop{false}, wrong{false};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller)
    callers.emplace_back([&] {
      std::vector<int> hits;
      for (int round = 0; round < kRounds; ++round)
        if (!one_round(hits)) wrong = true;
    });
  std::thread resizer([&] {
    for (int64_t n = 1; !stop; n = n % 4 + 1) vllm_kernels::set_num_threads(n);
  });
  for (std::thread& caller : callers) caller.join();
  stop = true;
  resizer.join();
  return wrong ? 1 : 0;
}
