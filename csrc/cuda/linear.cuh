// SPDX-License-Identifier: Apache-2.0
//
// Owns: the product of activations with a matrix of weights of some kind (packed_weights.cuh,
// dense_weights.cuh) on the tensor cores. Must not know: who asks for it, torch.
//
// A block of 8 warps computes 16 * GROUPS columns of the output for up to 8 * TOKENS rows. The K
// columns of the weights are cut into 8 slices, one a warp, whose sums are added in order at the end.
//
// Grid: x = ceil(n / (16 GROUPS)), y = tiles of rows. Block: 256 threads.
//
// Where K is cut and in which order an output is summed depends on k and the kind of weights alone, and a
// tensor core treats every row by itself: results are the same bit for bit however many rows there are.
#pragma once

#include "digits.cuh"
#include "dispatch.cuh"
#include "linear_shape.cuh"
#include "row_tiles.cuh"

namespace vllm_kernels::cuda {

constexpr int kLinearWarps = 8;

// Sums of a warp: 16 * GROUPS rows of weights, 8 * TOKENS rows of activations, as mma's d.
template <int GROUPS, int TOKENS>
struct Totals {
  float sum[GROUPS][TOKENS][4] = {};
};

// A lane's share of a run of the activations, as operands of type E.
template <typename E, typename T, int TOKENS>
struct ActivationRun {
  using Element = E;
  using D = Digits<E, T>;
  unsigned b[TOKENS][2][D::kCount][2];  // of either half of the run
  float sum[TOKENS][2];                 // of the run: tokens 2 t and 2 t + 1

  __device__ void load(const T* const (&rows)[TOKENS], int run, const LinearShape& shape) {
#pragma unroll
    for (int token = 0; token < TOKENS; ++token) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = 32 * run + 16 * half + threadIdx.x % 4 * 4;
        const int left = rows[token] == nullptr ? 0 : shape.k - column;
        Vec<T, 4> four;
        load_four(four, rows[token] + column, left, shape.x_aligned);
        D::split(b[token][half], four);
      }
    }
  }
};

// acc += the halves begin ... end - 1 of a run.
template <class X, int N>
__device__ void multiply(float (&acc)[4], const unsigned (&a)[2][N][4],
                         const unsigned (&b)[2][X::D::kCount][2], int begin, int end,
                         typename X::Element element) {
#pragma unroll
  for (int half = begin; half < end; ++half) {
#pragma unroll
    for (int left = 0; left < N; ++left) {
#pragma unroll
      for (int right = 0; right < X::D::kCount; ++right) {
        mma(acc, a[half][left], b[half][right], element);
      }
    }
  }
}

// By a product with ones, which leaves the sums where the minima need them.
template <class X, int TOKENS>
__device__ void sum_activations(X& x) {
  constexpr unsigned kOnes = 0x3f803f80u;
  constexpr unsigned a[2][1][4] = {{{kOnes, kOnes, kOnes, kOnes}}, {{kOnes, kOnes, kOnes, kOnes}}};
#pragma unroll
  for (int token = 0; token < TOKENS; ++token) {
    float acc[4] = {};
    multiply<X>(acc, a, x.b[token], 0, 2, __nv_bfloat16{});
    x.sum[token][0] = acc[0];
    x.sum[token][1] = acc[1];
  }
}

// total += scale * (a b) of each half, or of the run where both have one scale; then the minima.
template <class W, class X>
__device__ void add_scaled(float (&total)[4], const unsigned (&a)[2][W::kDigits][4], const X& x,
                           int token, const RunScales (&scales)[2]) {
  constexpr int kSteps = W::kTwoScales ? 2 : 1;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    float acc[4] = {};
    multiply<X>(acc, a, x.b[token], step, step + 3 - kSteps, typename W::Element{});
#pragma unroll
    for (int i = 0; i < 4; ++i) total[i] = fmaf(scales[i / 2].scale[step], acc[i], total[i]);
  }
  if constexpr (W::kHasMinimum) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      total[i] = fmaf(scales[i / 2].minimum, x.sum[token][i % 2], total[i]);
    }
  }
}

