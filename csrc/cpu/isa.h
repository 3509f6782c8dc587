// SPDX-License-Identifier: Apache-2.0

// Which kernel table runs. Owns the choice; knows no kernel.

#pragma once

#include "cpu_kernels.h"

namespace vllm_kernels {

// The table chosen at load: the best that CPU and operating system support, or the one that
// VLLM_CPU_ISA names. Throws std::runtime_error if that variable can't be followed.
const KernelTable& kernels();

}  // namespace vllm_kernels
