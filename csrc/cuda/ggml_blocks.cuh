// SPDX-License-Identifier: Apache-2.0
//
// Owns: single weights of GGUF blocks as they lie in the file (layouts in include/formats.h). Must not
// know: repacked weights.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "formats.h"

namespace vllm_kernels::cuda {

template <int Q>
struct Block {
  static constexpr int kColumns = static_cast<int>(block_format(Q).columns);
  static constexpr int kBytes = static_cast<int>(block_format(Q).bytes);
};

__device__ inline float load_half(const std::uint8_t* from) {
  const unsigned short bits = static_cast<unsigned short>(from[0] | from[1] << 8);
  __half value;
  memcpy(&value, &bits, sizeof(value));
  return __half2float(value);
}

// The nibble of column `column` of a block of 32.
__device__ inline int nibble(const std::uint8_t* bytes, int column) {
  return bytes[column % 16] >> (column / 16 * 4) & 15;
}

__device__ inline int fifth_bit(const std::uint8_t* bits, int column) {
  return (bits[column / 8] >> (column % 8) & 1) << 4;
}

// Of blocks of 256: runs 2 i and 2 i + 1 of 32 columns are the halves of the same bytes.
__device__ inline int wide_nibble(const std::uint8_t* bytes, int column) {
  return bytes[column / 64 * 32 + column % 32] >> (column / 32 % 2 * 4) & 15;
}

// Six bits each of a run's scale and minimum, in 12 bytes for 8 runs.
struct RunSteps {
  int scale, minimum;
};
__device__ inline RunSteps run_steps(const std::uint8_t* bytes, int run) {
  if (run < 4) return {bytes[run] & 63, bytes[run + 4] & 63};
  return {(bytes[run + 4] & 15) | bytes[run - 4] >> 6 << 4,
          bytes[run + 4] >> 4 | bytes[run] >> 6 << 4};
}

__device__ inline float wide_weight(const std::uint8_t* block, int column, int quant) {
  const RunSteps steps = run_steps(block + 4, column / 32);
  return load_half(block) * steps.scale * quant - load_half(block + 2) * steps.minimum;
}

__device__ inline float q6_weight(const std::uint8_t* block, int column) {
  const int half = column / 128, part = column / 32 % 4;
  const int low = block[half * 64 + part % 2 * 32 + column % 32] >> (part / 2 * 4) & 15;
  const int high = block[128 + half * 32 + column % 32] >> (2 * part) & 3;
  const int step = static_cast<signed char>(block[192 + column / 16]);
  return load_half(block + 208) * step * ((low | high << 4) - 32);
}

// Column `column` of a block.
template <int Q>
__device__ float block_weight(const std::uint8_t* block, int column) {
  if constexpr (Q == kQ4_0) return load_half(block) * (nibble(block + 2, column) - 8);
  if constexpr (Q == kQ4_1) {
    return load_half(block) * nibble(block + 4, column) + load_half(block + 2);
  }
  if constexpr (Q == kQ5_0) {
    return load_half(block) * ((nibble(block + 6, column) | fifth_bit(block + 2, column)) - 16);
  }
  if constexpr (Q == kQ5_1) {
    const int quant = nibble(block + 8, column) | fifth_bit(block + 4, column);
    return load_half(block) * quant + load_half(block + 2);
  }
  if constexpr (Q == kQ8_0) return load_half(block) * static_cast<signed char>(block[2 + column]);
  if constexpr (Q == kQ4_K) return wide_weight(block, column, wide_nibble(block + 16, column));
  if constexpr (Q == kQ5_K) {
    const int fifth = (block[16 + column % 32] >> (column / 32) & 1) << 4;
    return wide_weight(block, column, wide_nibble(block + 48, column) | fifth);
  }
  return q6_weight(block, column);
}

}  // namespace vllm_kernels::cuda
