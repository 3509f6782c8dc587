// SPDX-License-Identifier: Apache-2.0

// CUDA bindings of the quantized linear layer and of widening GGUF tensors.

#include <optional>

#include "bindings/cuda_args.h"
#include "bindings/quant_checks.h"

namespace vllm_kernels {
namespace {

Tensor quant_repack(const Tensor& raw, int64_t, int64_t, int64_t) {
  Check("quant_repack")
      .require(false,
               "not implemented on CUDA; repack on the CPU and copy the result to the device, both "
               "read the same layout");
  return raw;
}

void quant_linear(const Tensor& out, const Tensor& x, const Tensor& packed, int64_t qtype,
                  int64_t n, int64_t k, const std::optional<Tensor>& bias, int64_t coarse) {
  const Check check("quant_linear");
  check_matrix(check, qtype, n, k);
  check_byte_count(check, packed, "packed", packed_bytes(qtype, n, k));
  check_start16(check, packed, "packed");
  check_activation(check, x, "x");
  check.shape(x, "x", {-1, k});
  check_rows(check, out, "out", {x.scalar_type()});
  check.shape(out, "out", {x.size(0), n});
  check.distinct(out, "out", x, "x");
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {n});
  check_coarse(check, coarse, n);
  const Launch launch(check, {{"x", x}, {"out", out}, {"packed", packed}, {"bias", bias.value_or(x)}});
  launch.finish(vllm_cuda_quant_linear(
      out.mutable_data_ptr(), out.stride(0), x.const_data_ptr(), x.stride(0),
      packed.const_data_ptr(), static_cast<int>(qtype), bias ? data_of<const float>(*bias) : nullptr,
      as_int(check, x.size(0), "the number of rows"), as_int(check, n, "n"), as_int(check, k, "k"),
      dtype_number(x), launch.stream()));
}

void quant_unpack(const Tensor& out, const Tensor& packed, int64_t qtype) {
  const Check check("quant_unpack");
  check.dtype(out, "out", {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16});
  check.shape(out, "out", {-1, -1});
  check.contiguous(out, "out");
  check_start16(check, out, "out");
  const int64_t n = out.size(0), k = out.size(1);
  check_matrix(check, qtype, n, k);
  check_byte_count(check, packed, "packed", packed_bytes(qtype, n, k));
  check_start16(check, packed, "packed");
  const Launch launch(check, {{"out", out}, {"packed", packed}});
  launch.finish(vllm_cuda_quant_unpack(out.mutable_data_ptr(), packed.const_data_ptr(),
                                       static_cast<int>(qtype), as_int(check, n, "n"),
                                       as_int(check, k, "k"), dtype_number(out), launch.stream()));
}

void dequantize(const Tensor& out, const Tensor& raw, int64_t qtype) {
  const Check check("dequantize");
  check_qtype(check, qtype);
  check.dtype(out, "out", {ScalarType::Float, ScalarType::Half, ScalarType::BFloat16});
  check.contiguous(out, "out");
  check_whole_blocks(check, qtype, out.numel());
  check_byte_count(check, raw, "raw", raw_bytes(qtype, out.numel()));
  const Launch launch(check, {{"out", out}, {"raw", raw}});
  launch.finish(vllm_cuda_dequantize(out.mutable_data_ptr(), raw.const_data_ptr(),
                                     static_cast<int>(qtype), out.numel(), dtype_number(out),
                                     launch.stream()));
}

void embedding_dequantize(const Tensor& out, const Tensor& ids, const Tensor& raw, int64_t qtype) {
  const Check check("embedding_dequantize");
  check_plain(check, ids, "ids", ScalarType::Long, {-1});
  check_activation(check, out, "out");
  check.shape(out, "out", {ids.size(0), -1});
  const int64_t hidden = out.size(1);
  const bool quantized = is_quantized(qtype);
  if (quantized) {
    check_whole_rows(check, qtype, out);
    check_plain(check, raw, "raw", ScalarType::Byte, {-1, raw_bytes(qtype, hidden)});
  } else {
    check_plain(check, raw, "raw", dense_scalar_type(check, qtype), {-1, hidden});
  }
  const Launch launch(check, {{"out", out}, {"ids", ids}, {"raw", raw}});
  const auto lookup = quantized ? vllm_cuda_embedding_dequantize : vllm_cuda_embedding;
  launch.finish(lookup(out.mutable_data_ptr(), out.stride(0), data_of<const int64_t>(ids),
                       ids.size(0), raw.const_data_ptr(),
                       quantized ? static_cast<int>(qtype) : dtype_number(raw), raw.size(0),
                       static_cast<int>(hidden), dtype_number(out), launch.stream()));
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("quant_repack", TORCH_BOX(&quant_repack));
  m.impl("quant_linear", TORCH_BOX(&quant_linear));
  m.impl("quant_unpack", TORCH_BOX(&quant_unpack));
  m.impl("dequantize", TORCH_BOX(&dequantize));
  m.impl("embedding_dequantize", TORCH_BOX(&embedding_dequantize));
}

}  // namespace
}  // namespace vllm_kernels
