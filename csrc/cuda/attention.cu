// SPDX-License-Identifier: Apache-2.0
//
// Owns: causal attention over the paged cache of any shape and type, with the online
// softmax of FlashAttention (Dao et al., 2022, arXiv:2205.14135; the running maximum is Milakov and
// Gimelshein, 2018, arXiv:1805.02867), and the division of keys among blocks of Flash-Decoding (Dao et
// al., 2023). Must not know: which request a sequence is, torch.
//
// A block takes 8 query rows that share one KV head: t consecutive tokens of one sequence times h query
// heads, t * h <= 8. Keys come in chunks of 512, chunk c belongs to slot c mod 16. In a chunk, the 8 warps
// deal the keys out in tiles of 32 (warp w: tiles w and w + 8) and each keeps its own softmax state; a
// slot's 8 states become one, and the slots' states become one in ascending order. Heads of more than 256
// dims, as DeepSeek's latent vectors, have 4 rows and 4 warps.
//
// Grid: x = floor(tokens / t) + sequences (an upper bound of the tiles, see first_tile), y =
// kv_heads * ceil(group / h), where group = q_heads / kv_heads, z = splits: block z takes the slots z,
// z + splits, ... One split joins its slots itself; of more, each slot's state goes to memory, and a
// second kernel, a warp a row, joins them. Block: 256 threads.
//
// A row's keys reach its sums in the same order whatever else is in the batch, however the prompt was
// cut and into how many blocks the slots are split: keys that a row does not see change nothing (weights
// 0, correction 1). Results are therefore equal bit by bit between batched, chunked and single runs.
#include <climits>
#include <cmath>

#include "attention_launch.h"
#include "attention_state.cuh"
#include "attention_tiles.cuh"
#include "dispatch.cuh"
#include "reduce.cuh"

namespace vllm_kernels::cuda {
namespace {

// Rows of a block where a head is wider than kMaxHeadDim.
constexpr int kWideRows = 4;

template <class G>
struct SharedSteps {
  float query[G::kRows][kWarp * G::kDims];  // scaled; zero beyond the rows
  float probability[G::kWarps][G::kRows][kTile];
};

// Up to head_dim 256: 8 * 256 * 4 + 8 * 8 * 32 * 4 = 16 KiB of steps, or
// 4 * 8 * (256 + 2) * 4 = 32.25 KiB of states, never together; and 8.06 KiB of the slots so far.
template <class G>
struct Shared {
  union {
    SharedSteps<G> steps;
    SharedStates<G> states;
  };
  float max[G::kRows];
  float weight[G::kRows];
  float sum[G::kRows][kWarp * G::kDims];
};

template <class G, typename T>
__device__ void load_query(SharedSteps<G>& shared, Rows<const T> q, const Tile& tile,
                           const Shape& shape) {
  for (int i = threadIdx.x; i < G::kRows * shape.head_dim; i += blockDim.x) {
    const int r = i / shape.head_dim;
    const int dim = i % shape.head_dim;
    const int head = tile.head + r % shape.heads_per_block;
    const bool exists = r < tile.rows && head < tile.head_end;
    const T* row = q.row(tile.token + (exists ? r / shape.heads_per_block : 0));
    shared.query[r][dim] =
        exists ? to_float(row[static_cast<std::int64_t>(head) * shape.head_dim + dim]) * shape.scale
               : 0.0f;
  }
}

// score[r] = query r . key, for the lane's own key.
template <class G, typename C>
__device__ void score_key(float (&score)[G::kRows], const SharedSteps<G>& shared, const C* key,
                          int rows, int head_dim) {
#pragma unroll
  for (int r = 0; r < G::kRows; ++r) score[r] = 0.0f;
  for (int dim = 0; dim < head_dim; dim += kKeyPiece) {
    float piece[kKeyPiece];
    load_floats<kKeyPiece>(key + dim, piece);
#pragma unroll
    for (int r = 0; r < G::kRows; ++r) {
      if (r >= rows) break;
#pragma unroll
      for (int i = 0; i < kKeyPiece; ++i) score[r] += shared.query[r][dim + i] * piece[i];
    }
  }
}

template <int ROWS>
__device__ void cap_scores(float (&score)[ROWS], float cap) {
#pragma unroll
  for (int r = 0; r < ROWS; ++r) score[r] = cap * tanhf(score[r] / cap);
}

// Takes the tile's scores into the maxima and weights; leaves exp(score - max) in `probability`.
template <class G>
__device__ void update_weights(State<G>& state, float (&probability)[G::kRows][kTile],
                               const float (&score)[G::kRows], int key, const Tile& tile,
                               const Shape& shape) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < G::kRows; ++r) {
    if (r >= tile.rows) break;
    const bool sees = tile.sees(r, key, shape.heads_per_block, shape.window);
    const float tile_max = warp_reduce(sees ? score[r] : -INFINITY, Max{});
    const float new_max = fmaxf(state.max[r], tile_max);
    const float p = sees ? expf(score[r] - new_max) : 0.0f;
    state.rescale(r, correction(state.max[r], new_max));
    state.weight[r] += warp_reduce(p, Sum{});
    state.max[r] = new_max;
    probability[r][lane] = p;
  }
  __syncwarp();
}

