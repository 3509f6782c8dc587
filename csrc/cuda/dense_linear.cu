// SPDX-License-Identifier: Apache-2.0
//
// Owns: the launch of the dense linear layer. Must not know: what the layer is for, torch.
#include "dense_weights.cuh"
#include "linear_many.cuh"
#include "linear_launch.h"

namespace vllm_kernels::cuda {

cudaError_t launch_dense(LinearArguments a, int piece, int dtype, cudaStream_t stream) {
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    a.shape.weight_aligned = takes_fours(rows_of<const T>(a.weights, a.shape.k));
    return launch_linear_for_rows<DenseWeights<T>, T>(a, piece, stream);
  });
}

}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_linear(void* out, std::int64_t out_stride, const void* x,
                                        std::int64_t x_stride, const void* weight,
                                        const float* bias, int rows, int n, int k, int dtype,
                                        cudaStream_t stream) {
  if (rows == 0 || n == 0) return cudaSuccess;
  const LinearArguments a{out,  out_stride,           x, x_stride, weight,
                          bias, {n, k, false, false, 0, nullptr, 0}, {rows, nullptr, nullptr}, 0};
  return launch_dense(a, piece_for(rows, dtype), dtype, stream);
}
