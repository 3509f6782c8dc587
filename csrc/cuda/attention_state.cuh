// SPDX-License-Identifier: Apache-2.0
//
// Owns: states of the online softmax and how two of them become one, in one way wherever that is done,
// so that equal states give equal bits. Must not know: where scores come from.
#pragma once

#include <cmath>

#include "attention_tiles.cuh"

namespace vllm_kernels::cuda {

// Softmax state of kRows rows in one warp. Lane i holds the dims i * DIMS ... of `sum`.
template <int DIMS>
struct State {
  float max[kRows];
  float weight[kRows];     // sum of exp(score - max)
  float sum[kRows][DIMS];  // sum of exp(score - max) * value

  __device__ State() {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      max[r] = -INFINITY;
      weight[r] = 0.0f;
#pragma unroll
      for (int i = 0; i < DIMS; ++i) sum[r][i] = 0.0f;
    }
  }

  __device__ void rescale(int r, float factor) {
    weight[r] *= factor;
#pragma unroll
    for (int i = 0; i < DIMS; ++i) sum[r][i] *= factor;
  }
};

// What a state with maximum `from` is multiplied by when its maximum becomes `to` >= from.
__device__ inline float correction(float from, float to) {
  return from == -INFINITY ? 0.0f : expf(from - to);
}

template <int DIMS>
struct SharedStates {
  float max[kWarps / 2][kRows];
  float weight[kWarps / 2][kRows];
  float sum[kWarps / 2][kRows][kWarp * DIMS];
};

template <int DIMS>
__device__ void put_state(SharedStates<DIMS>& shared, int slot, const State<DIMS>& state) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    shared.max[slot][r] = state.max[r];  // the same on every lane
    shared.weight[slot][r] = state.weight[r];
#pragma unroll
    for (int i = 0; i < DIMS; ++i) shared.sum[slot][r][lane * DIMS + i] = state.sum[r][i];
  }
}

// One row's state, joined with another: (max, weight, sum) takes (other_max, ...) in.
template <int DIMS>
__device__ void merge_row(float& max, float& weight, float (&sum)[DIMS], float other_max,
                          float other_weight, const float (&other)[DIMS]) {
  const float new_max = fmaxf(max, other_max);
  const float own = correction(max, new_max), factor = correction(other_max, new_max);
  max = new_max;
  weight = fmaf(factor, other_weight, own * weight);
#pragma unroll
  for (int i = 0; i < DIMS; ++i) sum[i] = fmaf(factor, other[i], own * sum[i]);
}

template <int DIMS>
__device__ void merge_state(State<DIMS>& state, const SharedStates<DIMS>& shared, int slot) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    float other[DIMS];
#pragma unroll
    for (int i = 0; i < DIMS; ++i) other[i] = shared.sum[slot][r][lane * DIMS + i];
    merge_row<DIMS>(state.max[r], state.weight[r], state.sum[r], shared.max[slot][r],
                    shared.weight[slot][r], other);
  }
}

// Halves the number of states until warp 0 holds the only one.
template <int DIMS>
__device__ void merge_warps(State<DIMS>& state, SharedStates<DIMS>& shared) {
  const int warp = threadIdx.x / kWarp;
  for (int half = kWarps / 2; half > 0; half /= 2) {
    __syncthreads();  // nobody reads what the next line overwrites
    if (warp >= half && warp < 2 * half) put_state(shared, warp - half, state);
    __syncthreads();
    if (warp < half) merge_state(state, shared, warp);
  }
}

}  // namespace vllm_kernels::cuda