// sum[r] += probability[r] . values begin ... end - 1 of the tile, a few at a time. `offset` is where
// the lane's own value starts; lanes beyond head_dim hold no dims.
template <class G, typename C>
__device__ void add_values(State<G>& state, const float (&probability)[G::kRows][kTile],
                           const C* v_cache, std::int64_t offset, int begin, int end, int rows,
                           int head_dim) {
  constexpr int kStep = G::kDims <= 8 ? 4 : 2;
  const int dim = (threadIdx.x % kWarp) * G::kDims;
  for (int first = begin / kStep * kStep; first < end; first += kStep) {
    float value[kStep][G::kDims] = {};
#pragma unroll
    for (int j = 0; j < kStep; ++j) {
      const std::int64_t row = __shfl_sync(kAllLanes, offset, first + j);
      const bool exists = first + j >= begin && first + j < end;
      if (exists && dim < head_dim) load_floats<G::kDims>(v_cache + row + dim, value[j]);
    }
#pragma unroll
    for (int r = 0; r < G::kRows; ++r) {
      if (r >= rows) break;
      float p[kStep];
      load_floats<kStep>(&probability[r][first], p);
#pragma unroll
      for (int j = 0; j < kStep; ++j) {
#pragma unroll
        for (int i = 0; i < G::kDims; ++i) state.sum[r][i] += p[j] * value[j][i];
      }
    }
  }
  __syncwarp();  // the next tile overwrites `probability`
}

// One tile of 32 keys, from `first` on.
template <class G, typename C>
__device__ void take_keys(State<G>& state, SharedSteps<G>& shared, const C* k_cache,
                          const C* v_cache, const int* block_table, int first, const Tile& tile,
                          const Shape& shape) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int begin = max(0, tile.first - first), end = min(kTile, tile.keys - first);
  if (begin >= end) return;
  const bool exists = lane >= begin && lane < end;
  const std::int64_t offset =
      exists ? cache_offset(block_table, first + lane, tile.kv_head, shape) : 0;
  float score[G::kRows];
  score_key(score, shared, k_cache + offset, exists ? tile.rows : 0, exists ? shape.head_dim : 0);
  if (shape.soft_cap > 0.0f) cap_scores(score, shape.soft_cap);
  update_weights(state, shared.probability[warp], score, first + lane, tile, shape);
  add_values(state, shared.probability[warp], v_cache, offset, begin, end, tile.rows,
             shape.head_dim);
}

