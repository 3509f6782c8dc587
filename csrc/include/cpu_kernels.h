// SPDX-License-Identifier: Apache-2.0

// The table of CPU kernels: one entry per inner loop, one table per ISA. Owns the calling
// convention between the ops (cpu/*.cpp, compiled for any CPU) and the kernels
// (cpu/{scalar,avx2,avx512,amx}); knows no thread and no framework. A kernel works on the range it is
// given, in the calling thread, and allocates nothing. Sizes and strides count elements.

#pragma once

#include "formats.h"

namespace vllm_kernels {

// Rows of f32: row i starts at data + i * stride.
struct Rows {
  float* data;
  int64_t stride;
  float* row(int64_t i) const { return data + i * stride; }
};

struct ConstRows {
  const float* data;
  int64_t stride;
  const float* row(int64_t i) const { return data + i * stride; }
};

// out[m, n] = x[m, k] . weight[n, k]^T + bias[n]
struct LinearArgs {
  Rows out;
  ConstRows x;
  const void* weight;  // [n, k], contiguous
  DType dtype;         // of weight
  const float* bias;   // [n] or null
  int64_t m, n, k;
};

// Activations of one or several rows as integers, per block of 32 columns. With high =
// round(x / (max|x| / 127)) and low the rest in units of scale = max|x| / 127 / 256, from -127 to 127:
//   x = scale * (256 high + low)      two digits
//   x = 256 * scale * high            one digit
struct Digits {
  int8_t* digits;   // [m, k / 32, 2, 32]: 32 x high, then 32 x low
  float* scale;     // [k / 32, rows]: what kernels of several rows want of a block lies side by side
  float* sum;       // [k / 32, rows]: of the block's x as two digits
  float* half_sum;  // [k / 32, rows]: the same of the first 16 columns
  float* high_sum;  // [k / 32, rows]: of the block's x as one digit
  int64_t rows;     // at least m
};

// out[m, n] = x[m, k] . packed^T, packed as formats.h describes. Kernels with quantized activations
// read xq, the others x.
struct QuantLinearArgs {
  Rows out;
  ConstRows x;
  Digits xq;
  const uint8_t* packed;
  const float* bias;  // [n] or nullptr; added by the op, not by the table's kernels
  int64_t qtype;
  int64_t m, n, k;
  int64_t coarse;  // rows of packed before this one see one digit of x; a multiple of 16, or n
};

// One piece of attention: `tokens` consecutive query tokens of one sequence against one KV head.
struct AttentionItem {
  int64_t sequence;
  int64_t token;  // row of q and out
  int64_t tokens;
  int64_t position;  // of the first token in its sequence
  int64_t kv_head;
};

struct AttentionArgs {
  Rows out;             // [tokens, q_heads * head_dim]
  ConstRows q;          // the same shape
  const void* k_cache;  // [blocks, kv_heads, block_size, head_dim]
  const void* v_cache;
  DType dtype;                  // of both caches
  const int32_t* block_tables;  // [sequences, max_blocks]
  int64_t max_blocks;
  int64_t q_heads, kv_heads, block_size, head_dim;
  float scale;
  int64_t window;   // keys that a token sees, itself included; 0: all before it
  float soft_cap;   // scores s become soft_cap * tanh(s / soft_cap); 0: off

  // The first position that the token at `position` sees.
  int64_t first_visible(int64_t position) const {
    return window > 0 && position >= window ? position - window + 1 : 0;
  }
};

struct KernelTable {
  const char* isa;

  // rms_norm: out = x / sqrt(mean(x^2) + eps) * weight, row by row.
  void (*rms_norm)(Rows out, ConstRows x, const float* weight, int64_t rows, int64_t hidden,
                   float eps);
  // residual += x; x = rms_norm(residual).
  void (*fused_add_rms_norm)(Rows x, Rows residual, const float* weight, int64_t rows,
                             int64_t hidden, float eps);
  // Rotates the first rot_dim elements of every head; cos_sin [max_position, rot_dim] = cos | sin.
  void (*rotary)(Rows x, int64_t heads, int64_t head_dim, const int64_t* positions, int64_t rows,
                 const float* cos_sin, int64_t rot_dim, bool is_neox);
  // out[i] = silu(x[i]) * x[inner + i].
  void (*silu_and_mul)(Rows out, ConstRows x, int64_t rows, int64_t inner);
  // out[i] = gelu(x[i]) * x[inner + i], gelu by its tanh formula.
  void (*gelu_tanh_and_mul)(Rows out, ConstRows x, int64_t rows, int64_t inner);
  // x = cap * tanh(x / cap).
  void (*soft_cap)(Rows x, int64_t rows, int64_t width, float cap);
  // dst = src rounded to dtype.
  void (*store_row)(void* dst, DType dtype, const float* src, int64_t n);
  // dst = src widened to f32.
  void (*load_row)(float* dst, const void* src, DType dtype, int64_t n);

  // Query tokens of one AttentionItem at most.
  int64_t attention_tokens;
  // Whether this table's attention takes heads of this size; if not, the scalar one does.
  bool (*attention_takes)(int64_t head_dim);
  // scratch: f32 x (largest position of the item + 1), for the kernels that ask for it.
  bool attention_needs_scratch;
  void (*attention)(const AttentionArgs& args, const AttentionItem& item, float* scratch);

  // Columns n0..n1 of rows m0..m1.
  void (*linear)(const LinearArgs& args, int64_t n0, int64_t n1, int64_t m0, int64_t m1);

  // Whether quant_linear wants quantized activations.
  bool quantizes_activations;
  // One row of x into the first rows of `out`.
  // 8 bits alone put 3.3 % of noise on SmolLM2's logits, two digits 0.02 %; where one digit does is
  // told per weight (vllm/quantization/digits.py). A second digit costs arithmetic and no memory, so a
  // single sequence, bound by the read of the weights, takes as long.
  void (*quantize_row)(const Digits& out, const float* x, int64_t k);
  // Row groups g0..g1 (16 columns of out each) of rows m0..m1.
  void (*quant_linear)(const QuantLinearArgs& args, int64_t g0, int64_t g1, int64_t m0, int64_t m1);

  // Index of the largest element, the first one of several; NaN never wins; 0 if all are NaN.
  int64_t (*argmax)(const float* x, int64_t n);
  // Sum in any order: not finite where an element is not, or where the sum overflows.
  float (*total)(const float* x, int64_t n);
  // dst[i] = exp((x[i] - max) * scale); returns the sum, 0 for NaN elements.
  double (*exp_row)(float* dst, const float* x, int64_t n, float max, float scale);
  // The same sum without the store.
  double (*exp_sum)(const float* x, int64_t n, float max, float scale);
  // Index of the first element from `begin` on that is above value, n if there is none.
  int64_t (*next_above)(const float* x, int64_t begin, int64_t n, float value);
  // Number of elements above value.
  int64_t (*count_above)(const float* x, int64_t n, float value);
};

namespace scalar {
const KernelTable& kernel_table();
}
namespace avx2 {
const KernelTable& kernel_table();
}
namespace avx512 {
const KernelTable& kernel_table();
}

}  // namespace vllm_kernels
