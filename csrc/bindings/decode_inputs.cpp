// SPDX-License-Identifier: Apache-2.0

// CPU bindings of the ops before and behind the model in a decode step.

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

template <class T>
T* written(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

void fill_decode_inputs(const Tensor& token_ids, const Tensor& positions, const Tensor& slots,
                        const Tensor& seq_lens, const Tensor& starts, const Tensor& block_tables,
                        const Tensor& num_computed, const Tensor& rows, const Tensor& row_tokens,
                        const Tensor& row_blocks, int64_t block_size) {
  const Check check("fill_decode_inputs");
  check_plain(check, rows, "rows", ScalarType::Long, {-1});
  const int64_t requests = rows.size(0);
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {requests});
  check_plain(check, positions, "positions", ScalarType::Long, {requests});
  check_plain(check, slots, "slots", ScalarType::Long, {requests});
  check_plain(check, seq_lens, "seq_lens", ScalarType::Int, {requests});
  check_plain(check, starts, "starts", ScalarType::Int, {requests + 1});
  check_plain(check, num_computed, "num_computed", ScalarType::Long, {requests});
  check_plain(check, row_tokens, "row_tokens", ScalarType::Int, {-1, -1});
  check_plain(check, row_blocks, "row_blocks", ScalarType::Int, {row_tokens.size(0), -1});
  check_plain(check, block_tables, "block_tables", ScalarType::Int, {requests, row_blocks.size(1)});
  check.require(block_size > 0, "block_size is ", block_size, ", expected at least 1");
  const ops::DecodeInputs args{written<int64_t>(token_ids),
                               written<int64_t>(positions),
                               written<int64_t>(slots),
                               written<int32_t>(seq_lens),
                               written<int32_t>(starts),
                               written<int32_t>(block_tables),
                               written<int64_t>(num_computed),
                               data_of<int64_t>(rows),
                               data_of<int32_t>(row_tokens),
                               data_of<int32_t>(row_blocks),
                               requests,
                               row_tokens.size(0),
                               row_tokens.size(1),
                               row_blocks.size(1),
                               block_size};
  perform([args] { ops::fill_decode_inputs(args); });
}

void append_tokens(const Tensor& row_tokens, const Tensor& rows, const Tensor& positions,
                   const Tensor& token_ids) {
  const Check check("append_tokens");
  check_plain(check, row_tokens, "row_tokens", ScalarType::Int, {-1, -1});
  check_plain(check, rows, "rows", ScalarType::Long, {-1});
  check_plain(check, positions, "positions", ScalarType::Int, {rows.size(0)});
  check_plain(check, token_ids, "token_ids", ScalarType::Long, {rows.size(0)});
  const ops::AppendTokens args{written<int32_t>(row_tokens), data_of<int64_t>(rows),
                               data_of<int32_t>(positions),  data_of<int64_t>(token_ids),
                               rows.size(0),                 row_tokens.size(0),
                               row_tokens.size(1)};
  perform([args] { ops::append_tokens(args); });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("fill_decode_inputs", TORCH_BOX(&fill_decode_inputs));
  m.impl("append_tokens", TORCH_BOX(&append_tokens));
}

}  // namespace
}  // namespace vllm_kernels