// All keys of a slot; warp 0 ends with their state.
template <class G, typename T, typename C>
__device__ void take_slot(State<G>& state, Shared<G>& shared, Rows<const T> q,
                          const C* k_cache, const C* v_cache, const int* block_tables, int slot,
                          const Tile& tile, const Shape& shape) {
  __syncthreads();  // the queries overwrite states of the slot before
  load_query(shared.steps, q, tile, shape);
  __syncthreads();
  const int* block_table = block_tables + tile.sequence * shape.max_blocks;
  for (int chunk = tile.first_chunk(slot); chunk * kChunk < tile.keys; chunk += kSlots) {
    for (int part = threadIdx.x / kWarp; part < kChunk / kTile; part += G::kWarps) {
      take_keys(state, shared.steps, k_cache, v_cache, block_table, chunk * kChunk + part * kTile,
                tile, shape);
    }
  }
  merge_warps(state, shared.states);
}

// Joins the slot's state with those before it, on warp 0: row by row, in shared memory.
template <class G>
__device__ void join_slot(Shared<G>& shared, const State<G>& state, bool is_first) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < G::kRows; ++r) {
    float max = -INFINITY, weight = 0.0f, sum[G::kDims] = {};
    if (!is_first) {
      max = shared.max[r];
      weight = shared.weight[r];
      load_floats<G::kDims>(&shared.sum[r][lane * G::kDims], sum);
    }
    merge_row<G::kDims>(max, weight, sum, state.max[r], state.weight[r], state.sum[r]);
    __syncwarp();  // every lane has read the row
    shared.max[r] = max;
    shared.weight[r] = weight;
    store_floats<G::kDims>(&shared.sum[r][lane * G::kDims], sum);
  }
  __syncwarp();
}

// States of slots in memory: [tiles, kv_heads * parts, kSlots, rows, 2 + head_dim] float32.
__device__ float* state_row(float* states, int slot, int r, const Shape& shape) {
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * gridDim.y + blockIdx.y;
  return states + ((item * kSlots + slot) * shape.block_rows + r) * (2 + shape.head_dim);
}

template <class G>
__device__ void put_slot(float* states, int slot, const State<G>& state, int rows,
                         const Shape& shape) {
  const int dim = (threadIdx.x % kWarp) * G::kDims;
#pragma unroll
  for (int r = 0; r < G::kRows; ++r) {
    if (r >= rows) break;
    float* row = state_row(states, slot, r, shape);
    row[0] = state.max[r];
    row[1] = state.weight[r];
#pragma unroll
    for (int i = 0; i < G::kDims; ++i) {
      if (dim + i < shape.head_dim) row[2 + dim + i] = state.sum[r][i];
    }
  }
}

// A row that sees no key (length 0) becomes zeros.
template <class G, typename T>
__device__ void store_row(Rows<T> out, int r, float weight, const float (&sum)[G::kDims],
                          const Tile& tile, const Shape& shape) {
  const int dim = (threadIdx.x % kWarp) * G::kDims;
  const int head = tile.head + r % shape.heads_per_block;
  if (dim >= shape.head_dim || r >= tile.rows || head >= tile.head_end) return;
  T* row = out.row(tile.token + r / shape.heads_per_block) +
           static_cast<std::int64_t>(head) * shape.head_dim + dim;
  const float scale = weight == 0.0f ? 0.0f : 1.0f / weight;
#pragma unroll
  for (int i = 0; i < G::kDims; ++i) row[i] = from_float<T>(sum[i] * scale);
}

// q, out: [tokens, q_heads * head_dim], rows a stride apart; caches: [num_blocks, kv_heads,
// block_size, head_dim]; block_tables: [sequences, max_blocks]; seq_lens: [sequences];
// query_start: [sequences + 1]; states: see state_row, for more than one split.
template <class G, typename T, typename C>
__global__ void __launch_bounds__(G::kWarps* kWarp)
    paged_attention_kernel(Rows<T> out, Rows<const T> q, const C* k_cache, const C* v_cache,
                           const int* block_tables, const int* seq_lens, const int* query_start,
                           float* states, Shape shape) {
  __shared__ Shared<G> shared;
  const Tile tile = find_tile(query_start, seq_lens, shape);
  if (tile.rows == 0) return;
  bool is_first = true;
  for (int slot = blockIdx.z; slot < kSlots; slot += gridDim.z) {
    if (!tile.has_keys(slot)) continue;
    State<G> state;
    take_slot(state, shared, q, k_cache, v_cache, block_tables, slot, tile, shape);
    if (threadIdx.x >= kWarp) continue;
    if (states != nullptr) {
      put_slot(states, slot, state, tile.rows, shape);
    } else {
      join_slot(shared, state, is_first);
    }
    is_first = false;
  }
  if (threadIdx.x >= kWarp || states != nullptr) return;
#pragma unroll
  for (int r = 0; r < G::kRows; ++r) {
    float sum[G::kDims] = {};
    if (!is_first) load_floats<G::kDims>(&shared.sum[r][threadIdx.x * G::kDims], sum);
    store_row<G>(out, r, is_first ? 0.0f : shared.weight[r], sum, tile, shape);
  }
}

