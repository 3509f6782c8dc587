// SPDX-License-Identifier: Apache-2.0

// CUDA bindings of the ops on logits.

#include "bindings/cuda_args.h"

namespace vllm_kernels {
namespace {

void check_logits(const Check& check, const Tensor& logits) {
  check_rows(check, logits, "logits", {ScalarType::Float});
  check.require(logits.size(0) == 0 || logits.size(1) > 0, "logits has shape ",
                Check::sizes_text(logits), ", expected at least one token per row");
}

int vocab_of(const Tensor& logits) { return static_cast<int>(logits.size(1)); }

void argmax(const Tensor& out, const Tensor& logits) {
  const Check check("argmax");
  check_logits(check, logits);
  check_plain(check, out, "out", ScalarType::Long, {logits.size(0)});
  const Launch launch(check, {{"logits", logits}, {"out", out}});
  launch.finish(vllm_cuda_argmax(data_of<int64_t>(out), data_of<const float>(logits),
                                 logits.stride(0), logits.size(0), vocab_of(logits),
                                 launch.stream()));
}

void choose_greedy(const Tensor& out, const Tensor& suspect, const Tensor& hidden,
                   const Tensor& logits) {
  const Check check("choose_greedy");
  check_logits(check, logits);
  check_activation(check, hidden, "hidden");
  check.shape(hidden, "hidden", {logits.size(0), -1});
  check_plain(check, out, "out", ScalarType::Long, {logits.size(0)});
  check_plain(check, suspect, "suspect", ScalarType::Long, {1});
  const Launch launch(
      check, {{"logits", logits}, {"out", out}, {"suspect", suspect}, {"hidden", hidden}});
  launch.finish(vllm_cuda_choose_greedy(
      data_of<int64_t>(out), data_of<int64_t>(suspect), hidden.const_data_ptr(), hidden.stride(0),
      static_cast<int>(hidden.size(1)), dtype_number(hidden), data_of<const float>(logits),
      logits.stride(0), logits.size(0), vocab_of(logits), launch.stream()));
}

void apply_logit_bias(const Tensor& logits, const Tensor& rows, const Tensor& token_ids,
                      const Tensor& bias) {
  const Check check("apply_logit_bias");
  check_logits(check, logits);
  check_plain(check, rows, "rows", ScalarType::Long, {-1});
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {rows.size(0)});
  check_plain(check, bias, "bias", ScalarType::Float, {rows.size(0)});
  const Launch launch(
      check, {{"logits", logits}, {"rows", rows}, {"token_ids", token_ids}, {"bias", bias}});
  launch.finish(vllm_cuda_apply_logit_bias(
      data_of<float>(logits), logits.stride(0), data_of<const int64_t>(rows),
      data_of<const int64_t>(token_ids), data_of<const float>(bias), rows.size(0), logits.size(0),
      logits.size(1), launch.stream()));
}

void apply_penalties(const Tensor& logits, const Tensor& token_ids, const Tensor& output_counts,
                     const Tensor& in_prompt, const Tensor& row_offsets, const Tensor& repetition,
                     const Tensor& frequency, const Tensor& presence) {
  const Check check("apply_penalties");
  check_logits(check, logits);
  const int64_t rows = logits.size(0);
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {-1});
  check_plain(check, output_counts, "output_counts", ScalarType::Int, {token_ids.size(0)});
  check_plain(check, in_prompt, "in_prompt", ScalarType::Bool, {token_ids.size(0)});
  check_plain(check, row_offsets, "row_offsets", ScalarType::Long, {rows + 1});
  check_plain(check, repetition, "repetition", ScalarType::Float, {rows});
  check_plain(check, frequency, "frequency", ScalarType::Float, {rows});
  check_plain(check, presence, "presence", ScalarType::Float, {rows});
  const Launch launch(check, {{"logits", logits},
                              {"token_ids", token_ids},
                              {"output_counts", output_counts},
                              {"in_prompt", in_prompt},
                              {"row_offsets", row_offsets},
                              {"repetition", repetition},
                              {"frequency", frequency},
                              {"presence", presence}});
  launch.finish(vllm_cuda_apply_penalties(
      data_of<float>(logits), logits.stride(0), data_of<const int64_t>(token_ids),
      data_of<const int32_t>(output_counts), data_of<const bool>(in_prompt),
      data_of<const int64_t>(row_offsets), data_of<const float>(repetition),
      data_of<const float>(frequency), data_of<const float>(presence), rows, logits.size(1),
      launch.stream()));
}

