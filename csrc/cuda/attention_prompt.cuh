// SPDX-License-Identifier: Apache-2.0
//
// Owns: causal attention of many tokens of a sequence over the paged cache on the tensor cores, as in
// FlashAttention-2 (Dao, 2023, arXiv:2307.08691). Must not know: decode steps, torch.
//
// A block takes 64 query rows that share one KV head: t = floor(64 / h) consecutive tokens times h query
// heads, each of its 4 warps 16 rows. Keys and values come in tiles of 32, counted from position 0,
// through shared memory, two tiles at a time: the next one is on its way while one is multiplied.
//
// Grid: x = floor(tokens / t) + sequences, y = kv_heads * ceil(group / h). Block: 128 threads.
//
// A tensor core keeps rows apart and tiles that a row does not see change nothing, so a row's result
// depends neither on the batch nor on the other tokens of its block.
#pragma once

#include <cmath>

#include "async_copy.cuh"
#include "attention_state.cuh"
#include "attention_tiles.cuh"
#include "dispatch.cuh"
#include "mma.cuh"

namespace vllm_kernels::cuda {

constexpr int kPromptRows = 64;
constexpr int kPromptWarps = kPromptRows / 16;
constexpr int kPromptKeys = 32;

// Rows are 16 bytes apart more than they are long: eight in a column are in different banks.
template <int DIM, typename T>
struct alignas(16) KeyTile {
  T k[kPromptKeys][DIM + 8];
  T v[kPromptKeys][DIM + 8];
};

// Where a lane's two rows of a block are: 16 * warp + g and 8 more.
struct PromptRow {
  bool exists;
  std::int64_t token;
  std::int64_t column;  // of its head in q and out
};

__device__ inline PromptRow prompt_row(int r, const Tile& tile, const Shape& shape) {
  const int head = tile.head + r % shape.heads_per_block;
  return {r < tile.rows && head < tile.head_end, tile.token + r / shape.heads_per_block,
          static_cast<std::int64_t>(head) * shape.head_dim};
}

__device__ inline int first_row() { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4; }

template <typename T>
__device__ unsigned load_pair(const T* from) {
  return *reinterpret_cast<const unsigned*>(from);
}

// mma's a of each 16 dims.
template <int DIM, typename T>
__device__ void load_queries(unsigned (&query)[DIM / 16][4], Rows<const T> q, const Tile& tile,
                             const Shape& shape) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const PromptRow row = prompt_row(first_row() + 8 * i, tile, shape);
    const T* from = q.row(row.exists ? row.token : 0) + (row.exists ? row.column : 0) + 2 * t;
#pragma unroll
    for (int step = 0; step < DIM / 16; ++step) {
      query[step][i] = row.exists ? load_pair(from + 16 * step) : 0;
      query[step][i + 2] = row.exists ? load_pair(from + 16 * step + 8) : 0;
    }
  }
}

// Keys that no row of the block sees become zeros.
template <int DIM, typename T>
__device__ void copy_keys(KeyTile<DIM, T>& to, const T* k_cache, const T* v_cache,
                          const int* block_table, int first, const Tile& tile,
                          const Shape& shape) {
  constexpr int kPieces = DIM / 8;
  for (int i = threadIdx.x; i < kPromptKeys * kPieces; i += kPromptWarps * 32) {
    const int row = i / kPieces, column = i % kPieces * 8, key = first + row;
    const bool exists = key >= tile.first && key < tile.keys;
    const std::int64_t from =
        exists ? cache_offset(block_table, key, tile.kv_head, shape) + column : 0;
    copy_piece(&to.k[row][column], k_cache + from, exists);
    copy_piece(&to.v[row][column], v_cache + from, exists);
  }
  end_copies();
}

// Softmax state of a warp's 16 rows; lane 4 g + t holds rows g and g + 8, as mma's d.
template <int DIM>
struct PromptState {
  float max[2] = {-INFINITY, -INFINITY};
  float weight[2] = {};  // this lane's share
  float sum[DIM / 8][4] = {};
};

using Scores = float[kPromptKeys / 8][4];

template <int DIM, typename T>
__device__ void score_keys(Scores& score, const unsigned (&query)[DIM / 16][4],
                           const KeyTile<DIM, T>& keys) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < kPromptKeys / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) score[n][i] = 0.0f;
#pragma unroll
    for (int step = 0; step < DIM / 16; step += 2) {
      unsigned m[4];
      load_matrices<false>(m, &keys.k[8 * n + lane % 8][16 * step + lane / 8 * 8]);
      const unsigned even[2] = {m[0], m[1]}, odd[2] = {m[2], m[3]};
      mma(score[n], query[step], even, T{});
      mma(score[n], query[step + 1], odd, T{});
    }
  }
}

