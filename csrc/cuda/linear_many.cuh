// SPDX-License-Identifier: Apache-2.0
//
// Owns: the product of linear.cuh for many rows, such as prompts, with the same results bit for bit.
// Must not know: who asks for it, torch.
//
// A block of 8 warps computes 128 columns of the output, 16 a warp, for 64 rows. The block's activations
// go through shared memory as operands, which all warps need; a stage is a few runs of 32 columns. While
// one stage is multiplied, the next one's weights and activations are on their way to registers.
//
// Grid: x = ceil(n / 128), y = tiles of rows. Block: 256 threads.
//
// A warp sums the slices of the columns that linear.cuh gives to 8 warps one after the other.
#pragma once

#include "linear.cuh"

namespace vllm_kernels::cuda {

constexpr int kMostRows = 64;
constexpr int kMostTiles = kMostRows / 8;

// Runs of a stage: 16 KiB of operands.
template <class W, typename T>
constexpr int kStageRuns = 4 / Digits<typename W::Element, T>::kCount < W::kUnit
                               ? 4 / Digits<typename W::Element, T>::kCount
                               : W::kUnit;

template <class W, typename T>
struct SharedStage {
  static constexpr int kDigits = Digits<typename W::Element, T>::kCount;
  uint2 b[kStageRuns<W, T>][kMostTiles][2][kDigits][32];
  float sum[kStageRuns<W, T>][kMostRows];
};

// What a lane brings of the next stage: weights of its warp's group, activations of tile `warp`.
template <class W, typename T>
struct NextStage {
  static constexpr int kRuns = kStageRuns<W, T>;
  typename W::Raw raw[kRuns];
  Vec<T, 4> x[kRuns][2];

  __device__ void load(const std::uint8_t* matrix, int group, const T* row, int run, int end,
                       const LinearShape& shape) {
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      const bool exists = run + i < end;
      raw[i] = exists && 16 * group < shape.n ? W::load(matrix, group, run + i, shape)
                                              : typename W::Raw{};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = 32 * (run + i) + 16 * half + threadIdx.x % 4 * 4;
        load_four(x[i][half], row + column, exists && row != nullptr ? shape.k - column : 0,
                  shape.x_aligned);
      }
    }
  }

  // This warp's tile of activations.
  __device__ void put(SharedStage<W, T>& shared) const {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      using X = ActivationRun<typename W::Element, T, 1>;
      X own;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        X::D::split(own.b[0][half], x[i][half]);
#pragma unroll
        for (int digit = 0; digit < SharedStage<W, T>::kDigits; ++digit) {
          const auto& words = own.b[0][half][digit];
          shared.b[i][warp][half][digit][lane] = make_uint2(words[0], words[1]);
        }
      }
      if constexpr (W::kHasMinimum) {
        sum_activations<X, 1>(own);
        if (lane < 4) {
          shared.sum[i][8 * warp + 2 * lane] = own.sum[0][0];
          shared.sum[i][8 * warp + 2 * lane + 1] = own.sum[0][1];
        }
      }
    }
  }
};

template <class W, typename T>
__device__ void take(ActivationRun<typename W::Element, T, 1>& x, const SharedStage<W, T>& shared,
                     int run, int tile) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int digit = 0; digit < SharedStage<W, T>::kDigits; ++digit) {
      const uint2 words = shared.b[run][tile][half][digit][lane];
      x.b[0][half][digit][0] = words.x;
      x.b[0][half][digit][1] = words.y;
    }
  }
  if constexpr (W::kHasMinimum) {
    x.sum[0][0] = shared.sum[run][8 * tile + 2 * (lane % 4)];
    x.sum[0][1] = shared.sum[run][8 * tile + 2 * (lane % 4) + 1];
  }
}

// sum += one run of this warp's 16 columns, for all tiles of rows.
template <class W, typename T>
__device__ void add_shared_run(float (&sum)[kMostTiles][4], const typename W::Raw& raw,
                               const SharedStage<W, T>& shared, int run) {
  using X = ActivationRun<typename W::Element, T, 1>;
  unsigned a[2][W::kDigits][4];
  W::operand(a[0], raw, 0);
  W::operand(a[1], raw, 1);
  const RunScales scales[2] = {W::scales(raw, 0), W::scales(raw, 1)};
#pragma unroll
  for (int tile = 0; tile < kMostTiles; ++tile) {
    X x;
    take<W, T>(x, shared, run, tile);
    if constexpr (W::kHasScale) {
      add_scaled<W>(sum[tile], a, x, 0, scales);
    } else {
      multiply<X>(sum[tile], a, x.b[0], 0, 2, typename W::Element{});
    }
  }
}

