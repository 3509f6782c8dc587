// SPDX-License-Identifier: Apache-2.0

// CPU binding of the dense linear layer.

#include <optional>

#include "bindings/cpu_args.h"

namespace vllm_kernels {
namespace {

void check_dense(const Check& check, const Tensor& t, const char* name) {
  check.cpu(t, name);
  check.dtype(t, name, {ScalarType::Float, ScalarType::BFloat16, ScalarType::Half});
  check.contiguous(t, name);
}

void linear_pack(const Tensor& packed, const Tensor& weight, int64_t row) {
  const Check check("linear_pack");
  refuse_recording(check);
  check_dense(check, weight, "weight");
  check.shape(weight, "weight", {-1, -1});
  check_dense(check, packed, "packed");
  check.dtype(packed, "packed", {weight.scalar_type()});
  const int64_t n = weight.size(0), k = weight.size(1);
  const DType dtype = dense_type(weight);
  check.shape(packed, "packed", {-1, dense_units(dtype, k), kDenseRows, unit_columns(dtype)});
  const int64_t rows = packed.size(0) * kDenseRows;
  check.require(row >= 0 && row <= rows - n, "row is ", row, ", and ", n, " rows from there on are ",
                "not within the ", rows, " of packed");
  ops::linear_pack(static_cast<uint8_t*>(packed.mutable_data_ptr()), data_of<uint8_t>(weight), dtype,
                   row, n, k);
}

void linear(const Tensor& out, const Tensor& x, const Tensor& weight,
            const std::optional<Tensor>& bias) {
  const Check check("linear");
  check_f32_rows(check, x, "x");
  check_f32_rows(check, out, "out");
  const int64_t n = out.size(1), k = x.size(1);
  check.shape(out, "out", {x.size(0), n});
  check.distinct(out, "out", x, "x");
  check.in_range(k, "k", 1, int64_t{1} << 31);
  check_dense(check, weight, "weight");
  const DType dtype = dense_type(weight);
  check.shape(weight, "weight",
              {dense_tiles(n), dense_units(dtype, k), kDenseRows, unit_columns(dtype)});
  if (bias) check_plain(check, *bias, "bias", ScalarType::Float, {n});
  const LinearArgs args{rows_of(out), const_rows_of(x), data_of<uint8_t>(weight), dtype,
                        bias ? data_of<float>(*bias) : nullptr, x.size(0), n, k, nullptr};
  perform([args] { ops::linear(args); });
}

void fp8_linear(const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                const std::optional<Tensor>&) {
  Check("fp8_linear").require(false, "not implemented on the CPU; widen the weights and use linear");
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CPU, m) {
  m.impl("linear_pack", TORCH_BOX(&linear_pack));
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("fp8_linear", TORCH_BOX(&fp8_linear));
}

}  // namespace
}  // namespace vllm_kernels
