// SPDX-License-Identifier: Apache-2.0
//
// Owns: the products that layers made of several kernels ask for. Must not know: their kernels.
#pragma once

#include "linear_many.cuh"

namespace vllm_kernels::cuda {

// `piece`: rows of a tile at most, as piece_for chose. Weights as vllm_cuda_quant_linear and
// vllm_cuda_linear take them.
cudaError_t launch_packed(const LinearArguments& a, int qtype, int piece, int dtype,
                          cudaStream_t stream);
// The same of one packed layout; each has a file of its own, since compiling them takes long.
template <int Q>
cudaError_t launch_format(const LinearArguments& a, int piece, int dtype, cudaStream_t stream);

cudaError_t launch_dense(LinearArguments a, int piece, int dtype, cudaStream_t stream);

}  // namespace vllm_kernels::cuda
