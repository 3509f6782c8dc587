// SPDX-License-Identifier: Apache-2.0

// Workers spin for a moment after an op, since a decode step brings the next one within
// microseconds, then sleep on a futex (std::atomic::wait): an idle engine uses no CPU.
//
// A job is handed out by one 64-bit ticket: generation << 32 | next chunk. Whoever wants a chunk
// advances the ticket by compare-and-swap, so that a worker which wakes late, after the job it saw
// has ended, fails the swap instead of touching what is no longer there. The caller works too and
// waits only for chunks that a worker has taken, never for a worker to wake up.

#include "cpu/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vllm_kernels {
namespace {

// About 40 us on a Zen 4 (a pause takes some 45 cycles): longer than the gap between two ops of a
// decode step, far shorter than a step.
constexpr int kSpins = 2000;
constexpr uint64_t kChunkMask = 0xffffffffu;
constexpr uint64_t kClosed = 0xffffffffu;  // chunk number of a ticket without a job

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

int64_t available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  const unsigned n = std::thread::hardware_concurrency();
  return n > 0 ? n : 1;
}

class ThreadPool {
 public:
  explicit ThreadPool(int64_t threads) { start(threads); }

  void resize(int64_t threads) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (threads == size_.load()) return;
    stop();
    start(threads);
  }

  int64_t size() const { return size_.load(std::memory_order_relaxed); }

  void run(int64_t chunks, void (*fn)(void*, int64_t), void* context) {
    std::unique_lock<std::mutex> lock(mutex_, std::defer_lock);
    if (chunks == 1 || size() == 1 || !lock.try_lock()) {
      for (int64_t i = 0; i < chunks; ++i) fn(context, i);
      return;
    }
    publish(chunks, fn, context);
    work();
    await_done(chunks);
  }

 private:
  void start(int64_t threads) {
    size_.store(threads);
    stopping_.store(false);
    for (int64_t i = 1; i < threads; ++i) workers_.emplace_back([this] { serve(); });
  }

  void stop() {
    stopping_.store(true);
    epoch_.fetch_add(1);
    epoch_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  // The ticket is closed while the fields change; the exchange orders these writes after the last
  // swap that succeeded on the job before.
  void publish(int64_t chunks, void (*fn)(void*, int64_t), void* context) {
    ++generation_;
    ticket_.exchange(generation_ << 32 | kClosed, std::memory_order_acq_rel);
    fn_.store(fn, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    chunks_.store(chunks, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    ++generation_;
    ticket_.store(generation_ << 32, std::memory_order_release);
    epoch_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) epoch_.notify_all();
  }

  // Takes and runs chunks until none is left.
  void work() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    for (;;) {
      const int64_t chunk = static_cast<int64_t>(ticket & kChunkMask);
      const auto fn = fn_.load(std::memory_order_relaxed);
      void* const context = context_.load(std::memory_order_relaxed);
      const int64_t chunks = chunks_.load(std::memory_order_relaxed);
      if ((ticket & kChunkMask) == kClosed || chunk >= chunks) return;
      if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire))
        continue;
      fn(context, chunk);
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == chunks) done_.notify_one();
      ticket = ticket_.load(std::memory_order_acquire);
    }
  }

  void await_done(int64_t chunks) {
    for (int i = 0; i < kSpins; ++i) {
      if (done_.load(std::memory_order_acquire) == chunks) return;
      relax();
    }
    for (int64_t done; (done = done_.load(std::memory_order_acquire)) != chunks;) done_.wait(done);
  }

  void serve() {
    uint32_t seen = epoch_.load();
    while (!stopping_.load(std::memory_order_acquire)) {
      work();
      seen = await_epoch(seen);
    }
  }

  uint32_t await_epoch(uint32_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      const uint32_t epoch = epoch_.load(std::memory_order_acquire);
      if (epoch != seen) return epoch;
      relax();
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    epoch_.wait(seen, std::memory_order_seq_cst);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return epoch_.load(std::memory_order_acquire);
  }

  // What the callers write and what the workers wait on lie in different cache lines.
  alignas(64) std::atomic<uint64_t> ticket_{kClosed};
  std::atomic<void (*)(void*, int64_t)> fn_{nullptr};
  std::atomic<void*> context_{nullptr};
  std::atomic<int64_t> chunks_{0};
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> size_{1};
  uint64_t generation_ = 0;
  std::mutex mutex_;
  std::vector<std::thread> workers_;
};

// Never destroyed: a worker may still sleep in it while the process exits.
ThreadPool& pool() {
  static ThreadPool& instance = *new ThreadPool(available_cpus());
  return instance;
}

}  // namespace

void set_num_threads(int64_t n) { pool().resize(n); }

int64_t num_threads() { return pool().size(); }

void run_chunks(int64_t chunks, void (*fn)(void*, int64_t), void* context) {
  if (chunks > 0) pool().run(chunks, fn, context);
}

}  // namespace vllm_kernels
