// SPDX-License-Identifier: Apache-2.0
//
// Owns: the kernels of the quantized linear layer for weights of 5 bits.
#include "packed_linear.cuh"

namespace vllm_kernels::cuda {

template cudaError_t launch_format<kQ5_1>(const LinearArguments&, int, int, cudaStream_t);
template cudaError_t launch_format<kQ5_K>(const LinearArguments&, int, int, cudaStream_t);

}  // namespace vllm_kernels::cuda
