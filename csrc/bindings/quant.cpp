// SPDX-License-Identifier: Apache-2.0

// CPU bindings of the quantized linear layer and of widening GGUF tensors.

#include <torch/csrc/stable/ops.h>

#include <array>
#include <optional>

#include "bindings/cpu_args.h"
#include "bindings/quant_checks.h"

namespace vllm_kernels {
namespace {

void check_bytes(const Check& check, const Tensor& t, const char* name, int64_t expected) {
  check.cpu(t, name);
  check_byte_count(check, t, name, expected);
}

Tensor quant_repack(const Tensor& raw, int64_t qtype, int64_t n, int64_t k) {
  const Check check("quant_repack");
  refuse_recording(check);
  check_matrix(check, qtype, n, k);
  check_bytes(check, raw, "raw", raw_bytes(qtype, n * k));
  const std::array<int64_t, 1> size{packed_bytes(qtype, n, k)};
  Tensor packed = torch::stable::new_empty(raw, {size.data(), size.size()});
  ops::quant_repack(static_cast<uint8_t*>(packed.mutable_data_ptr()), data_of<uint8_t>(raw), qtype,
                    n, k);
  return packed;
}

void quant_linear(const Tensor& out, const Tensor& x, const Tensor& packed, int64_t qtype,
                  int64_t n, int64_t k, const std::optional<Tensor>& bias, int64_t coarse) {
  const Check check("quant_linear");
  check_matrix(check, qtype, n, k);
  check_bytes(check, packed, "packed", packed_bytes(qtype, n, k));
  check_f32_rows(check, x, "x");
  check.shape(x, "x", {-1, k});
  check_f32_rows(check, out, "out");
  check.shape(out, "out", {x.size(0), n});
  check.distinct(out, "out", x, "x");
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {n});
  check_coarse(check, coarse, n);
  const QuantLinearArgs args{rows_of(out), const_rows_of(x), data_of<uint8_t>(packed),
                             bias ? data_of<float>(*bias) : nullptr, qtype, x.size(0), n, k,
                             coarse, {}, {}};
  perform([args] { ops::quant_linear(args); });
}

void dequantize(const Tensor& out, const Tensor& raw, int64_t qtype) {
  const Check check("dequantize");
  refuse_recording(check);
  check_qtype(check, qtype);
  check.cpu(out, "out");
  check.dtype(out, "out", {ScalarType::Float});
  check.contiguous(out, "out");
  check_whole_blocks(check, qtype, out.numel());
  check_bytes(check, raw, "raw", raw_bytes(qtype, out.numel()));
  ops::dequantize(static_cast<float*>(out.mutable_data_ptr()), data_of<uint8_t>(raw), qtype,
                  out.numel() / kBlock);
}

void check_ids(const Check& check, const int64_t* id, int64_t count, int64_t vocab) {
  for (int64_t i = 0; i < count; ++i)
    check.require(id[i] >= 0 && id[i] < vocab, "ids[", i, "] is ", id[i], ", expected 0 to ",
                  vocab - 1, " (rows of the table)");
}

void embedding_of_blocks(const Check& check, const Tensor& out, const Tensor& ids,
                         const Tensor& raw, int64_t qtype) {
  const int64_t hidden = out.size(1);
  check_whole_rows(check, qtype, out);
  check_plain(check, raw, "raw", ScalarType::Byte, {-1, raw_bytes(qtype, hidden)});
  perform([=, o = static_cast<float*>(out.mutable_data_ptr()), id = data_of<int64_t>(ids),
           count = ids.size(0), table = data_of<uint8_t>(raw), vocab = raw.size(0)] {
    check_ids(check, id, count, vocab);
    ops::embedding_quantized(o, id, count, table, qtype, hidden);
  });
}

void embedding_dequantize(const Tensor& out, const Tensor& ids, const Tensor& raw, int64_t qtype) {
  const Check check("embedding_dequantize");
  check_plain(check, ids, "ids", ScalarType::Long, {-1});
  check_plain(check, out, "out", ScalarType::Float, {ids.size(0), -1});
  if (is_quantized(qtype)) return embedding_of_blocks(check, out, ids, raw, qtype);
  check_plain(check, raw, "raw", dense_scalar_type(check, qtype), {-1, out.size(1)});
  perform([=, o = static_cast<float*>(out.mutable_data_ptr()), id = data_of<int64_t>(ids),
           count = ids.size(0), table = raw.const_data_ptr(), vocab = raw.size(0),
           dtype = dense_type(raw), hidden = out.size(1)] {
    check_ids(check, id, count, vocab);
    ops::embedding_dense(o, id, count, table, dtype, hidden);
  });
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("quant_repack", TORCH_BOX(&quant_repack));
  m.impl("quant_linear", TORCH_BOX(&quant_linear));
  m.impl("dequantize", TORCH_BOX(&dequantize));
  m.impl("embedding_dequantize", TORCH_BOX(&embedding_dequantize));
}

}  // namespace
}  // namespace vllm_kernels
