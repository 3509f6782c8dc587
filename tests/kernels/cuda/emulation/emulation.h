// SPDX-License-Identifier: Apache-2.0
//
// Owns: running the project's CUDA kernels on the host, one block after another, so that indices,
// barriers and arithmetic are tested on machines without a GPU. Included before a .cu file that is
// compiled as C++. Must not know: any kernel.
//
// Each CUDA thread of a block is a fiber. A barrier or a warp exchange suspends the fiber until all
// its partners have arrived; a block in which nobody can go on any more ends the process with the
// name of the barrier. Not modelled: memory ordering between barriers, parallel blocks, partial
// warp masks, dynamic shared memory.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

// Blocks run one at a time, so one copy of a block's memory is enough.
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

namespace emulation {

constexpr int kLanes = 32;
constexpr std::size_t kStackBytes = 64 * 1024;

// All of `parties` threads have to arrive before one of them goes on.
struct Barrier {
  int parties = 0;
  int arrived = 0;
  unsigned generation = 0;
};

// Entered by its context the first time and by its jump buffer from then on: swapcontext would cost
// a system call per switch.
struct Fiber {
  ucontext_t context;
  jmp_buf jump;
  bool started = false;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  bool finished = false;
};

// A lane's operands of an mma.
struct Operands {
  unsigned a[4];
  unsigned b[2];
};

struct Warp {
  Barrier barrier;
  std::uint64_t value[kLanes];
  Operands operands[kLanes];
};

struct Block {
  jmp_buf scheduler;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Barrier barrier;
  std::function<void()> body;
  int current = 0;
  unsigned round = 0;
  bool progressed = false;
};

inline Block* block = nullptr;
inline uint3 thread_index, block_index;
inline dim3 block_size, grid_size;

// From the running fiber back to run_round.
inline void suspend() {
  if (_setjmp(block->fibers[block->current].jump) == 0) _longjmp(block->scheduler, 1);
}

// From run_round into a fiber, until that suspends itself.
inline void resume(Fiber& fiber) {
  if (_setjmp(block->scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.jump, 1);
  fiber.started = true;
  setcontext(&fiber.context);
}

inline void wait(Barrier& barrier) {
  const unsigned generation = barrier.generation;
  if (++barrier.arrived == barrier.parties) {
    barrier.arrived = 0;
    ++barrier.generation;
    block->progressed = true;
    return;
  }
  while (barrier.generation == generation) suspend();
}

inline Warp& own_warp() { return block->warps[block->current / kLanes]; }

// The value that lane `source` passes in the same call.
template <typename T>
T exchange(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  if (mask != 0xffffffffu) {
    std::fprintf(stderr, "emulation: partial warp mask %08x\n", mask);
    std::abort();
  }
  Warp& warp = own_warp();
  std::memcpy(&warp.value[block->current % kLanes], &value, sizeof(T));
  wait(warp.barrier);
  T result;
  std::memcpy(&result, &warp.value[source], sizeof(T));
  wait(warp.barrier);
  return result;
}

// mma.m16n8k16 (the layouts are in csrc/cuda/mma.cuh), summed in ascending order. `widen` makes a
// float of 16 bits.
template <typename Widen>
void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Widen widen) {
  Warp& warp = own_warp();
  const int lane = block->current % kLanes, g = lane / 4, t = lane % 4;
  std::memcpy(warp.operands[lane].a, a, sizeof(a));
  std::memcpy(warp.operands[lane].b, b, sizeof(b));
  wait(warp.barrier);
  const auto item = [&](unsigned pair, int k) { return widen(pair >> (16 * (k % 2)) & 0xffffu); };
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 16; ++k) {
      const unsigned left = warp.operands[4 * g + k % 8 / 2].a[i / 2 + k / 8 * 2];
      const unsigned right = warp.operands[4 * (2 * t + i % 2) + k % 8 / 2].b[k / 8];
      d[i] += item(left, k) * item(right, k);
    }
  }
  wait(warp.barrier);
}

// ldmatrix, four matrices of 8 x 8.
inline void load_matrices(unsigned (&m)[4], const void* row, bool transposed) {
  const int lane = block->current % kLanes, g = lane / 4, t = lane % 4;
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) {
    std::fprintf(stderr, "emulation: a row of a matrix is not aligned\n");
    std::abort();
  }
  const std::uint64_t own = reinterpret_cast<std::uintptr_t>(row);
  for (int i = 0; i < 4; ++i) {
    std::uint16_t pair[2];
    for (int j = 0; j < 2; ++j) {
      const int from = transposed ? 2 * t + j : g, column = transposed ? g : 2 * t + j;
      const std::uint64_t address = exchange(0xffffffffu, own, 8 * i + from);
      std::memcpy(&pair[j], reinterpret_cast<const std::uint16_t*>(address) + column, 2);
    }
    m[i] = pair[0] | static_cast<unsigned>(pair[1]) << 16;
  }
}