void token_logprobs_and_ranks(const Tensor& logprobs, const Tensor& ranks, const Tensor& logits,
                              const Tensor& token_ids) {
  const Check check("token_logprobs_and_ranks");
  check_logits(check, logits);
  const int64_t rows = logits.size(0);
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {rows, -1});
  check_plain(check, logprobs, "logprobs", ScalarType::Float, {rows, token_ids.size(1)});
  check_plain(check, ranks, "ranks", ScalarType::Long, {rows, token_ids.size(1)});
  const Launch launch(check, {{"logits", logits},
                              {"token_ids", token_ids},
                              {"logprobs", logprobs},
                              {"ranks", ranks}});
  launch.finish(vllm_cuda_token_logprobs(
      data_of<float>(logprobs), data_of<int64_t>(ranks), data_of<const float>(logits),
      logits.stride(0), data_of<const int64_t>(token_ids), rows, token_ids.size(1),
      vocab_of(logits), launch.stream()));
}

void topk_logprobs(const Tensor& logprobs, const Tensor& token_ids, const Tensor& logits) {
  const Check check("topk_logprobs");
  check_logits(check, logits);
  const int64_t rows = logits.size(0);
  check_plain(check, logprobs, "logprobs", ScalarType::Float, {rows, -1});
  const int64_t k = logprobs.size(1);
  check.require(k <= logits.size(1), "logprobs has shape ", Check::sizes_text(logprobs),
                ", more columns than the ", logits.size(1), " logits of a row");
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {rows, k});
  const Launch launch(check,
                      {{"logits", logits}, {"logprobs", logprobs}, {"token_ids", token_ids}});
  launch.finish(vllm_cuda_topk_logprobs(data_of<float>(logprobs), data_of<int64_t>(token_ids),
                                        data_of<const float>(logits), logits.stride(0), rows, k,
                                        vocab_of(logits), launch.stream()));
}

void sample_top_k_top_p(const Tensor& out, const Tensor& logits, const Tensor& temperature,
                        const Tensor& top_k, const Tensor& top_p, const Tensor& min_p,
                        const Tensor& uniform) {
  const Check check("sample_top_k_top_p");
  check_logits(check, logits);
  check.require(logits.size(1) <= cuda::kMaxVocab, "logits has shape ", Check::sizes_text(logits),
                ", the CUDA kernel takes rows of at most ", cuda::kMaxVocab, " tokens");
  const int64_t rows = logits.size(0);
  check_plain(check, out, "out", ScalarType::Long, {rows});
  check_plain(check, temperature, "temperature", ScalarType::Float, {rows});
  check_plain(check, top_k, "top_k", ScalarType::Int, {rows});
  check_plain(check, top_p, "top_p", ScalarType::Float, {rows});
  check_plain(check, min_p, "min_p", ScalarType::Float, {rows});
  check_plain(check, uniform, "uniform", ScalarType::Double, {rows});
  const Launch launch(check, {{"logits", logits},
                              {"out", out},
                              {"temperature", temperature},
                              {"top_k", top_k},
                              {"top_p", top_p},
                              {"min_p", min_p},
                              {"uniform", uniform}});
  launch.finish(vllm_cuda_sample(data_of<int64_t>(out), data_of<const float>(logits),
                                 logits.stride(0), data_of<const float>(temperature),
                                 data_of<const int32_t>(top_k), data_of<const float>(top_p),
                                 data_of<const float>(min_p), data_of<const double>(uniform), rows,
                                 vocab_of(logits), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
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
