// SPDX-License-Identifier: Apache-2.0
//
// Owns: states of the online softmax and how two of them become one, in one way wherever that is done,
// so that equal states give equal bits. Must not know: where scores come from.
#pragma once

#include <cmath>

#include "attention_tiles.cuh"

namespace vllm_kernels::cuda {

// A block of WARPS warps takes ROWS rows; a lane holds DIMS dims of each.
template <int ROWS, int WARPS, int DIMS>
struct Geometry {
  static constexpr int kRows = ROWS;
  static constexpr int kWarps = WARPS;
  static constexpr int kDims = DIMS;
};

// Softmax state of all rows in one warp. Lane i holds the dims i * kDims ... of `sum`.
template <class G>
struct State {
  float max[G::kRows];
  float weight[G::kRows];     // sum of exp(score - max)
  float sum[G::kRows][G::kDims];  // sum of exp(score - max) * value

  __device__ State() {
#pragma unroll
    for (int r = 0; r < G::kRows; ++r) {
      max[r] = -INFINITY;
      weight[r] = 0.0f;
#pragma unroll
      for (int i = 0; i < G::kDims; ++i) sum[r][i] = 0.0f;
    }
  }

  __device__ void rescale(int r, float factor) {
    weight[r] *= factor;
#pragma unroll
    for (int i = 0; i < G::kDims; ++i) sum[r][i] *= factor;
  }
};

// What a state with maximum `from` is multiplied by when its maximum becomes `to` >= from.
__device__ inline float correction(float from, float to) {
  return from == -INFINITY ? 0.0f : expf(from - to);
}

template <class G>
struct SharedStates {
  float max[G::kWarps / 2][G::kRows];
  float weight[G::kWarps / 2][G::kRows];
  float sum[G::kWarps / 2][G::kRows][kWarp * G::kDims];
};

template <class G>
__device__ void put_state(SharedStates<G>& shared, int slot, const State<G>& state) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < G::kRows; ++r) {
    shared.max[slot][r] = state.max[r];  // the same on every lane
    shared.weight[slot][r] = state.weight[r];
#pragma unroll
    for (int i = 0; i < G::kDims; ++i) shared.sum[slot][r][lane * G::kDims + i] = state.sum[r][i];
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

template <class G>
__device__ void merge_state(State<G>& state, const SharedStates<G>& shared, int slot) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < G::kRows; ++r) {
    float other[G::kDims];
#pragma unroll
    for (int i = 0; i < G::kDims; ++i) other[i] = shared.sum[slot][r][lane * G::kDims + i];
    merge_row<G::kDims>(state.max[r], state.weight[r], state.sum[r], shared.max[slot][r],
                    shared.weight[slot][r], other);
  }
}

// Halves the number of states until warp 0 holds the only one.
template <class G>
__device__ void merge_warps(State<G>& state, SharedStates<G>& shared) {
  const int warp = threadIdx.x / kWarp;
  for (int half = G::kWarps / 2; half > 0; half /= 2) {
    __syncthreads();  // nobody reads what the next line overwrites
    if (warp >= half && warp < 2 * half) put_state(shared, warp - half, state);
    __syncthreads();
    if (warp < half) merge_state(state, shared, warp);
  }
}

}  // namespace vllm_kernels::cuda
