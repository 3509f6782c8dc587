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

// out[m, n] = x[m, k] . weight[n, k]^T + bias[n]. Kernels with strips read those, the others x.
struct LinearArgs {
  Rows out;
  ConstRows x;
  const uint8_t* weight;  // in tiles, as formats.h describes
  DType dtype;            // of weight
  const float* bias;      // [n] or null
  int64_t m, n, k;
  const float* strips;  // strip of rows m..: strips + m * strip_words(dtype, k); set by the op
};

// How a block of 32 activations is written as 8-bit digits, h and l. `Shared` is for weights of 4 bits:
// a byte of theirs, b = w + 16 v, holds columns c and 16 + c, so that one product b * l is w * l + v * 16 l,
// the low digits of both columns. That each gets 4 more bits than h alone has is a matter of choosing l:
// its lower 4 bits bring column 16 + c to the nearest step, its upper 4 then column c, and h takes
// what is left. Sums of products over a block are below 2^24, so that f32 holds them exactly.
enum class DigitForm {
  kOne,     // 32 x h:          x = scale * h               scale = max|x| / 127
  kTwo,     // 32 x h, 32 x l:  x = scale * (256 h + l)     scale = max|x| / 127 / 256, |l| <= 127
  kShared,  // 32 x h, 16 x l:  x = scale * (256 h + l)     in columns 0 to 15
            //                  x = scale * (256 h + 16 l)  in columns 16 to 31
            //                  scale = max|x| / 119 / 256, steps of 16 scale; |h| <= 127
};

static constexpr DigitForm fine_form(int64_t qtype) {
  return block_format(qtype).bits == 4 ? DigitForm::kShared : DigitForm::kTwo;
}

// Bytes of a block; of kShared's, 16 are unused.
static constexpr int64_t digit_bytes(DigitForm form) {
  return form == DigitForm::kOne ? kBlock : 2 * kBlock;
}

// Steps up to max|x|, to the nearest of which the quantizer rounds first (kTwo: steps of the high digit),
// and units of the scale in one.
static constexpr float most_steps(DigitForm form) {
  return form == DigitForm::kShared ? 119.0f * 16.0f : 127.0f;
}
static constexpr float step_units(DigitForm form) {
  return form == DigitForm::kOne ? 1.0f : form == DigitForm::kTwo ? 256.0f : 16.0f;
}

// Activations of one or several rows as integers. `sum` and `half_sum` are of what the digits stand for.
struct Digits {
  int8_t* digits;   // [m, k / 32, bytes of the form]
  float* scale;     // [k / 32, rows]: what kernels of several rows want of a block lies side by side
  float* sum;       // [k / 32, rows]
  float* half_sum;  // [k / 32, rows]: of the first 16 columns; only in kTwo
  int64_t rows;     // at least m
};

// out[m, n] = x[m, k] . packed^T, packed as formats.h describes. Kernels with quantized activations
// read `one` and `fine`, as far as there are columns for them, the others x.
struct QuantLinearArgs {
  Rows out;
  ConstRows x;
  const uint8_t* packed;
  const float* bias;  // [n] or nullptr; added by the op, not by the table's kernels
  int64_t qtype;
  int64_t m, n, k;
  int64_t coarse;  // rows of packed before this one see one digit of x; a multiple of 16, or n
  Digits one;      // in the form kOne
  Digits fine;     // in the form that belongs to qtype
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

  // Rows (query tokens x query heads of a KV head) that are computed together at best.
  int64_t attention_rows;
  // Whether this table's attention takes heads of this size; if not, the scalar one does.
  bool (*attention_takes)(int64_t head_dim);
  // scratch: f32 x (largest position of the items + 1), for the kernels that ask for it.
  bool attention_needs_scratch;
  void (*attention)(const AttentionArgs& args, const AttentionItem* items, int64_t count,
                    float* scratch);

  // Rows of x that the dense linear layer computes together; 0: it reads x as it is.
  int64_t strip_rows;
  // 32-bit words of a row of x in a strip.
  int64_t (*strip_words)(DType dtype, int64_t k);
  // `rows` rows of x, strip_rows at most, side by side: word i of row r becomes dst[i * rows + r]. A
  // word is an f32 or, for weights in bf16 where the CPU multiplies those, a pair of bf16.
  void (*make_strip)(float* dst, ConstRows x, int64_t rows, int64_t k, DType dtype);
  // Tiles t0..t1 (32 columns of out each) of rows m0..m1; m0 is a multiple of strip_rows.
  void (*linear)(const LinearArgs& args, int64_t t0, int64_t t1, int64_t m0, int64_t m1);

  // One row of x into the first row of `out`; null where quant_linear wants no quantized activations.
  // 8 bits alone put 3.3 % of noise on SmolLM2's logits, more of them 0.02 to 0.23 %; where one digit
  // does is told per weight (vllm/quantization/digits.py).
  void (*quantize_row)(const Digits& out, DigitForm form, const float* x, int64_t k);
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
