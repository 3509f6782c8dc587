// SPDX-License-Identifier: Apache-2.0

// Ops that have no CUDA implementation, refused by name with what to do instead.

#include "bindings/check.h"

namespace vllm_kernels {
namespace {

constexpr const char* kQuantized =
    "not implemented on CUDA; dequantize the weights on the CPU, copy them to the device and "
    "multiply there with torch.nn.functional.linear";

constexpr const char* kCpuOnly = "not implemented on CUDA; use --device cpu for this model";

void linear(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&) {
  Check("linear").require(false, "not implemented on CUDA; use torch.nn.functional.linear");
}

Tensor quant_repack(const Tensor& raw, int64_t, int64_t, int64_t) {
  Check("quant_repack").require(false, kQuantized);
  return raw;
}

void quant_linear(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, int64_t,
                  const std::optional<Tensor>&, int64_t) {
  Check("quant_linear").require(false, kQuantized);
}

void dequantize(const Tensor&, const Tensor&, int64_t) {
  Check("dequantize").require(false, kQuantized);
}

void embedding_dequantize(const Tensor&, const Tensor&, const Tensor&, int64_t) {
  Check("embedding_dequantize")
      .require(false, "not implemented on CUDA; dequantize the table on the CPU, copy it to the "
                      "device and look up with torch.nn.functional.embedding");
}

void gelu_tanh_and_mul(const Tensor&, const Tensor&) {
  Check("gelu_tanh_and_mul").require(false, kCpuOnly);
}

void soft_cap(const Tensor&, double) { Check("soft_cap").require(false, kCpuOnly); }

void scale(const Tensor&, double) { Check("scale").require(false, kCpuOnly); }

void choose_greedy(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  Check("choose_greedy").require(false, "not implemented on CUDA; use argmax");
}

void copy_heads(const Tensor&, const Tensor&) { Check("copy_heads").require(false, kCpuOnly); }

void route_experts(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, bool,
                   int64_t, int64_t, int64_t, bool, double) {
  Check("route_experts").require(false, kCpuOnly);
}

void fused_experts(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                   int64_t, const Tensor&, int64_t, int64_t, const std::optional<Tensor>&) {
  Check("fused_experts").require(false, kCpuOnly);
}

STABLE_TORCH_LIBRARY_IMPL(vllm_kernels, CUDA, m) {
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("quant_repack", TORCH_BOX(&quant_repack));
  m.impl("quant_linear", TORCH_BOX(&quant_linear));
  m.impl("dequantize", TORCH_BOX(&dequantize));
  m.impl("embedding_dequantize", TORCH_BOX(&embedding_dequantize));
  m.impl("gelu_tanh_and_mul", TORCH_BOX(&gelu_tanh_and_mul));
  m.impl("soft_cap", TORCH_BOX(&soft_cap));
  m.impl("scale", TORCH_BOX(&scale));
  m.impl("choose_greedy", TORCH_BOX(&choose_greedy));
  m.impl("copy_heads", TORCH_BOX(&copy_heads));
  m.impl("route_experts", TORCH_BOX(&route_experts));
  m.impl("fused_experts", TORCH_BOX(&fused_experts));
}

}  // namespace
}  // namespace vllm_kernels
