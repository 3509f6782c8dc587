// SPDX-License-Identifier: Apache-2.0

// CPU bindings of the ops on logits.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void check_logits(const Check& check, const Tensor& logits) {
  check_f32_rows(check, logits, "logits");
  check.require(logits.size(0) == 0 || logits.size(1) > 0, "logits has shape ",
                Check::sizes_text(logits), ", expected at least one token per row");
}

void check_ids(const Check& check, const Tensor& ids, int64_t lowest, int64_t limit,
               const char* name) {
  const int64_t* id = data_of<int64_t>(ids);
  for (int64_t i = 0; i < ids.numel(); ++i)
    check.require(id[i] >= lowest && id[i] < limit, name, " entry ", i, " is ", id[i],
                  ", expected ", lowest, " to ", limit - 1);
}

void argmax(const Tensor& out, const Tensor& logits) {
  const Check check("argmax");
  refuse_recording(check);
  check_logits(check, logits);
  check_plain(check, out, "out", ScalarType::Long, {logits.size(0)});
  ops::argmax(static_cast<int64_t*>(out.mutable_data_ptr()), const_rows_of(logits), logits.size(0),
              logits.size(1));
}

void choose_greedy(const Tensor& out, const Tensor& suspect, const Tensor& hidden,
                   const Tensor& logits) {
  const Check check("choose_greedy");
  check_logits(check, logits);
  check_f32_rows(check, hidden, "hidden");
  check.shape(hidden, "hidden", {logits.size(0), -1});
  check_plain(check, out, "out", ScalarType::Long, {logits.size(0)});
  check_plain(check, suspect, "suspect", ScalarType::Long, {1});
  const ops::Greedy args{static_cast<int64_t*>(out.mutable_data_ptr()),
                         static_cast<int64_t*>(suspect.mutable_data_ptr()),
                         const_rows_of(hidden),
                         const_rows_of(logits),
                         logits.size(0),
                         hidden.size(1),
                         logits.size(1)};
  perform([args] { ops::choose_greedy(args); });
}

void apply_logit_bias(const Tensor& logits, const Tensor& rows, const Tensor& token_ids,
                      const Tensor& bias) {
  const Check check("apply_logit_bias");
  refuse_recording(check);
  check_logits(check, logits);
  check_plain(check, rows, "rows", ScalarType::Long, {-1});
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {rows.size(0)});
  check_plain(check, bias, "bias", ScalarType::Float, {rows.size(0)});
  check_ids(check, rows, 0, logits.size(0), "rows");
  check_ids(check, token_ids, 0, logits.size(1), "token_ids");
  ops::apply_logit_bias(rows_of(logits), data_of<int64_t>(rows), data_of<int64_t>(token_ids),
                        data_of<float>(bias), rows.size(0));
}

void check_offsets(const Check& check, const Tensor& offsets, int64_t entries) {
  const int64_t* o = data_of<int64_t>(offsets);
  const int64_t rows = offsets.size(0) - 1;
  check.require(o[0] == 0 && o[rows] == entries, "row_offsets goes from ", o[0], " to ", o[rows],
                ", expected 0 to ", entries, " (entries of token_ids)");
  for (int64_t r = 0; r < rows; ++r)
    check.require(o[r] <= o[r + 1], "row_offsets[", r + 1, "] is ", o[r + 1],
                  ", below the entry before it, ", o[r]);
}

void apply_penalties(const Tensor& logits, const Tensor& token_ids, const Tensor& output_counts,
                     const Tensor& in_prompt, const Tensor& row_offsets, const Tensor& repetition,
                     const Tensor& frequency, const Tensor& presence) {
  const Check check("apply_penalties");
  refuse_recording(check);
  check_logits(check, logits);
  const int64_t rows = logits.size(0);
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {-1});
  check_plain(check, output_counts, "output_counts", ScalarType::Int, {token_ids.size(0)});
  check_plain(check, in_prompt, "in_prompt", ScalarType::Bool, {token_ids.size(0)});
  check_plain(check, row_offsets, "row_offsets", ScalarType::Long, {rows + 1});
  check_plain(check, repetition, "repetition", ScalarType::Float, {rows});
  check_plain(check, frequency, "frequency", ScalarType::Float, {rows});
  check_plain(check, presence, "presence", ScalarType::Float, {rows});
  check_ids(check, token_ids, 0, logits.size(1), "token_ids");
  check_offsets(check, row_offsets, token_ids.size(0));
  const ops::Penalties args{data_of<int64_t>(token_ids), data_of<int32_t>(output_counts),
                            data_of<bool>(in_prompt),    data_of<int64_t>(row_offsets),
                            data_of<float>(repetition),  data_of<float>(frequency),
                            data_of<float>(presence)};
  ops::apply_penalties(args, rows_of(logits), rows);
}

