// SPDX-License-Identifier: Apache-2.0

// The scalar kernel table.

#include "cpu/scalar/kernels.h"

namespace vllm_kernels::scalar {

const KernelTable& kernel_table() {
  static const KernelTable table = {
      .isa = "scalar",
      .rms_norm = rms_norm,
      .fused_add_rms_norm = fused_add_rms_norm,
      .rotary = rotary,
      .silu_and_mul = silu_and_mul,
      .gelu_tanh_and_mul = gelu_tanh_and_mul,
      .soft_cap = soft_cap,
      .store_row = store_row,
      .load_row = load_row,
      .attention_rows = 1,
      .attention_takes = [](int64_t) { return true; },
      .attention_needs_scratch = true,
      .attention = attention,
      .strip_rows = 0,
      .strip_words = nullptr,
      .make_strip = nullptr,
      .linear = linear,
      .quantize_row = nullptr,
      .quant_linear = quant_linear,
      .argmax = argmax,
      .total = total,
      .exp_row = exp_row,
      .exp_sum = exp_sum,
      .next_above = next_above,
      .count_above = count_above,
  };
  return table;
}

}  // namespace vllm_kernels::scalar
