// SPDX-License-Identifier: Apache-2.0
//
// Owns: the launch of a product with weights of one packed layout. Must not know: which one.
#pragma once

#include "linear_many.cuh"
#include "linear_launch.h"
#include "packed_weights.cuh"

namespace vllm_kernels::cuda {

template <int Q>
cudaError_t launch_format(const LinearArguments& a, int piece, int dtype, cudaStream_t stream) {
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch_linear_for_rows<PackedWeights<Q>, T>(a, piece, stream);
  });
}

}  // namespace vllm_kernels::cuda
