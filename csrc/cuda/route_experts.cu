// SPDX-License-Identifier: Apache-2.0
//
// Owns: which experts a token goes to and with which weights (what the arguments mean is documented in
// vllm/kernels/ops.py). Must not know: what experts do, torch.
//
// Grid: one block per token. Block: one warp; lane i takes the experts i, i + 32, ... Scores are
// float64, as on the CPU: the choice among near equals is then the same.
#include <climits>
#include <cmath>

#include "dispatch.cuh"
#include "reduce.cuh"

namespace vllm_kernels::cuda {
namespace {

struct Routing {
  const float* bias;  // [experts] or null
  bool sigmoid;
  int experts;
  int top;
  int groups;
  int top_groups;
  int group_best;
  bool renormalize;
  float factor;
};

// A value and where it stands. The larger comes first, and the lower place among equals.
struct Ranked {
  double value;
  int place;
};

__device__ bool precedes(const Ranked& a, const Ranked& b) {
  return a.value > b.value || (a.value == b.value && a.place < b.place);
}

// The first of values[begin], values[begin + step], ... below `end` that comes after `last`. NaN counts
// as -inf.
__device__ Ranked next_after(const Ranked& last, const double* values, int begin, int end,
                             int step) {
  Ranked best{-INFINITY, INT_MAX};
  for (int i = begin; i < end; i += step) {
    const Ranked own{isnan(values[i]) ? -INFINITY : values[i], i};
    if (precedes(last, own) && precedes(own, best)) best = own;
  }
  return best;
}

__device__ Ranked before_all() { return {INFINITY, -1}; }

// The same over all values, for all lanes.
__device__ Ranked warp_next_after(const Ranked& last, const double* values, int count) {
  Ranked best = next_after(last, values, threadIdx.x, count, kWarp);
#pragma unroll
  for (int flip = kWarp / 2; flip > 0; flip /= 2) {
    const Ranked other{__shfl_xor_sync(kAllLanes, best.value, flip),
                       __shfl_xor_sync(kAllLanes, best.place, flip)};
    if (precedes(other, best)) best = other;
  }
  return best;
}

struct Shared {
  double score[kMaxExperts];
  double choice[kMaxExperts];
  double group[kMaxExperts];
};

__device__ void score_experts(double* score, const float* logits, const Routing& r) {
  double largest = -INFINITY, total = 0.0;
  for (int e = threadIdx.x; e < r.experts; e += kWarp) largest = fmax(largest, double{logits[e]});
  for (int flip = kWarp / 2; flip > 0; flip /= 2) {
    largest = fmax(largest, __shfl_xor_sync(kAllLanes, largest, flip));
  }
  for (int e = threadIdx.x; e < r.experts; e += kWarp) {
    const double logit = logits[e];
    score[e] = r.sigmoid ? 1.0 / (1.0 + exp(-logit)) : exp(logit - largest);
    total += score[e];
  }
  total = r.sigmoid ? 1.0 : warp_reduce(total, Sum{});
  for (int e = threadIdx.x; e < r.experts; e += kWarp) score[e] /= total;
}

// Experts outside of the best groups become -inf.
__device__ void drop_groups(Shared& shared, const Routing& r) {
  const int size = r.experts / r.groups;
  for (int g = threadIdx.x; g < r.groups; g += kWarp) {
    Ranked last = before_all();
    double total = 0.0;
    for (int i = 0; i < r.group_best; ++i) {
      last = next_after(last, shared.choice, g * size, (g + 1) * size, 1);
      total += last.value;
    }
    shared.group[g] = total;
  }
  __syncwarp();
  Ranked last = before_all();
  for (int i = 0; i < r.top_groups; ++i) last = warp_next_after(last, shared.group, r.groups);
  for (int e = threadIdx.x; e < r.experts; e += kWarp) {
    const double own = shared.group[e / size];
    if (precedes(last, {isnan(own) ? -INFINITY : own, e / size})) shared.choice[e] = -INFINITY;
  }
  __syncwarp();
}

// ids, weights: [rows, top]; logits: [rows, experts].
__global__ void route_experts_kernel(int* ids, float* weights, Rows<const float> logits,
                                     Routing r) {
  __shared__ Shared shared;
  score_experts(shared.score, logits.row(blockIdx.x), r);
  for (int e = threadIdx.x; e < r.experts; e += kWarp) {
    shared.choice[e] = shared.score[e] + (r.bias == nullptr ? 0.0f : r.bias[e]);
  }
  __syncwarp();
  if (r.groups > 1) drop_groups(shared, r);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * r.top;
  Ranked last = before_all();
  double total = 0.0;
  for (int i = 0; i < r.top; ++i) {
    last = warp_next_after(last, shared.choice, r.experts);
    total += shared.score[last.place];
    if (threadIdx.x == 0) ids[first + i] = last.place;
  }
  __syncwarp();  // the ids are read by all lanes
  const double factor = r.renormalize ? r.factor / (total + 1e-20) : r.factor;
  for (int i = threadIdx.x; i < r.top; i += kWarp) {
    weights[first + i] = static_cast<float>(shared.score[ids[first + i]] * factor);
  }
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_route_experts(std::int32_t* ids, float* weights,
                                               const float* logits, std::int64_t logits_stride,
                                               const float* bias, bool sigmoid, std::int64_t rows,
                                               int experts, int top, int groups, int top_groups,
                                               int group_best, bool renormalize, float factor,
                                               cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  if (experts > kMaxExperts) return cudaErrorInvalidValue;
  const Routing routing{bias,       sigmoid,    experts,     top,   groups,
                        top_groups, group_best, renormalize, factor};
  VLLM_CUDA_LAUNCH(route_experts_kernel, dim3(static_cast<unsigned>(rows)), dim3(kWarp), stream,
                   ids, weights, rows_of<const float>(logits, logits_stride), routing);
  return cudaGetLastError();
}
