// SPDX-License-Identifier: Apache-2.0

// Reads GGUF blocks (layouts in formats.h) run by run of 32 columns. Knows no packed layout.

#pragma once

#include "formats.h"

namespace vllm_kernels::ops {

// The block's f16 scale, and its f16 minimum (0 where the format has none).
uint16_t block_scale(const uint8_t* block, int64_t qtype);
uint16_t block_minimum(const uint8_t* block, int64_t qtype);

// Quants of run `run` of a block as unsigned numbers; Q8_0 has 128 added.
void read_quants(uint8_t q[kBlock], const uint8_t* block, int64_t qtype, int64_t run);

// Integer scales of a run, for blocks of 256 columns: s and m, or in Q6_K the int8 s of either half.
struct RunScales {
  uint8_t first, second;
};
RunScales read_scales(const uint8_t* block, int64_t qtype, int64_t run);

// A run as f32.
void dequantize_run(float out[kBlock], const uint8_t* block, int64_t qtype, int64_t run);

}  // namespace vllm_kernels::ops