inline void run_fiber() {
  block->body();
  block->fibers[block->current].finished = true;
  block->progressed = true;
  suspend();
}

inline void start_fibers(Block& running) {
  for (Fiber& fiber : running.fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    fiber.started = false;
    fiber.finished = false;
    makecontext(&fiber.context, run_fiber, 0);
  }
}

// Whether a warp has to wait: half of them do, others every 16 rounds, so that the rest runs ahead.
inline bool is_held_back(unsigned round, unsigned warp) {
  const unsigned mixed = (round / 16 * 32 + warp + 1) * 2654435761u;  // Knuth's multiplicative hash
  return (mixed >> 31) != 0;
}

// A turn for the fibers that are not done; whether any is left. Rounds differ in who goes first, in
// the direction and in the warps left out, so that code that lacks a barrier meets an order in
// which that shows. After a round in which nobody got on, everybody has a turn.
inline bool run_round(Block& running) {
  bool any_left = false;
  const bool everybody = !running.progressed;
  running.progressed = false;
  const unsigned threads = static_cast<unsigned>(running.fibers.size());
  const unsigned first = ++running.round * 7919 % threads;  // 7919 is prime: all values occur
  for (unsigned i = 0; i < threads; ++i) {
    const unsigned own = (first + (running.round % 2 != 0 ? i : threads - i)) % threads;
    Fiber& fiber = running.fibers[own];
    if (!fiber.finished && (everybody || !is_held_back(running.round, own / kLanes))) {
      running.current = static_cast<int>(own);
      thread_index = uint3{own, 0, 0};
      resume(fiber);
    }
    any_left = any_left || !fiber.finished;
  }
  if (any_left && everybody && !running.progressed) {
    std::fprintf(stderr, "emulation: deadlock, %d of %d threads wait at a block barrier\n",
                 running.barrier.arrived, running.barrier.parties);
    std::abort();
  }
  return any_left;
}

inline void run_block(Block& running) {
  start_fibers(running);
  while (run_round(running)) {
  }
}

// One-dimensional blocks of a multiple of 32 threads, as all kernels here use.
inline void launch(dim3 grid, dim3 threads, std::function<void()> body) {
  if (threads.x % kLanes != 0 || threads.x > 1024 || threads.y != 1 || threads.z != 1) {
    std::fprintf(stderr, "emulation: block of %u x %u x %u\n", threads.x, threads.y, threads.z);
    std::abort();
  }
  Block running;
  running.fibers.resize(threads.x);
  running.warps.resize(threads.x / kLanes);
  running.barrier.parties = static_cast<int>(threads.x);
  for (Warp& warp : running.warps) warp.barrier.parties = kLanes;
  running.body = std::move(body);
  block = &running;
  block_size = threads;
  grid_size = grid;
  for (block_index.z = 0; block_index.z < grid.z; ++block_index.z) {
    for (block_index.y = 0; block_index.y < grid.y; ++block_index.y) {
      for (block_index.x = 0; block_index.x < grid.x; ++block_index.x) run_block(running);
    }
  }
  block = nullptr;
}

}  // namespace emulation

#define threadIdx emulation::thread_index
#define blockIdx emulation::block_index
#define blockDim emulation::block_size
#define gridDim emulation::grid_size

#define VLLM_CUDA_LAUNCH(kernel, grid, block, stream, ...) \
  ((void)(stream), emulation::launch((grid), (block), [=] { (kernel)(__VA_ARGS__); }))
#define cudaGetLastError() cudaSuccess
#define VLLM_CUDA_EMULATION

using std::isfinite;
using std::isnan;
using std::max;
using std::min;

inline void __syncthreads() { emulation::wait(emulation::block->barrier); }
inline void __syncwarp() { emulation::wait(emulation::own_warp().barrier); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }
// Byte i of the result is byte (selector >> 4 i) % 8 of low, then high.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<unsigned>(bytes >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  }
  return result;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline int atomicAdd(int* target, int value) { return std::exchange(*target, *target + value); }
inline float atomicAdd(float* target, float value) {
  return std::exchange(*target, *target + value);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
  return emulation::exchange(mask, value, source);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int flip) {
  return emulation::exchange(mask, value, (emulation::block->current % emulation::kLanes) ^ flip);
}
// Lanes without a lower partner keep their value.
template <typename T>
T __shfl_up_sync(unsigned mask, T value, int distance) {
  const int lane = emulation::block->current % emulation::kLanes;
  return emulation::exchange(mask, value, lane < distance ? lane : lane - distance);
}
