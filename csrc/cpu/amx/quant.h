// SPDX-License-Identifier: Apache-2.0

// Quantized linear layer with AMX.

#pragma once

#include "cpu_kernels.h"

namespace vllm_kernels::amx {

void quant_linear(const QuantLinearArgs& args, int64_t g0, int64_t g1, int64_t m0, int64_t m1);

}  // namespace vllm_kernels::amx
