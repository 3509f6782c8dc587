// SPDX-License-Identifier: Apache-2.0

// The CPU ops as functions of pointers and sizes: what bindings call. Owns the split of each op
// over threads and its scratch memory; knows no framework. Arguments have been checked by the
// caller.

#pragma once

#include "cpu_kernels.h"

namespace vllm_kernels::ops {

void rms_norm(Rows out, ConstRows x, const float* weight, int64_t rows, int64_t hidden, float eps);
void fused_add_rms_norm(Rows x, Rows residual, const float* weight, int64_t rows, int64_t hidden,
                        float eps);

struct Rotary {
  const int64_t* positions;  // [rows]
  int64_t rows, head_dim;
  const float* cos_sin;  // [max_position, rot_dim]
  int64_t rot_dim;
  bool is_neox;
};
void rotary_embedding(const Rotary& args, Rows q, int64_t q_heads, Rows k, int64_t k_heads);

void silu_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner);
void gelu_tanh_and_mul(Rows out, ConstRows x, int64_t rows, int64_t inner);
void soft_cap(Rows x, int64_t rows, int64_t width, float cap);
// x *= factor.
void scale(Rows x, int64_t rows, int64_t width, float factor);

// `heads` pieces of `width` elements in each row, each kind at its own distances; a distance of 0
// between the pieces of x repeats one piece.
struct CopyHeads {
  float* out;
  const float* x;
  int64_t rows, heads, width;
  int64_t out_row, out_head, x_row, x_head;
};
void copy_heads(const CopyHeads& args);

struct KvWrite {
  void* k_cache;  // [blocks, kv_heads, block_size, head_dim]
  void* v_cache;
  DType dtype;
  int64_t kv_heads, block_size, head_dim;
};
// slot = block * block_size + offset; a negative slot is skipped.
void kv_write(const KvWrite& args, ConstRows k, ConstRows v, const int64_t* slots, int64_t rows);

// seq_lens [sequences], query_start [sequences + 1].
void paged_attention(const AttentionArgs& args, const int32_t* seq_lens, const int32_t* query_start,
                     int64_t sequences);

// Dense weights [n, k] -> rows row..row + n of a matrix in tiles. Other rows stay as they are.
void linear_pack(uint8_t* packed, const uint8_t* weight, DType dtype, int64_t row, int64_t n,
                 int64_t k);
void linear(LinearArgs args);

// GGUF rows -> interleaved tiles. Throws std::runtime_error on a scale that the layout can't hold.
void quant_repack(uint8_t* packed, const uint8_t* raw, int64_t qtype, int64_t n, int64_t k);
void quant_linear(QuantLinearArgs args);
// GGUF blocks -> f32, `runs` times 32 columns.
void dequantize(float* out, const uint8_t* raw, int64_t qtype, int64_t runs);
// Rows `ids` of a table of GGUF blocks / of a dense table.
void embedding_quantized(float* out, const int64_t* ids, int64_t rows, const uint8_t* raw,
                         int64_t qtype, int64_t hidden);
void embedding_dense(float* out, const int64_t* ids, int64_t rows, const void* table, DType dtype,
                     int64_t hidden);

// Which experts a token goes to. Scores are the softmax of the logits or their sigmoid; a bias
// counts for the choice only. With more than one group, a group is as good as the sum of its
// `group_best` best choices, and the experts of all but the `top_groups` best are out.
struct Routing {
  const float* bias;  // [experts] or null
  bool sigmoid;
  int64_t experts, top, groups, top_groups, group_best;
  bool renormalize;  // weights add up to 1 before the factor
  float factor;
};
// ids and weights [rows, top], the best first, the lower id first among equals.
void route_experts(int32_t* ids, float* weights, const Routing& args, ConstRows logits,
                   int64_t rows);

