// SPDX-License-Identifier: Apache-2.0

#include "cpu/ggml_blocks.h"

namespace vllm_kernels::ops {
namespace {

void read_nibbles(uint8_t* q, const uint8_t* bytes) {
  for (int64_t c = 0; c < 16; ++c) {
    q[c] = bytes[c] & 15;
    q[c + 16] = bytes[c] >> 4;
  }
}

void read_q5(uint8_t* q, const uint8_t* bits, const uint8_t* nibbles) {
  read_nibbles(q, nibbles);
  for (int64_t c = 0; c < kBlock; ++c)
    q[c] = static_cast<uint8_t>(q[c] | ((bits[c / 8] >> (c % 8)) & 1) << 4);
}

// Runs 2 i and 2 i + 1 are the low and the high halves of 32 bytes.
void read_k_nibbles(uint8_t* q, const uint8_t* nibbles, int64_t run) {
  const uint8_t* bytes = nibbles + run / 2 * kBlock;
  for (int64_t c = 0; c < kBlock; ++c) q[c] = run % 2 ? bytes[c] >> 4 : bytes[c] & 15;
}

// Q6_K, per half of 128 columns: 64 bytes of low bits, of which runs 0 and 1 are the low halves and
// runs 2 and 3 the high ones, and 32 bytes with two bits for each of the four runs.
void read_q6_k(uint8_t* q, const uint8_t* block, int64_t run) {
  const int64_t half = run / 4, part = run % 4;
  const uint8_t* low = block + half * 64 + part % 2 * kBlock;
  const uint8_t* high = block + 128 + half * kBlock;
  for (int64_t c = 0; c < kBlock; ++c) {
    const int nibble = part < 2 ? low[c] & 15 : low[c] >> 4;
    q[c] = static_cast<uint8_t>(nibble | ((high[c] >> (2 * part)) & 3) << 4);
  }
}

}  // namespace

uint16_t block_scale(const uint8_t* block, int64_t qtype) {
  return load_u16(block + (qtype == kQ6_K ? 208 : 0));
}

uint16_t block_minimum(const uint8_t* block, int64_t qtype) {
  return block_format(qtype).has_min ? load_u16(block + 2) : 0;
}

void read_quants(uint8_t q[kBlock], const uint8_t* block, int64_t qtype, int64_t run) {
  switch (qtype) {
    case kQ4_0: return read_nibbles(q, block + 2);
    case kQ4_1: return read_nibbles(q, block + 4);
    case kQ5_0: return read_q5(q, block + 2, block + 6);
    case kQ5_1: return read_q5(q, block + 4, block + 8);
    case kQ4_K: return read_k_nibbles(q, block + 16, run);
    case kQ6_K: return read_q6_k(q, block, run);
    case kQ5_K:
      read_k_nibbles(q, block + 48, run);
      for (int64_t c = 0; c < kBlock; ++c)
        q[c] = static_cast<uint8_t>(q[c] | ((block[16 + c] >> run) & 1) << 4);
      return;
    default:
      for (int64_t c = 0; c < kBlock; ++c) q[c] = block[2 + c] ^ 0x80u;
  }
}

// Q4_K and Q5_K: bytes 0-3 hold s and bytes 4-7 m of runs 0-3 in their low six bits; bytes 8-11 the low
// four bits of s and m of runs 4-7, whose upper two are the upper two of bytes 0-3 and 4-7.
RunScales read_scales(const uint8_t* block, int64_t qtype, int64_t run) {
  if (qtype == kQ6_K) return {block[192 + 2 * run], block[192 + 2 * run + 1]};
  const uint8_t* bytes = block + 4;
  if (run < 4)
    return {static_cast<uint8_t>(bytes[run] & 63), static_cast<uint8_t>(bytes[run + 4] & 63)};
  return {static_cast<uint8_t>((bytes[run + 4] & 15) | bytes[run - 4] >> 6 << 4),
          static_cast<uint8_t>(bytes[run + 4] >> 4 | bytes[run] >> 6 << 4)};
}

void dequantize_run(float out[kBlock], const uint8_t* block, int64_t qtype, int64_t run) {
  const BlockFormat format = block_format(qtype);
  const float d = f16_to_f32(block_scale(block, qtype));
  const float m = f16_to_f32(block_minimum(block, qtype));
  const float middle = static_cast<float>(1 << (format.bits - 1));
  float scale[2] = {d, d}, minimum[2] = {m, m};
  if (format.columns == 256) {
    const RunScales s = read_scales(block, qtype, run);
    const bool halves = qtype == kQ6_K;
    scale[0] = d * (halves ? static_cast<int8_t>(s.first) : s.first);
    scale[1] = halves ? d * static_cast<int8_t>(s.second) : scale[0];
    minimum[0] = minimum[1] = -m * s.second;
  }
  uint8_t q[kBlock];
  read_quants(q, block, qtype, run);
  for (int64_t c = 0; c < kBlock; ++c) {
    const float s = scale[c / 16];
    out[c] = format.has_min ? s * q[c] + minimum[c / 16] : s * (static_cast<float>(q[c]) - middle);
  }
}

}  // namespace vllm_kernels::ops