// One run of one group of 16 rows.
template <class W, class X, int TOKENS>
__device__ void add_run(float (&total)[TOKENS][4], const typename W::Raw& raw, const X& x) {
  unsigned a[2][W::kDigits][4];
  W::operand(a[0], raw, 0);
  W::operand(a[1], raw, 1);
  const RunScales scales[2] = {W::scales(raw, 0), W::scales(raw, 1)};
#pragma unroll
  for (int token = 0; token < TOKENS; ++token) {
    if constexpr (W::kHasScale) {
      add_scaled<W>(total[token], a, x, token, scales);
    } else {
      multiply<X>(total[token], a, x.b[token], 0, 2, typename W::Element{});
    }
  }
}

// The first run of slice `slice` of the columns, which are cut between units.
template <class W>
__device__ int slice_begin(int slice, int k) {
  const int units = (k + 32 * W::kUnit - 1) / (32 * W::kUnit);
  return slice * units / kLinearWarps * W::kUnit;
}

template <class W, int GROUPS>
__device__ void load_unit(typename W::Raw (&raw)[GROUPS][W::kUnit], const std::uint8_t* matrix,
                          int group, int run, int end, const LinearShape& shape) {
#pragma unroll
  for (int g = 0; g < GROUPS; ++g) {
    const bool exists = 16 * (group + g) < shape.n;
#pragma unroll
    for (int i = 0; i < W::kUnit; ++i) {
      if (exists && run + i < end) {
        raw[g][i] = W::load(matrix, group + g, run + i, shape);
      } else {
        raw[g][i] = typename W::Raw{};
      }
    }
  }
}

template <class W, typename T, int GROUPS, int TOKENS>
__device__ void add_unit(Totals<GROUPS, TOKENS>& totals,
                         const typename W::Raw (&raw)[GROUPS][W::kUnit],
                         const T* const (&rows)[TOKENS], int run, int end,
                         const LinearShape& shape) {
  using X = ActivationRun<typename W::Element, T, TOKENS>;
#pragma unroll
  for (int i = 0; i < W::kUnit; ++i) {
    if (run + i >= end) break;
    X x;
    x.load(rows, run + i, shape);
    if constexpr (W::kHasMinimum) sum_activations<X, TOKENS>(x);
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) add_run<W, X, TOKENS>(totals.sum[g], raw[g][i], x);
  }
}

// The runs begin ... end - 1. For few rows, the next unit is on its way while one is multiplied.
template <class W, typename T, int GROUPS, int TOKENS>
__device__ void sum_slice(Totals<GROUPS, TOKENS>& totals, const std::uint8_t* matrix, int group,
                          const T* const (&rows)[TOKENS], int begin, int end,
                          const LinearShape& shape) {
  typename W::Raw raw[GROUPS][W::kUnit];
  if constexpr (TOKENS > 1) {
    for (int run = begin; run < end; run += W::kUnit) {
      load_unit<W, GROUPS>(raw, matrix, group, run, end, shape);
      add_unit<W, T>(totals, raw, rows, run, end, shape);
    }
    return;
  }
  load_unit<W, GROUPS>(raw, matrix, group, begin, end, shape);
  for (int run = begin; run < end; run += W::kUnit) {
    typename W::Raw next[GROUPS][W::kUnit];
    load_unit<W, GROUPS>(next, matrix, group, run + W::kUnit, end, shape);
    add_unit<W, T>(totals, raw, rows, run, end, shape);
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) {
#pragma unroll
      for (int i = 0; i < W::kUnit; ++i) raw[g][i] = next[g][i];
    }
  }
}

// Sums of all warps: GROUPS * TOKENS * 4 KiB.
template <int GROUPS, int TOKENS>
struct SharedTotals {
  float sum[kLinearWarps][GROUPS][TOKENS][4][32];

