// SPDX-License-Identifier: Apache-2.0
//
// Owns: which rows of activations a block of a matrix product takes: a piece of all of them, or of
// those that go to one expert. Must not know: the product.
#pragma once

#include <cstdint>

namespace vllm_kernels::cuda {

// Rows `first` ... first + count - 1 of the output, through matrix `matrix`.
struct RowTile {
  int matrix;
  int first;
  int count;
};

// Without `tiles`, tile i is the i-th piece of all rows, through the only matrix. Row r of the output
// belongs to row source[r] of the input, or to row r where there is no `source`.
struct RowTiles {
  int rows;
  const RowTile* tiles;
  const int* source;

  __device__ RowTile tile(int index, int piece) const {
    if (tiles != nullptr) return tiles[index];
    const int left = rows - index * piece;
    return {0, index * piece, left < piece ? left : piece};
  }
  __device__ int source_of(int row) const { return source == nullptr ? row : source[row]; }
};

}  // namespace vllm_kernels::cuda
