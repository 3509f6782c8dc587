// SPDX-License-Identifier: Apache-2.0
//
// Owns: a layer of experts: the order of its rows by expert, the products with the experts' matrices,
// and the weighted sums of what they give. Must not know: how experts are chosen, torch.
//
// A pair is a token and one of its experts; its row of the intermediate results is its slot. Slots of an
// expert lie side by side, cut into tiles of rows for the product kernel. All of it happens on the
// device: grids are sized by what can come at most, and tiles that are not needed have no rows.
//
// A product treats each row by itself (linear.cuh) and a token's sum runs over its experts in ascending
// order, so a token's result does not depend on the others, nor on the order of slots.
#include <algorithm>

#include "dispatch.cuh"
#include "linear_launch.h"
#include "reduce.cuh"

namespace vllm_kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kSumThreads = 256;
static_assert(kMaxExperts <= kThreads);

// source: the token of each slot; slot_of: the slot of each pair, -1 for an expert that does not exist.
struct Slots {
  int* source;
  int* slot_of;
  RowTile* tiles;
};

// One block, a thread for each expert. ids: [pairs].
__global__ void __launch_bounds__(kThreads)
    sort_pairs_kernel(Slots slots, const int* ids, std::int64_t pairs, int top, int experts,
                      int piece, int tile_count) {
  __shared__ int next[kMaxExperts];
  const int e = threadIdx.x;
  if (e < kMaxExperts) next[e] = 0;
  __syncthreads();
  for (std::int64_t p = threadIdx.x; p < pairs; p += kThreads) {
    if (ids[p] >= 0 && ids[p] < experts) atomicAdd(&next[ids[p]], 1);
  }
  __syncthreads();
  const int count = e < experts ? next[e] : 0, own_tiles = (count + piece - 1) / piece;
  int rows = 0, tiles = 0;
  const int first = block_inclusive_sum(count, rows) - count;
  const int first_tile = block_inclusive_sum(own_tiles, tiles) - own_tiles;
  for (int i = 0; i < own_tiles; ++i) {
    slots.tiles[first_tile + i] = {e, first + i * piece, min(piece, count - i * piece)};
  }
  for (int i = tiles + threadIdx.x; i < tile_count; i += kThreads) slots.tiles[i] = {0, 0, 0};
  if (e < experts) next[e] = first;
  __syncthreads();
  for (std::int64_t p = threadIdx.x; p < pairs; p += kThreads) {
    const bool exists = ids[p] >= 0 && ids[p] < experts;
    const int slot = exists ? atomicAdd(&next[ids[p]], 1) : -1;
    slots.slot_of[p] = slot;
    if (exists) slots.source[slot] = static_cast<int>(p / top);
  }
}

// Places of a token's experts in ascending order of the expert.
__device__ void sort_places(int* order, const int* ids, int top) {
  for (int i = threadIdx.x; i < top; i += blockDim.x) {
    int before = 0;
    for (int j = 0; j < top; ++j) before += ids[j] < ids[i] || (ids[j] == ids[i] && j < i);
    order[before] = i;
  }
  __syncthreads();
}

// out, addend: [tokens, hidden]; ids, weights: [tokens, top]; y: [slots, hidden]. Grid: a block per
// token.
template <typename T>
__global__ void __launch_bounds__(kSumThreads)
    sum_experts_kernel(Rows<T> out, Rows<const T> addend, const T* y, const int* ids,
                       const float* weights, const int* slot_of, int top, int hidden) {
  __shared__ int order[kMaxExperts];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * top;
  sort_places(order, ids + first, top);
  for (int column = threadIdx.x; column < hidden; column += kSumThreads) {
    float total =
        addend.data == nullptr ? 0.0f : to_float(addend.row(blockIdx.x)[column]);
    for (int i = 0; i < top; ++i) {
      const std::int64_t slot = slot_of[first + order[i]];
      if (slot < 0) continue;
      total = fmaf(weights[first + order[i]], to_float(y[slot * hidden + column]), total);
    }
    out.row(blockIdx.x)[column] = from_float<T>(total);
  }
}

// Rows of a tile, by what experts get on average.
int piece_of(std::int64_t pairs, int experts, int dtype) {
  return piece_for(divide_up(pairs, experts), dtype);
}

