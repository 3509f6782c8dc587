// SPDX-License-Identifier: Apache-2.0
//
// Owns: the launch of the linear layer with FP8 weights. Must not know: what the layer is for, torch.
#include "fp8_weights.cuh"
#include "linear_many.cuh"

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_fp8_linear(void* out, std::int64_t out_stride, const void* x,
                                            std::int64_t x_stride, const void* weight,
                                            const float* scales, int scale_count,
                                            const float* bias, int rows, int n, int k, int dtype,
                                            cudaStream_t stream) {
  if (rows == 0 || n == 0) return cudaSuccess;
  const bool aligned = takes_fours(rows_of<const std::uint8_t>(weight, k));
  const LinearArguments a{
      out,    out_stride, x, x_stride, weight, bias, {n, k, false, aligned, 0, scales,
      scale_count == 1 ? 0 : 1}, {rows, nullptr, nullptr}, 0};
  return with_type(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    return launch_linear_for_rows<Fp8Weights, T>(a, piece_for(rows, dtype), stream);
  });
}
