// SPDX-License-Identifier: Apache-2.0

// The threads that kernels share. Owns workers, hand-out of work and waiting; knows no kernel.

#pragma once

#include <cstdint>

namespace vllm_kernels {

// Number of threads that work on one op, the caller included. n >= 1.
void set_num_threads(int64_t n);
int64_t num_threads();

// Calls fn(context, chunk) once for every chunk in 0..chunks, in any order and thread, and returns
// when all calls have returned. fn must not throw. Concurrent callers are served one at a time; one
// that finds the pool busy does its own work alone.
void run_chunks(int64_t chunks, void (*fn)(void* context, int64_t chunk), void* context);

// body(begin, end) over disjoint ranges that cover 0..items, each of `grain` items (the last one
// maybe fewer).
template <class Body>
static void parallel_for(int64_t items, int64_t grain, const Body& body) {
  if (items <= 0) return;
  struct Context {
    const Body& body;
    int64_t items, grain;
  } context{body, items, grain};
  run_chunks((items + grain - 1) / grain,
             [](void* p, int64_t chunk) {
               const Context& c = *static_cast<Context*>(p);
               const int64_t begin = chunk * c.grain;
               const int64_t end = begin + c.grain < c.items ? begin + c.grain : c.items;
               c.body(begin, end);
             },
             &context);
}

// A grain that gives every thread about four chunks, so that a thread that was preempted holds up
// little, but no chunk fewer than min_grain items.
static inline int64_t balanced_grain(int64_t items, int64_t min_grain) {
  const int64_t grain = items / (4 * num_threads()) + 1;
  return grain < min_grain ? min_grain : grain;
}

}  // namespace vllm_kernels
