// SPDX-License-Identifier: Apache-2.0
//
// Owns: the launch of the quantized linear layer, and its kernels for weights of 8 bits. Must not know:
// what the layer is for, torch.
#include "packed_linear.cuh"

namespace vllm_kernels::cuda {

template cudaError_t launch_format<kQ8_0>(const LinearArguments&, int, int, cudaStream_t);

// Not compiled here once more: quant_linear_4.cu and so on have them.
extern template cudaError_t launch_format<kQ4_1>(const LinearArguments&, int, int, cudaStream_t);
extern template cudaError_t launch_format<kQ5_1>(const LinearArguments&, int, int, cudaStream_t);
extern template cudaError_t launch_format<kQ4_K>(const LinearArguments&, int, int, cudaStream_t);
extern template cudaError_t launch_format<kQ5_K>(const LinearArguments&, int, int, cudaStream_t);
extern template cudaError_t launch_format<kQ6_K>(const LinearArguments&, int, int, cudaStream_t);

// Q4_0 is packed as Q4_1 and Q5_0 as Q5_1.
cudaError_t launch_packed(const LinearArguments& a, int qtype, int piece, int dtype,
                          cudaStream_t stream) {
  switch (qtype) {
    case kQ4_0:
    case kQ4_1: return launch_format<kQ4_1>(a, piece, dtype, stream);
    case kQ5_0:
    case kQ5_1: return launch_format<kQ5_1>(a, piece, dtype, stream);
    case kQ8_0: return launch_format<kQ8_0>(a, piece, dtype, stream);
    case kQ4_K: return launch_format<kQ4_K>(a, piece, dtype, stream);
    case kQ5_K: return launch_format<kQ5_K>(a, piece, dtype, stream);
    case kQ6_K: return launch_format<kQ6_K>(a, piece, dtype, stream);
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace vllm_kernels::cuda

using namespace vllm_kernels::cuda;

extern "C" cudaError_t vllm_cuda_quant_linear(void* out, std::int64_t out_stride, const void* x,
                                              std::int64_t x_stride, const void* packed, int qtype,
                                              const float* bias, int rows, int n, int k, int dtype,
                                              cudaStream_t stream) {
  if (rows == 0 || n == 0) return cudaSuccess;
  const LinearArguments a{out,  out_stride,          x, x_stride, packed,
                          bias, {n, k, false, true, 0, nullptr, 0}, {rows, nullptr, nullptr}, 0};
  return launch_packed(a, qtype, piece_for(rows, dtype), dtype, stream);
}