// Tiles that there can be: all full ones and one more for each expert with any row.
std::int64_t count_tiles(std::int64_t pairs, int experts, int dtype) {
  return pairs / piece_of(pairs, experts, dtype) + std::min<std::int64_t>(pairs, experts);
}

// Where the intermediate results lie in the scratch memory, in bytes, each at a multiple of 16.
struct Layout {
  std::int64_t source, slot_of, tiles, inner, gated, out, end;
};

Layout layout_of(std::int64_t pairs, int experts, int hidden, int inner, int dtype) {
  const std::int64_t item = dtype == kFloat32 ? 4 : 2;
  const auto after = [](std::int64_t begin, std::int64_t bytes) {
    return begin + divide_up(bytes, 16) * 16;
  };
  Layout at{};
  at.slot_of = after(at.source, 4 * pairs);
  at.tiles = after(at.slot_of, 4 * pairs);
  at.inner = after(at.tiles, count_tiles(pairs, experts, dtype) * sizeof(RowTile));
  at.gated = after(at.inner, pairs * 2 * inner * item);
  at.out = after(at.gated, pairs * inner * item);
  at.end = after(at.out, pairs * hidden * item);
  return at;
}

// A product of all slots: out [slots, n], from rows [.., k].
cudaError_t multiply(void* out, const void* x, std::int64_t x_stride, const VllmCudaExperts& w,
                     int n, int k, const RowTiles& tiles, std::int64_t tile_count, int piece,
                     int dtype, cudaStream_t stream) {
  const LinearArguments a{out, n, x, x_stride, w.data, nullptr, {n, k, false, true, w.stride, nullptr, 0},
                          tiles, tile_count};
  return w.qtype == 0 ? launch_dense(a, piece, dtype, stream)
                      : launch_packed(a, w.qtype, piece, dtype, stream);
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" std::int64_t vllm_cuda_experts_scratch(std::int64_t rows, int top, int experts,
                                                  int hidden, int inner, int dtype) {
  return layout_of(rows * top, experts, hidden, inner, dtype).end;
}

extern "C" cudaError_t vllm_cuda_fused_experts(
    void* out, std::int64_t out_stride, const void* x, std::int64_t x_stride,
    const void* addend, std::int64_t addend_stride, const std::int32_t* ids, const float* weights,
    const VllmCudaExperts* gate_up, const VllmCudaExperts* down, void* scratch, std::int64_t rows,
    int top, int experts, int hidden, int inner, int dtype, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  if (experts > kMaxExperts || rows * top > INT_MAX) return cudaErrorInvalidValue;
  const std::int64_t pairs = rows * top, tile_count = count_tiles(pairs, experts, dtype);
  const Layout at = layout_of(pairs, experts, hidden, inner, dtype);
  char* const base = static_cast<char*>(scratch);
  const Slots slots{reinterpret_cast<int*>(base + at.source),
                    reinterpret_cast<int*>(base + at.slot_of),
                    reinterpret_cast<RowTile*>(base + at.tiles)};
  const int piece = piece_of(pairs, experts, dtype);
  VLLM_CUDA_LAUNCH(sort_pairs_kernel, dim3(1), dim3(kThreads), stream, slots, ids, pairs, top,
                   experts, piece, static_cast<int>(tile_count));
  const RowTiles from_tokens{0, slots.tiles, slots.source}, from_slots{0, slots.tiles, nullptr};
  cudaError_t error = multiply(base + at.inner, x, x_stride, *gate_up, 2 * inner, hidden,
                               from_tokens, tile_count, piece, dtype, stream);
  if (error != cudaSuccess) return error;
  error = vllm_cuda_silu_and_mul(base + at.gated, inner, base + at.inner, 2 * inner, pairs, inner,
                                 dtype, stream);
  if (error != cudaSuccess) return error;
  error = multiply(base + at.out, base + at.gated, inner, *down, hidden, inner, from_slots,
                   tile_count, piece, dtype, stream);
  if (error != cudaSuccess) return error;
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    VLLM_CUDA_LAUNCH(sum_experts_kernel<T>, dim3(static_cast<unsigned>(rows)), dim3(kSumThreads),
                     stream, rows_of<T>(out, out_stride), rows_of<const T>(addend, addend_stride),
                     reinterpret_cast<const T*>(base + at.out), ids, weights, slots.slot_of, top,
                     hidden);
    return cudaGetLastError();
  });
}
