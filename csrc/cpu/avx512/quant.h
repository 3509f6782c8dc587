// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AVX-512 VNNI.

#pragma once

#include "cpu_kernels.h"

namespace vllm_kernels::avx512 {

void quantize_row(const Digits& out, DigitForm form, const float* x, int64_t k);
void quant_linear(const QuantLinearArgs& args, int64_t g0, int64_t g1, int64_t m0, int64_t m1);

}  // namespace vllm_kernels::avx512
