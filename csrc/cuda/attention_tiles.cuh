// SPDX-License-Identifier: Apache-2.0
//
// Owns: which queries a block of paged attention takes, which keys they see and where those lie. Must
// not know: what is done with them.
#pragma once

#include <cstdint>

#include "reduce.cuh"

namespace vllm_kernels::cuda {

constexpr int kTile = kWarp;  // keys per step of a warp: one per lane
constexpr int kKeyPiece = 8;  // head_dim is a multiple of this
constexpr int kChunk = 512;   // keys of a slot in a row
constexpr int kSlots = 16;

struct Shape {
  int sequences;
  int kv_heads;
  int group;            // query heads per KV head
  int block_rows;       // at most
  int heads_per_block;  // h
  int tokens_per_block;  // t
  int block_size;
  int head_dim;
  std::int64_t max_blocks;
  float scale;
  int window;      // keys that a token sees, itself included; 0: all before it
  float soft_cap;  // 0: none
  int min_queries;  // sequences with fewer tokens in this step, or more, are left out
  int max_queries;

  // Blocks of at most so many rows.
  void set_rows(int rows) {
    block_rows = rows;
    heads_per_block = group < rows ? group : rows;
    tokens_per_block = rows / heads_per_block;
  }
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
  int first;    // first key that the first token sees

  // Whether row r sees a key, where `heads` rows are a token.
  __device__ bool sees(int r, int key, int heads, int window) const {
    const int end = visible + r / heads;
    return key < end && (window == 0 || key >= end - window);
  }

  // The first chunk of a slot with visible keys, if it is one: chunk c belongs to slot c mod kSlots.
  __device__ int first_chunk(int slot) const {
    const int chunk = first / kChunk;
    return chunk + (slot - chunk % kSlots + kSlots) % kSlots;
  }
  __device__ bool has_keys(int slot) const { return first_chunk(slot) * kChunk < keys; }
};

// Sequence b owns the tiles from here to first_tile(b + 1): floor((s + n) / t) + 1 - floor(s / t)
// >= ceil(n / t) of them, enough for its n tokens that start at s. The surplus finds no tokens.
__device__ inline int first_tile(const int* query_start, int sequence, int tokens_per_block) {
  return query_start[sequence] / tokens_per_block + sequence;
}

// The last sequence whose first tile is at or before `tile`, by bisection.
__device__ inline int find_sequence(const int* query_start, int tile, const Shape& shape) {
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
__device__ inline Tile find_tile(const int* query_start, const int* seq_lens, const Shape& shape) {
  Tile tile;
  tile.sequence = find_sequence(query_start, blockIdx.x, shape);
  const int begin = query_start[tile.sequence];
  const int end = query_start[tile.sequence + 1];
  const int local = static_cast<int>(blockIdx.x) -
                    first_tile(query_start, tile.sequence, shape.tokens_per_block);
  tile.token = begin + local * shape.tokens_per_block;
  const bool taken = end - begin >= shape.min_queries && end - begin <= shape.max_queries;
  const int tokens = taken ? max(0, min(shape.tokens_per_block, end - tile.token)) : 0;
  tile.rows = tokens * shape.heads_per_block;
  const int splits = gridDim.y / shape.kv_heads;
  tile.kv_head = blockIdx.y / splits;
  tile.head = tile.kv_head * shape.group + (blockIdx.y % splits) * shape.heads_per_block;
  tile.head_end = (tile.kv_head + 1) * shape.group;
  tile.visible = seq_lens[tile.sequence] - (end - tile.token) + 1;
  tile.keys = tile.visible + tokens - 1;
  tile.first = shape.window == 0 ? 0 : max(0, tile.visible - shape.window);
  return tile;
}

// Offset of the row of key (or value) `key` in the cache
// [num_blocks, kv_heads, block_size, head_dim].
__device__ inline std::int64_t cache_offset(const int* block_table, int key, int kv_head,
                                     const Shape& shape) {
  const std::int64_t block = block_table[key / shape.block_size];
  const std::int64_t row = (block * shape.kv_heads + kv_head) * shape.block_size +
                           key % shape.block_size;
  return row * shape.head_dim;
}

}  // namespace vllm_kernels::cuda