// Scales and caps the scores; -inf where a row does not see a key.
__device__ inline void mask_scores(Scores& score, int first, const Tile& tile,
                                   const Shape& shape) {
#pragma unroll
  for (int n = 0; n < kPromptKeys / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = first + 8 * n + threadIdx.x % 4 * 2 + i % 2;
      const float s = score[n][i] * shape.scale;
      const float capped = shape.soft_cap > 0.0f ? shape.soft_cap * tanhf(s / shape.soft_cap) : s;
      const int row = first_row() + i / 2 * 8;
      const bool sees = tile.sees(row, key, shape.heads_per_block, shape.window);
      score[n][i] = sees ? capped : -INFINITY;
    }
  }
}

// Over the four lanes that share a row.
template <typename Op>
__device__ float row_reduce(float value, Op op) {
  value = op(value, __shfl_xor_sync(kAllLanes, value, 1));
  return op(value, __shfl_xor_sync(kAllLanes, value, 2));
}

// Scores become exp(score - max), and the state is brought to the new maxima.
template <int DIM>
__device__ void update_state(PromptState<DIM>& state, Scores& score) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    float largest = -INFINITY;
#pragma unroll
    for (int n = 0; n < kPromptKeys / 8; ++n) {
      largest = fmaxf(largest, fmaxf(score[n][2 * row], score[n][2 * row + 1]));
    }
    const float new_max = fmaxf(state.max[row], row_reduce(largest, Max{}));
    const float factor = correction(state.max[row], new_max);
    state.max[row] = new_max;
    state.weight[row] *= factor;
#pragma unroll
    for (int d = 0; d < DIM / 8; ++d) {
      state.sum[d][2 * row] *= factor;
      state.sum[d][2 * row + 1] *= factor;
    }
#pragma unroll
    for (int i = 0; i < kPromptKeys / 4; ++i) {
      float& s = score[i / 2][2 * row + i % 2];
      s = s == -INFINITY ? 0.0f : expf(s - new_max);
      state.weight[row] += s;
    }
  }
}

template <int DIM, typename T>
__device__ void add_values(PromptState<DIM>& state, const Scores& weight,
                           const KeyTile<DIM, T>& keys) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int step = 0; step < kPromptKeys / 16; ++step) {
    const auto& low = weight[2 * step];
    const auto& high = weight[2 * step + 1];
    const unsigned a[4] = {pack(low[0], low[1], T{}), pack(low[2], low[3], T{}),
                           pack(high[0], high[1], T{}), pack(high[2], high[3], T{})};
#pragma unroll
    for (int d = 0; d < DIM / 8; d += 2) {
      unsigned m[4];
      load_matrices<true>(m, &keys.v[16 * step + lane % 16][8 * d + lane / 16 * 8]);
      const unsigned even[2] = {m[0], m[1]}, odd[2] = {m[2], m[3]};
      mma(state.sum[d], a, even, T{});
      mma(state.sum[d + 1], a, odd, T{});
    }
  }
}

// A row that sees no key becomes zeros.
template <int DIM, typename T>
__device__ void store_state(Rows<T> out, const PromptState<DIM>& state, const Tile& tile,
                            const Shape& shape) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float weight = row_reduce(state.weight[i], Sum{});
    const PromptRow row = prompt_row(first_row() + 8 * i, tile, shape);
    if (!row.exists) continue;
    const float scale = weight == 0.0f ? 0.0f : 1.0f / weight;
    T* to = out.row(row.token) + row.column + threadIdx.x % 4 * 2;
#pragma unroll
    for (int d = 0; d < DIM / 8; ++d) {
      const float pair[2] = {state.sum[d][2 * i] * scale, state.sum[d][2 * i + 1] * scale};
      store_floats<2>(to + 8 * d, pair);
    }
  }
}

// Shapes as those of paged_attention_kernel, all of type T; DIM is head_dim.
template <int DIM, typename T>
__global__ void __launch_bounds__(kPromptWarps * 32, 2)
    prompt_attention_kernel(Rows<T> out, Rows<const T> q, const T* k_cache, const T* v_cache,
                            const int* block_tables, const int* seq_lens, const int* query_start,
                            Shape shape) {
  __shared__ KeyTile<DIM, T> stages[2];
  const Tile tile = find_tile(query_start, seq_lens, shape);
  if (tile.rows == 0) return;
  const int* block_table = block_tables + tile.sequence * shape.max_blocks;
  unsigned query[DIM / 16][4];
  load_queries<DIM, T>(query, q, tile, shape);
  PromptState<DIM> state;
  int first = tile.first / kPromptKeys * kPromptKeys, stage = 0;
  copy_keys(stages[0], k_cache, v_cache, block_table, first, tile, shape);
  for (; first < tile.keys; first += kPromptKeys, stage = 1 - stage) {
    copy_keys(stages[1 - stage], k_cache, v_cache, block_table, first + kPromptKeys, tile, shape);
    wait_for_copies<1>();
    __syncthreads();
    Scores score;
    score_keys(score, query, stages[stage]);
    mask_scores(score, first, tile, shape);
    update_state(state, score);
    add_values(state, score, stages[stage]);
    __syncthreads();  // the next copies overwrite this stage
  }
  wait_for_copies<0>();
  store_state(out, state, tile, shape);
}

}  // namespace vllm_kernels::cuda