// Warp r joins the slots of row r.
template <class G, typename T>
__global__ void __launch_bounds__(G::kRows* kWarp)
    join_slots_kernel(Rows<T> out, float* states, const int* seq_lens, const int* query_start,
                      Shape shape) {
  const Tile tile = find_tile(query_start, seq_lens, shape);
  const int r = threadIdx.x / kWarp, dim = (threadIdx.x % kWarp) * G::kDims;
  if (r >= tile.rows) return;
  float max = -INFINITY, weight = 0.0f, sum[G::kDims] = {};
  for (int slot = 0; slot < kSlots; ++slot) {
    if (!tile.has_keys(slot)) continue;
    const float* row = state_row(states, slot, r, shape);
    float other[G::kDims] = {};
#pragma unroll
    for (int i = 0; i < G::kDims; ++i) {
      if (dim + i < shape.head_dim) other[i] = row[2 + dim + i];
    }
    merge_row<G::kDims>(max, weight, sum, row[0], row[1], other);
  }
  store_row<G>(out, r, weight, sum, tile, shape);
}

// The grid of a step, which its shapes alone decide.
struct Grid {
  std::int64_t tiles;
  std::int64_t heads;
  std::int64_t splits;
};

// As many splits as keep a GPU busy (about four blocks for each of 132 multiprocessors) and as there
// can be chunks. They do not change the results.
Grid grid_for(const Shape& shape, std::int64_t tokens) {
  constexpr std::int64_t kEnoughBlocks = 512;
  Grid grid{tokens / shape.tokens_per_block + shape.sequences,
            shape.kv_heads * divide_up(shape.group, shape.heads_per_block), 1};
  const std::int64_t chunks = divide_up(shape.max_blocks * shape.block_size, kChunk);
  while (grid.splits < kSlots && grid.splits < chunks &&
         grid.tiles * grid.heads * grid.splits * 2 <= kEnoughBlocks) {
    grid.splits *= 2;
  }
  return grid;
}

template <class G, typename T, typename C>
cudaError_t launch(const AttentionTensors& tensors, const Shape& shape, std::int64_t tokens,
                   cudaStream_t stream) {
  const Grid sizes = grid_for(shape, tokens);
  dim3 grid(static_cast<unsigned>(sizes.tiles), static_cast<unsigned>(sizes.heads),
            static_cast<unsigned>(sizes.splits));
  float* const states = sizes.splits > 1 ? tensors.states : nullptr;
  const auto out = rows_of<T>(tensors.out, tensors.out_stride);
  VLLM_CUDA_LAUNCH((paged_attention_kernel<G, T, C>), grid, dim3(G::kWarps * kWarp), stream, out,
                   rows_of<const T>(tensors.q, tensors.q_stride),
                   static_cast<const C*>(tensors.k_cache), static_cast<const C*>(tensors.v_cache),
                   tensors.block_tables, tensors.seq_lens, tensors.query_start, states, shape);
  if (states == nullptr) return cudaGetLastError();
  grid.z = 1;
  VLLM_CUDA_LAUNCH((join_slots_kernel<G, T>), grid, dim3(G::kRows * kWarp), stream, out, states,
                   tensors.seq_lens, tensors.query_start, shape);
  return cudaGetLastError();
}