// One matrix [n, k] of every expert, `stride` bytes apart, as linear or quant_linear reads it.
struct ExpertMatrices {
  const uint8_t* data;
  int64_t stride;
  bool quantized;
  DType dtype;    // where dense
  int64_t qtype;  // where quantized
  int64_t n, k;
  const uint8_t* of(int64_t expert) const { return data + expert * stride; }
};

// out[t] = addend[t] + sum over j of weights[t, j] * down(silu(gate(x[t])) * up(x[t])) of expert
// ids[t, j]. out may be x.
struct Experts {
  Rows out;
  ConstRows x;
  const float* addend;  // rows `addend_stride` apart, or null
  int64_t addend_stride;
  const int32_t* ids;    // [rows, top]
  const float* weights;  // [rows, top]
  int64_t rows, top, experts;
  ExpertMatrices gate_up, down;  // [2 inner, hidden] and [hidden, inner]
};
void fused_experts(const Experts& args);

// One token of each request i, which is the one at position num_computed[i] (counted up) of row
// rows[i]; rows[i] below 0 is nobody's: it writes nowhere and reads one token.
struct DecodeInputs {
  int64_t *token_ids, *positions, *slots;  // [requests]
  int32_t *seq_lens, *starts;              // [requests] and [requests + 1]
  int32_t* block_tables;                   // [requests, blocks], written as far as it is read
  int64_t* num_computed;                   // [requests]
  const int64_t* rows;                     // [requests]
  const int32_t *row_tokens, *row_blocks;  // [row_count, row_width] and [row_count, blocks]
  int64_t requests, row_count, row_width, blocks, block_size;
};
void fill_decode_inputs(const DecodeInputs& args);

// row_tokens[rows[i], positions[i]] = token_ids[i], unless rows[i] is below 0.
struct AppendTokens {
  int32_t* row_tokens;  // [row_count, row_width]
  const int64_t* rows;
  const int32_t* positions;
  const int64_t* token_ids;
  int64_t requests, row_count, row_width;
};
void append_tokens(const AppendTokens& args);

void argmax(int64_t* out, ConstRows logits, int64_t rows, int64_t vocab);
// The same, and whether there may be NaN (*suspect is 1 or 0): in hidden states [rows, hidden_size] or
// in a column of the logits.
struct Greedy {
  int64_t* out;
  int64_t* suspect;
  ConstRows hidden;
  ConstRows logits;
  int64_t rows, hidden_size, vocab;
};
void choose_greedy(const Greedy& args);

// logits[rows[i], ids[i]] += bias[i].
void apply_logit_bias(Rows logits, const int64_t* rows, const int64_t* ids, const float* bias,
                      int64_t entries);

// Entries row_offsets[r] .. row_offsets[r + 1] belong to row r; ids are distinct within a row.
struct Penalties {
  const int64_t* ids;
  const int32_t* output_counts;
  const bool* in_prompt;
  const int64_t* row_offsets;
  const float* repetition;
  const float* frequency;
  const float* presence;
};
void apply_penalties(const Penalties& args, Rows logits, int64_t rows);

// out and ranks [rows, per_row] for ids [rows, per_row]; a negative id gives NaN and rank 0.
void token_logprobs(float* out, int64_t* ranks, ConstRows logits, const int64_t* ids, int64_t rows,
                    int64_t per_row, int64_t vocab);
// The `k` most likely tokens of each row in descending order, the lower id first among equals.
void topk_logprobs(float* out, int64_t* ids, ConstRows logits, int64_t rows, int64_t k,
                   int64_t vocab);

struct Sampling {
  const float* temperature;  // [rows]; 0: greedy
  const int32_t* top_k;      // <= 0: off
  const float* top_p;        // >= 1: off
  const float* min_p;        // <= 0: off
  const double* uniform;     // in [0, 1)
};
void sample(int64_t* out, const Sampling& args, ConstRows logits, int64_t rows, int64_t vocab);

}  // namespace vllm_kernels::ops
