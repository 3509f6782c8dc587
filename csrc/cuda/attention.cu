// SPDX-License-Identifier: Apache-2.0
//
// Owns: causal attention over the paged cache, prefill and decode in one launch, with the online
// softmax of FlashAttention (Dao et al., 2022, arXiv:2205.14135; the running maximum is Milakov and
// Gimelshein, 2018, arXiv:1805.02867). Must not know: which request a sequence is, torch.
//
// A block takes kRows = 8 query rows that share one KV head: t consecutive tokens of one sequence
// times h query heads, t * h <= 8. Its 8 warps deal the keys out in tiles of 32 (warp w: tiles w,
// w + 8, ...), each keeps its own softmax state, and the states are merged at the end.
//
// Grid: x = floor(tokens / t) + sequences (an upper bound of the tiles, see first_tile), y =
// kv_heads * ceil(group / h), where group = q_heads / kv_heads. Block: 256 threads.
//
// A row's keys reach its sums in the same order whatever else is in the batch and however the
// prompt was cut: tiles beyond a row's last visible key change nothing (weights 0, correction 1).
// Results are therefore equal bit by bit between batched, chunked and single runs.
#include <cmath>

#include "dispatch.cuh"
#include "reduce.cuh"

namespace vllm_kernels::cuda {
namespace {

constexpr int kRows = 8;
constexpr int kWarps = 8;
constexpr int kTile = kWarp;  // keys per step of a warp: one per lane
constexpr int kKeyPiece = 8;  // head_dim is a multiple of this
constexpr int kValueStep = 4;

struct Shape {
  int sequences;
  int kv_heads;
  int group;            // query heads per KV head
  int heads_per_block;  // h
  int tokens_per_block;  // t
  int block_size;
  int head_dim;
  std::int64_t max_blocks;
  float scale;
};

// The query rows of one block. Row r is token `token + r / h` and query head
// `head + r % h`, if that is below `head_end`.
struct Tile {
  int sequence;
  int token;  // first row of q and out
  int rows;   // tokens here * h
  int kv_head;
  int head;
  int head_end;
  int visible;  // keys that the first token sees; token i sees i more
  int keys;     // keys that the last token sees
};

// Sequence b owns the tiles from here to first_tile(b + 1): floor((s + n) / t) + 1 - floor(s / t)
// >= ceil(n / t) of them, enough for its n tokens that start at s. The surplus finds no tokens.
__device__ int first_tile(const int* query_start, int sequence, int tokens_per_block) {
  return query_start[sequence] / tokens_per_block + sequence;
}

// The last sequence whose first tile is at or before `tile`, by bisection.
__device__ int find_sequence(const int* query_start, int tile, const Shape& shape) {
  int low = 0;
  int high = shape.sequences;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (first_tile(query_start, middle, shape.tokens_per_block) <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// rows = 0 where the block has nothing to do.
__device__ Tile find_tile(const int* query_start, const int* seq_lens, const Shape& shape) {
  Tile tile;
  tile.sequence = find_sequence(query_start, blockIdx.x, shape);
  const int begin = query_start[tile.sequence];
  const int end = query_start[tile.sequence + 1];
  const int local = static_cast<int>(blockIdx.x) -
                    first_tile(query_start, tile.sequence, shape.tokens_per_block);
  tile.token = begin + local * shape.tokens_per_block;
  const int tokens = max(0, min(shape.tokens_per_block, end - tile.token));
  tile.rows = tokens * shape.heads_per_block;
  const int splits = gridDim.y / shape.kv_heads;
  tile.kv_head = blockIdx.y / splits;
  tile.head = tile.kv_head * shape.group + (blockIdx.y % splits) * shape.heads_per_block;
  tile.head_end = (tile.kv_head + 1) * shape.group;
  tile.visible = seq_lens[tile.sequence] - (end - tile.token) + 1;
  tile.keys = tile.visible + tokens - 1;
  return tile;
}

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
__device__ float correction(float from, float to) {
  return from == -INFINITY ? 0.0f : expf(from - to);
}

template <int DIMS>
struct SharedSteps {
  float query[kRows][kWarp * DIMS];  // scaled; zero beyond the rows
  float probability[kWarps][kRows][kTile];
};

template <int DIMS>
struct SharedStates {
  float max[kWarps / 2][kRows];
  float weight[kWarps / 2][kRows];
  float sum[kWarps / 2][kRows][kWarp * DIMS];
};

// Up to head_dim 256 (DIMS = 8): 8 * 256 * 4 + 8 * 8 * 32 * 4 = 16 KiB of steps, or
// 4 * 8 * (256 + 2) * 4 = 32.25 KiB of states; the two never live together.
template <int DIMS>
union Shared {
  SharedSteps<DIMS> steps;
  SharedStates<DIMS> states;
};

template <int DIMS, typename T>
__device__ void load_query(SharedSteps<DIMS>& shared, Rows<const T> q, const Tile& tile,
                           const Shape& shape) {
  for (int i = threadIdx.x; i < kRows * shape.head_dim; i += blockDim.x) {
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

// Offset of the row of key (or value) `key` in the cache
// [num_blocks, kv_heads, block_size, head_dim].
__device__ std::int64_t cache_offset(const int* block_table, int key, int kv_head,
                                     const Shape& shape) {
  const std::int64_t block = block_table[key / shape.block_size];
  const std::int64_t row = (block * shape.kv_heads + kv_head) * shape.block_size +
                           key % shape.block_size;
  return row * shape.head_dim;
}

// score[r] = query r . key, for the lane's own key.
template <int DIMS, typename C>
__device__ void score_key(float (&score)[kRows], const SharedSteps<DIMS>& shared, const C* key,
                          int rows, int head_dim) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) score[r] = 0.0f;
  for (int dim = 0; dim < head_dim; dim += kKeyPiece) {
    float piece[kKeyPiece];
    load_floats<kKeyPiece>(key + dim, piece);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;
#pragma unroll
      for (int i = 0; i < kKeyPiece; ++i) score[r] += shared.query[r][dim + i] * piece[i];
    }
  }
}

// Takes the tile's scores into the maxima and weights; leaves exp(score - max) in `probability`.
template <int DIMS>
__device__ void update_weights(State<DIMS>& state, float (&probability)[kRows][kTile],
                               const float (&score)[kRows], int key, const Tile& tile,
                               int heads_per_block) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    if (r >= tile.rows) break;
    const bool sees = key < tile.visible + r / heads_per_block;
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

// sum[r] += probability[r] . values of the tile, four values at a time. `offset` is where the
// lane's own value starts; lanes beyond head_dim hold no dims.
template <int DIMS, typename C>
__device__ void add_values(State<DIMS>& state, const float (&probability)[kRows][kTile],
                           const C* v_cache, std::int64_t offset, int count, int rows,
                           int head_dim) {
  const int dim = (threadIdx.x % kWarp) * DIMS;
  for (int first = 0; first < count; first += kValueStep) {
    float value[kValueStep][DIMS] = {};
#pragma unroll
    for (int j = 0; j < kValueStep; ++j) {
      const std::int64_t row = __shfl_sync(kAllLanes, offset, first + j);
      if (first + j < count && dim < head_dim) load_floats<DIMS>(v_cache + row + dim, value[j]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (r >= rows) break;
      float p[kValueStep];
      load_floats<kValueStep>(&probability[r][first], p);
#pragma unroll
      for (int j = 0; j < kValueStep; ++j) {
#pragma unroll
        for (int i = 0; i < DIMS; ++i) state.sum[r][i] += p[j] * value[j][i];
      }
    }
  }
  __syncwarp();  // the next tile overwrites `probability`
}

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

template <int DIMS>
__device__ void merge_state(State<DIMS>& state, const SharedStates<DIMS>& shared, int slot) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float new_max = fmaxf(state.max[r], shared.max[slot][r]);
    const float factor = correction(shared.max[slot][r], new_max);
    state.rescale(r, correction(state.max[r], new_max));
    state.max[r] = new_max;
    state.weight[r] += factor * shared.weight[slot][r];
#pragma unroll
    for (int i = 0; i < DIMS; ++i) {
      state.sum[r][i] += factor * shared.sum[slot][r][lane * DIMS + i];
    }
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

// A row that sees no key (length 0) becomes zeros.
template <int DIMS, typename T>
__device__ void store_rows(Rows<T> out, const State<DIMS>& state, const Tile& tile,
                           const Shape& shape) {
  const int dim = (threadIdx.x % kWarp) * DIMS;
  if (dim >= shape.head_dim) return;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int head = tile.head + r % shape.heads_per_block;
    if (r >= tile.rows || head >= tile.head_end) continue;
    T* row = out.row(tile.token + r / shape.heads_per_block);
    const float scale = state.weight[r] == 0.0f ? 0.0f : 1.0f / state.weight[r];
#pragma unroll
    for (int i = 0; i < DIMS; ++i) {
      row[static_cast<std::int64_t>(head) * shape.head_dim + dim + i] =
          from_float<T>(state.sum[r][i] * scale);
    }
  }
}

// q, out: [tokens, q_heads * head_dim], rows a stride apart; caches: [num_blocks, kv_heads,
// block_size, head_dim]; block_tables: [sequences, max_blocks]; seq_lens: [sequences];
// query_start: [sequences + 1].
template <int DIMS, typename T, typename C>
__global__ void __launch_bounds__(kWarps* kWarp)
    paged_attention_kernel(Rows<T> out, Rows<const T> q, const C* k_cache, const C* v_cache,
                           const int* block_tables, const int* seq_lens, const int* query_start,
                           Shape shape) {
  __shared__ Shared<DIMS> shared;
  const Tile tile = find_tile(query_start, seq_lens, shape);
  if (tile.rows == 0) return;
  const int* block_table = block_tables + tile.sequence * shape.max_blocks;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  load_query(shared.steps, q, tile, shape);
  __syncthreads();

  State<DIMS> state;
  for (int first = warp * kTile; first < tile.keys; first += kWarps * kTile) {
    const int key = first + lane;
    const int count = min(kTile, tile.keys - first);
    const std::int64_t offset =
        lane < count ? cache_offset(block_table, key, tile.kv_head, shape) : 0;
    float score[kRows];
    score_key(score, shared.steps, k_cache + offset, lane < count ? tile.rows : 0,
              lane < count ? shape.head_dim : 0);
    update_weights(state, shared.steps.probability[warp], score, key, tile,
                   shape.heads_per_block);
    add_values(state, shared.steps.probability[warp], v_cache, offset, count, tile.rows,
               shape.head_dim);
  }
  merge_warps(state, shared.states);
  if (warp == 0) store_rows(out, state, tile, shape);
}

struct Tensors {
  void* out;
  const void* q;
  const void* k_cache;
  const void* v_cache;
  const int* block_tables;
  const int* seq_lens;
  const int* query_start;
  std::int64_t out_stride;
  std::int64_t q_stride;
};

template <int DIMS, typename T, typename C>
cudaError_t launch(const Tensors& tensors, const Shape& shape, std::int64_t tokens,
                   cudaStream_t stream) {
  const std::int64_t tiles = tokens / shape.tokens_per_block + shape.sequences;
  const std::int64_t splits = divide_up(shape.group, shape.heads_per_block);
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(shape.kv_heads * splits));
  VLLM_CUDA_LAUNCH((paged_attention_kernel<DIMS, T, C>), grid, dim3(kWarps * kWarp), stream,
                   rows_of<T>(tensors.out, tensors.out_stride),
                   rows_of<const T>(tensors.q, tensors.q_stride),
                   static_cast<const C*>(tensors.k_cache), static_cast<const C*>(tensors.v_cache),
                   tensors.block_tables, tensors.seq_lens, tensors.query_start, shape);
  return cudaGetLastError();
}

template <typename T, typename C>
cudaError_t launch_for_dims(const Tensors& tensors, const Shape& shape, std::int64_t tokens,
                            cudaStream_t stream) {
  if (shape.head_dim <= 2 * kWarp) return launch<2, T, C>(tensors, shape, tokens, stream);
  if (shape.head_dim <= 4 * kWarp) return launch<4, T, C>(tensors, shape, tokens, stream);
  return launch<8, T, C>(tensors, shape, tokens, stream);
}

// The cache has the activations' type; float32 activations read any cache.
template <typename T>
cudaError_t launch_for_cache(const Tensors& tensors, const Shape& shape, std::int64_t tokens,
                             int dtype, int cache_dtype, cudaStream_t stream) {
  if (cache_dtype == dtype) return launch_for_dims<T, T>(tensors, shape, tokens, stream);
  if constexpr (sizeof(T) == sizeof(float)) {
    return cache_dtype == kFloat16
               ? launch_for_dims<T, __half>(tensors, shape, tokens, stream)
               : launch_for_dims<T, __nv_bfloat16>(tensors, shape, tokens, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace
}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_paged_attention(
    void* out, std::int64_t out_stride, const void* q, std::int64_t q_stride, const void* k_cache,
    const void* v_cache, const std::int32_t* block_tables, const std::int32_t* seq_lens,
    const std::int32_t* query_start, std::int64_t tokens, int sequences, std::int64_t max_blocks,
    int q_heads, int kv_heads, int block_size, int head_dim, float scale, int dtype,
    int cache_dtype, cudaStream_t stream) {
  if (tokens == 0 || sequences == 0) return cudaSuccess;
  if (head_dim % kKeyPiece != 0 || head_dim > kMaxHeadDim) return cudaErrorInvalidValue;
  Shape shape{sequences, kv_heads, q_heads / kv_heads, 0, 0, block_size, head_dim, max_blocks,
              scale};
  shape.heads_per_block = shape.group < kRows ? shape.group : kRows;
  shape.tokens_per_block = kRows / shape.heads_per_block;
  const Tensors tensors{out,      q,           k_cache,    v_cache, block_tables,
                        seq_lens, query_start, out_stride, q_stride};
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch_for_cache<T>(tensors, shape, tokens, dtype, cache_dtype, stream);
  });
}