template <typename T, typename C>
cudaError_t launch_for_dims(const AttentionTensors& tensors, const Shape& shape, std::int64_t tokens,
                            cudaStream_t stream) {
  if (shape.head_dim <= 64) return launch<Geometry<8, 8, 2>, T, C>(tensors, shape, tokens, stream);
  if (shape.head_dim <= 128) return launch<Geometry<8, 8, 4>, T, C>(tensors, shape, tokens, stream);
  if (shape.head_dim <= 256) return launch<Geometry<8, 8, 8>, T, C>(tensors, shape, tokens, stream);
  return launch<Geometry<kWideRows, 4, 24>, T, C>(tensors, shape, tokens, stream);
}

// The cache has the activations' type; float32 activations read any cache.
template <typename T>
cudaError_t launch_for_cache(const AttentionTensors& tensors, const Shape& shape, std::int64_t tokens,
                             int dtype, int cache_dtype, cudaStream_t stream) {
  if (cache_dtype == dtype) return launch_for_dims<T, T>(tensors, shape, tokens, stream);
  if constexpr (sizeof(T) == sizeof(float)) {
    return cache_dtype == kFloat16
               ? launch_for_dims<T, __half>(tensors, shape, tokens, stream)
               : launch_for_dims<T, __nv_bfloat16>(tensors, shape, tokens, stream);
  }
  return cudaErrorInvalidValue;
}

Shape shape_of(int sequences, std::int64_t max_blocks, int q_heads, int kv_heads, int block_size,
               int head_dim) {
  Shape shape{};
  shape.sequences = sequences;
  shape.kv_heads = kv_heads;
  shape.group = q_heads / kv_heads;
  shape.set_rows(head_dim <= kMaxHeadDim ? 8 : kWideRows);
  shape.block_size = block_size;
  shape.head_dim = head_dim;
  shape.max_blocks = max_blocks;
  return shape;
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" std::int64_t vllm_cuda_attention_scratch(std::int64_t tokens, int sequences,
                                                    std::int64_t max_blocks, int q_heads,
                                                    int kv_heads, int block_size, int head_dim) {
  if (tokens == 0 || sequences == 0) return 0;
  const Shape shape = shape_of(sequences, max_blocks, q_heads, kv_heads, block_size, head_dim);
  const Grid grid = grid_for(shape, tokens);
  return grid.splits == 1 ? 0 : grid.tiles * grid.heads * kSlots * shape.block_rows * (2 + head_dim);
}

extern "C" cudaError_t vllm_cuda_paged_attention(
    void* out, std::int64_t out_stride, const void* q, std::int64_t q_stride, const void* k_cache,
    const void* v_cache, const std::int32_t* block_tables, const std::int32_t* seq_lens,
    const std::int32_t* query_start, float* scratch, std::int64_t tokens, int sequences,
    std::int64_t max_blocks, int q_heads, int kv_heads, int block_size, int head_dim, float scale,
    int window, float soft_cap, int dtype, int cache_dtype, cudaStream_t stream) {
  if (tokens == 0 || sequences == 0) return cudaSuccess;
  if (!takes_head_dim(head_dim)) return cudaErrorInvalidValue;
  Shape shape = shape_of(sequences, max_blocks, q_heads, kv_heads, block_size, head_dim);
  shape.scale = scale;
  shape.window = window;
  shape.soft_cap = soft_cap;
  shape.min_queries = 1;
  shape.max_queries = INT_MAX;
  const AttentionTensors tensors{out,         q,          k_cache,  v_cache, block_tables, seq_lens,
                        query_start, out_stride, q_stride, scratch};
  if (tokens >= kPromptTokens && takes_prompts(tensors, shape, dtype, cache_dtype)) {
    shape.min_queries = kPromptTokens;
    const cudaError_t error = launch_prompts(tensors, shape, tokens, dtype, stream);
    if (error != cudaSuccess || sequences == 1) return error;
    shape.min_queries = 1;
    shape.max_queries = kPromptTokens - 1;
  }
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch_for_cache<T>(tensors, shape, tokens, dtype, cache_dtype, stream);
  });
}
