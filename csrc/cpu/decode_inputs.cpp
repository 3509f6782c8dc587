// SPDX-License-Identifier: Apache-2.0

// What a decode step is given, from what is kept of each request by row. On one thread: a few hundred bytes per
// request, and as part of a recording it costs no call from outside.

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/ops.h"

namespace vllm_kernels::ops {
namespace {

void require_within(const char* what, int64_t i, int64_t value, int64_t limit) {
  if (value >= 0 && value < limit) return;
  throw std::runtime_error(std::string(what) + " entry " + std::to_string(i) + " is " + std::to_string(value) +
                           ", expected 0 to " + std::to_string(limit - 1));
}

void fill_nobody(const DecodeInputs& a, int64_t i) {
  a.token_ids[i] = a.positions[i] = 0;
  a.slots[i] = -1;
  a.seq_lens[i] = 1;
  a.block_tables[i * a.blocks] = 0;
}

void fill_request(const DecodeInputs& a, int64_t i) {
  const int64_t row = a.rows[i], position = a.num_computed[i]++;
  const int32_t* table = a.row_blocks + row * a.blocks;
  a.token_ids[i] = a.row_tokens[row * a.row_width + position];
  a.positions[i] = position;
  a.slots[i] = table[position / a.block_size] * a.block_size + position % a.block_size;
  a.seq_lens[i] = static_cast<int32_t>(position + 1);
  const int64_t used = position / a.block_size + 1;
  memcpy(a.block_tables + i * a.blocks, table, static_cast<size_t>(used) * sizeof(int32_t));
}

}  // namespace

void fill_decode_inputs(const DecodeInputs& a) {
  a.starts[0] = 0;
  for (int64_t i = 0; i < a.requests; ++i) {
    a.starts[i + 1] = static_cast<int32_t>(i + 1);
    if (a.rows[i] < 0) {
      fill_nobody(a, i);
      continue;
    }
    require_within("fill_decode_inputs: rows", i, a.rows[i], a.row_count);
    require_within("fill_decode_inputs: num_computed", i, a.num_computed[i],
                   std::min(a.row_width, a.blocks * a.block_size));
    fill_request(a, i);
  }
}

void append_tokens(const AppendTokens& a) {
  for (int64_t i = 0; i < a.requests; ++i) {
    if (a.rows[i] < 0) continue;
    require_within("append_tokens: rows", i, a.rows[i], a.row_count);
    require_within("append_tokens: positions", i, a.positions[i], a.row_width);
    a.row_tokens[a.rows[i] * a.row_width + a.positions[i]] = static_cast<int32_t>(a.token_ids[i]);
  }
}

}  // namespace vllm_kernels::ops
