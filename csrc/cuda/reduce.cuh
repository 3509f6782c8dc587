// SPDX-License-Identifier: Apache-2.0
//
// Owns: reductions and scans over a warp and over a block, in a fixed order, so that equal input
// gives equal bits. Must not know: what is being reduced.
//
// Every function is collective: all threads of the warp (or block) call it. Blocks are a
// multiple of 32 and at most 1024 threads.
#pragma once

#include <cstdint>

namespace vllm_kernels::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

struct Sum {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

// NaN loses against any number.
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
  __device__ std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const {
    return a > b ? a : b;
  }
};

// Butterfly: each lane ends with the result. Both partners of a step combine the same two
// values, so a commutative operator gives the same bits on every lane.
template <typename T, typename Op>
__device__ T warp_reduce(T value, Op op) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// Each thread ends with the result. `identity` fills the places of warps a block does not have.
template <typename T, typename Op>
__device__ T block_reduce(T value, Op op, T identity) {
  __shared__ T partial[kWarp];
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  value = warp_reduce(value, op);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  value = lane < static_cast<int>(blockDim.x) / kWarp ? partial[lane] : identity;
  value = warp_reduce(value, op);
  __syncthreads();  // `partial` may be written again by the next call
  return value;
}

// Sums of N values at once: each thread ends with all of them, at the price of one block_reduce.
// No barrier at the end: `partial` was read before the second barrier, and `total` is written again
// only after the first barrier of the next call, which needs every reader of this one.
template <int N, typename T>
__device__ void block_sums(T (&value)[N]) {
  __shared__ T partial[N][kWarp];
  __shared__ T total[N];
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const int warps = blockDim.x / kWarp;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    value[n] = warp_reduce(value[n], Sum{});
    if (lane == 0) partial[n][warp] = value[n];
  }
  __syncthreads();
  for (int n = warp; n < N; n += warps) {
    const T sum = warp_reduce(lane < warps ? partial[n][lane] : T{0}, Sum{});
    if (lane == 0) total[n] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int n = 0; n < N; ++n) value[n] = total[n];
}

// Inclusive prefix sum in lane order (Hillis and Steele, 1986).
template <typename T>
__device__ T warp_inclusive_sum(T value) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const T below = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value += below;
  }
  return value;
}

// Inclusive prefix sum in thread order; `total` becomes the sum over the block.
template <typename T>
__device__ T block_inclusive_sum(T value, T& total) {
  __shared__ T warp_total[kWarp];
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const T in_warp = warp_inclusive_sum(value);
  if (lane == kWarp - 1) warp_total[warp] = in_warp;
  __syncthreads();
  const bool has_warp = lane < static_cast<int>(blockDim.x) / kWarp;
  const T totals = warp_inclusive_sum(has_warp ? warp_total[lane] : T{0});
  const T before = __shfl_sync(kAllLanes, totals, warp > 0 ? warp - 1 : 0);
  total = __shfl_sync(kAllLanes, totals, kWarp - 1);
  __syncthreads();  // `warp_total` may be written again by the next call
  return warp > 0 ? before + in_warp : in_warp;
}

// Threads of a block that walks a row in pieces: one piece each where that fits 1024 threads.
inline unsigned row_threads(std::int64_t width, int piece) {
  const std::int64_t pieces = (width + piece - 1) / piece;
  const std::int64_t wanted = (pieces + kWarp - 1) / kWarp * kWarp;
  return static_cast<unsigned>(wanted < 1024 ? wanted : 1024);
}

}  // namespace vllm_kernels::cuda