// Lane 4 g + t holds the columns 2 g and 2 g + 1 of its warp for the rows 2 t and 2 t + 1 of each tile.
template <class W, typename T>
__device__ void store_tiles(Rows<T> out, const float (&total)[kMostTiles][4], const float* bias,
                            int group, const RowTile& tile, const LinearShape& shape) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int n = 16 * group + 2 * g + i / 2;
    if (n >= shape.n) continue;
    const float scale = W::kRowScales ? shape.row_scales[n * shape.row_scale_step] : 1.0f;
    const float addend = bias == nullptr ? 0.0f : bias[n];
#pragma unroll
    for (int piece = 0; piece < kMostTiles; ++piece) {
      const int row = 8 * piece + 2 * t + i % 2;
      if (row >= tile.count) continue;
      const float value = W::kRowScales ? total[piece][i] * scale : total[piece][i];
      out.row(tile.first + row)[n] = from_float<T>(value + addend);
    }
  }
}

// As linear_kernel.
template <class W, typename T>
__global__ void __launch_bounds__(kLinearWarps * 32)
    many_linear_kernel(Rows<T> out, Rows<const T> x, const std::uint8_t* weights,
                       const float* bias, LinearShape shape, RowTiles tiles) {
  __shared__ SharedStage<W, T> shared;
  constexpr int kRuns = kStageRuns<W, T>;
  const RowTile tile = tiles.tile(blockIdx.y, kMostRows);
  if (tile.count <= 0) return;
  const int group = blockIdx.x * kLinearWarps + threadIdx.x / 32;
  const std::uint8_t* matrix = weights + tile.matrix * shape.matrix_bytes;
  const int own = threadIdx.x / 4;  // row of the tile whose activations this lane brings
  const T* row = own < tile.count ? x.row(tiles.source_of(tile.first + own)) : nullptr;
  const int runs = (shape.k + 31) / 32;
  float total[kMostTiles][4] = {}, sum[kMostTiles][4] = {};
  NextStage<W, T> next;
  next.load(matrix, group, row, 0, runs, shape);
  int slice = 0, slice_end = slice_begin<W>(1, shape.k);
  for (int run = 0; run < runs; run += kRuns) {
    while (run >= slice_end) {  // slices begin between stages
#pragma unroll
      for (int i = 0; i < kMostTiles * 4; ++i) {
        total[i / 4][i % 4] += sum[i / 4][i % 4];
        sum[i / 4][i % 4] = 0.0f;
      }
      slice_end = slice_begin<W>(++slice + 1, shape.k);
    }
    next.put(shared);
    typename W::Raw raw[kRuns];
#pragma unroll
    for (int i = 0; i < kRuns; ++i) raw[i] = next.raw[i];
    __syncthreads();
    next.load(matrix, group, row, run + kRuns, runs, shape);
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      if (run + i < runs) add_shared_run<W, T>(sum, raw[i], shared, i);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kMostTiles * 4; ++i) total[i / 4][i % 4] += sum[i / 4][i % 4];
  store_tiles<W, T>(out, total, bias, group, tile, shape);
}

template <class W, typename T>
cudaError_t launch_linear_for_many(LinearArguments a, cudaStream_t stream) {
  const auto x = rows_of<const T>(a.x, a.x_stride);
  a.shape.x_aligned = takes_fours(x);
  const dim3 grid(static_cast<unsigned>(divide_up(a.shape.n, 16 * kLinearWarps)),
                  static_cast<unsigned>(a.count_tiles(kMostRows)));
  VLLM_CUDA_LAUNCH((many_linear_kernel<W, T>), grid, dim3(kLinearWarps * 32), stream,
                   rows_of<T>(a.out, a.out_stride), x,
                   static_cast<const std::uint8_t*>(a.weights), a.bias, a.shape, a.tiles);
  return cudaGetLastError();
}

// `piece`: rows of a tile, kFewRows, kManyRows or kMostRows. Float32 takes three digits, whose products
// need no more speed.
template <class W, typename T>
cudaError_t launch_linear_for_rows(const LinearArguments& a, int piece, cudaStream_t stream) {
  if (piece == kFewRows) return launch_linear<W, T, 1, 1>(a, stream);
  if constexpr (sizeof(T) == 2) {
    if (piece == kMostRows) return launch_linear_for_many<W, T>(a, stream);
  }
  return launch_linear<W, T, 2, 4>(a, stream);
}

// Rows of a tile where a matrix gets so many rows.
inline int piece_for(std::int64_t rows, int dtype) {
  if (rows <= kFewRows) return kFewRows;
  return rows <= 2 * kManyRows || dtype == kFloat32 ? kManyRows : kMostRows;
}

}  // namespace vllm_kernels::cuda