void token_logprobs_and_ranks(const Tensor& logprobs, const Tensor& ranks, const Tensor& logits,
                              const Tensor& token_ids) {
  const Check check("token_logprobs_and_ranks");
  refuse_recording(check);
  check_logits(check, logits);
  const int64_t rows = logits.size(0);
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {rows, -1});
  check_plain(check, logprobs, "logprobs", ScalarType::Float, {rows, token_ids.size(1)});
  check_plain(check, ranks, "ranks", ScalarType::Long, {rows, token_ids.size(1)});
  check_ids(check, token_ids, -1, logits.size(1), "token_ids");
  ops::token_logprobs(static_cast<float*>(logprobs.mutable_data_ptr()),
                      static_cast<int64_t*>(ranks.mutable_data_ptr()), const_rows_of(logits),
                      data_of<int64_t>(token_ids), rows, token_ids.size(1), logits.size(1));
}

void topk_logprobs(const Tensor& logprobs, const Tensor& token_ids, const Tensor& logits) {
  const Check check("topk_logprobs");
  refuse_recording(check);
  check_logits(check, logits);
  const int64_t rows = logits.size(0);
  check_plain(check, logprobs, "logprobs", ScalarType::Float, {rows, -1});
  const int64_t k = logprobs.size(1);
  check.require(k <= logits.size(1), "logprobs has shape ", Check::sizes_text(logprobs),
                ", more columns than the ", logits.size(1), " logits of a row");
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {rows, k});
  ops::topk_logprobs(static_cast<float*>(logprobs.mutable_data_ptr()),
                     static_cast<int64_t*>(token_ids.mutable_data_ptr()), const_rows_of(logits),
                     rows, k, logits.size(1));
}

void sample_top_k_top_p(const Tensor& out, const Tensor& logits, const Tensor& temperature,
                        const Tensor& top_k, const Tensor& top_p, const Tensor& min_p,
                        const Tensor& uniform) {
  const Check check("sample_top_k_top_p");
  refuse_recording(check);
  check_logits(check, logits);
  const int64_t rows = logits.size(0);
  check_plain(check, out, "out", ScalarType::Long, {rows});
  check_plain(check, temperature, "temperature", ScalarType::Float, {rows});
  check_plain(check, top_k, "top_k", ScalarType::Int, {rows});
  check_plain(check, top_p, "top_p", ScalarType::Float, {rows});
  check_plain(check, min_p, "min_p", ScalarType::Float, {rows});
  check_plain(check, uniform, "uniform", ScalarType::Double, {rows});
  const ops::Sampling args{data_of<float>(temperature), data_of<int32_t>(top_k),
                           data_of<float>(top_p), data_of<float>(min_p), data_of<double>(uniform)};
  ops::sample(static_cast<int64_t*>(out.mutable_data_ptr()), args, const_rows_of(logits), rows,
              logits.size(1));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("argmax", TORCH_BOX(&argmax));
  m.impl("choose_greedy", TORCH_BOX(&choose_greedy));
  m.impl("apply_logit_bias", TORCH_BOX(&apply_logit_bias));
  m.impl("apply_penalties", TORCH_BOX(&apply_penalties));
  m.impl("token_logprobs_and_ranks", TORCH_BOX(&token_logprobs_and_ranks));
  m.impl("topk_logprobs", TORCH_BOX(&topk_logprobs));
  m.impl("sample_top_k_top_p", TORCH_BOX(&sample_top_k_top_p));
}

}  // namespace
}  // namespace vllm_kernels