  __device__ void put(const Totals<GROUPS, TOKENS>& totals) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) {
#pragma unroll
      for (int token = 0; token < TOKENS; ++token) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[warp][g][token][i][lane] = totals.sum[g][token][i];
      }
    }
  }

  // Column `column` of the block's and token `token`: the lane that holds it follows from the layout
  // of d and of the tiles (row 2 g of a tile is row g of d, row 2 g + 1 row g + 8).
  __device__ float total(int column, int token) const {
    const int row = column % 16;
    const int lane = row / 2 * 4 + token % 8 / 2;
    float result = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kLinearWarps; ++warp) {
      result += sum[warp][column / 16][token / 8][row % 2 * 2 + token % 2][lane];
    }
    return result;
  }
};

// out: [rows, n]; x: [rows, k]; weights: matrices [n, k]; bias: [n] or null.
template <class W, typename T, int GROUPS, int TOKENS>
__global__ void __launch_bounds__(kLinearWarps * 32, TOKENS == 1 ? 2 : 1)
    linear_kernel(Rows<T> out, Rows<const T> x, const std::uint8_t* weights, const float* bias,
                  LinearShape shape, RowTiles tiles) {
  __shared__ SharedTotals<GROUPS, TOKENS> shared;
  const RowTile tile = tiles.tile(blockIdx.y, 8 * TOKENS);
  if (tile.count <= 0) return;
  const T* rows[TOKENS];
#pragma unroll
  for (int token = 0; token < TOKENS; ++token) {
    const int row = 8 * token + threadIdx.x % 32 / 4;
    rows[token] = row < tile.count ? x.row(tiles.source_of(tile.first + row)) : nullptr;
  }
  const int warp = threadIdx.x / 32, group = blockIdx.x * GROUPS;
  const int runs = (shape.k + 31) / 32, next = slice_begin<W>(warp + 1, shape.k);
  Totals<GROUPS, TOKENS> totals;
  sum_slice<W, T, GROUPS, TOKENS>(totals, weights + tile.matrix * shape.matrix_bytes, group, rows,
                                  slice_begin<W>(warp, shape.k), next < runs ? next : runs, shape);
  shared.put(totals);
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * GROUPS * tile.count; i += blockDim.x) {
    const int column = i % (16 * GROUPS), token = i / (16 * GROUPS);
    const int n = 16 * group + column;
    if (n >= shape.n) continue;
    float total = shared.total(column, token);
    if constexpr (W::kRowScales) total *= shape.row_scales[n * shape.row_scale_step];
    total += bias == nullptr ? 0.0f : bias[n];
    out.row(tile.first + token)[n] = from_float<T>(total);
  }
}

struct LinearArguments {
  void* out;
  std::int64_t out_stride;
  const void* x;
  std::int64_t x_stride;
  const void* weights;
  const float* bias;
  LinearShape shape;
  RowTiles tiles;
  std::int64_t tile_count;  // where tiles are given

  std::int64_t count_tiles(int piece) const {
    return tiles.tiles == nullptr ? divide_up(tiles.rows, piece) : tile_count;
  }
};

// Rows that a block takes at once. Up to 8 it takes 16 columns, beyond 32 columns and 32 rows: then the
// weights are widened once for all of them.
constexpr int kFewRows = 8;
constexpr int kManyRows = 32;

template <class W, typename T, int GROUPS, int TOKENS>
cudaError_t launch_linear(LinearArguments a, cudaStream_t stream) {
  const auto x = rows_of<const T>(a.x, a.x_stride);
  a.shape.x_aligned = takes_fours(x);
  const dim3 grid(static_cast<unsigned>(divide_up(a.shape.n, 16 * GROUPS)),
                  static_cast<unsigned>(a.count_tiles(8 * TOKENS)));
  VLLM_CUDA_LAUNCH((linear_kernel<W, T, GROUPS, TOKENS>), grid, dim3(kLinearWarps * 32), stream,
                   rows_of<T>(a.out, a.out_stride), x,
                   static_cast<const std::uint8_t*>(a.weights), a.bias, a.shape, a.tiles);
  return cudaGetLastError();
}

}  // namespace vllm_kernels::cuda
